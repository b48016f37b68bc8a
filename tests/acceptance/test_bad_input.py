"""Bad input: refused by the field's name before anything is queued, or ended in plain words, exactly once."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.made import (
    ENLARGE,
    NOBODY_THERE,
    bomb,
    fields,
    form,
    leaving_nothing,
    noise,
    picture,
    upload,
)
from tests.harness import Stand, stand

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
MEGAPIXELS_35 = (7000, 5000)


async def submitted(it: Stand, job: Any, **files: bytes) -> tuple[int, Any]:
    return await it.client.call("POST", "/v1/jobs", data=form(job, **files))


def reasons(problem: Any, field: str) -> str:
    return " ".join(error["reason"] for error in problem["errors"] if error["field"] == field)


# --- pictures --------------------------------------------------------------------------------------------------------


async def test_what_is_no_whole_picture_is_refused_before_anything_is_queued(tmp_path: Path, photos: Path) -> None:
    cat = (photos / "cat.jpg").read_bytes()
    async with stand(tmp_path) as it, leaving_nothing(it):
        for data, word in (
            (b"not an image at all", "not an image"),
            (b"", "empty"),
            (b"<!doctype html><title>404</title>", "HTML"),
            (b'{"error": "not found"}', "JSON"),
            (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "SVG"),
            (cat[: len(cat) // 2], "truncated"),
            (picture()[:-12], "truncated"),
            (bomb(), "megapixels"),
        ):
            status, problem = await submitted(it, {"operation": ENLARGE}, image=data)
            assert (status, fields(problem)) == (422, {"inputs.image"}), word
            assert word in reasons(problem, "inputs.image")


async def test_a_picture_beyond_the_vendors_documented_limits_is_refused_by_name_before_it_is_paid(
    tmp_path: Path,
) -> None:
    """VanceAI: at most 34 megapixels, at most 10 MB, JPG or PNG (seed 002)."""
    async with stand(tmp_path) as it:
        for data, word in (
            (picture(size=MEGAPIXELS_35, mode="1"), "35000000 pixels"),
            (noise((1960, 1960)), "at most 10000000"),
            (picture("GIF", mode="P"), "image/gif; taken are image/jpeg, image/png"),
            (picture("WEBP"), "image/webp"),
        ):
            asset = await upload(it, data)
            async with leaving_nothing(it):
                for field, (status, problem) in {
                    "inputs.image": await submitted(it, {"operation": ENLARGE}, image=data),
                    "inputs.image.asset": await it.client.submit(ENLARGE, inputs={"image": {"asset": asset["id"]}}),
                }.items():
                    assert (status, fields(problem)) == (422, {field}), word
                    assert word in reasons(problem, field)


async def test_several_broken_limits_of_one_picture_are_all_told(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        data = picture("GIF", size=MEGAPIXELS_35, mode="L")
        _, problem = await submitted(it, {"operation": ENLARGE}, image=data)
        told = reasons(problem, "inputs.image")
        assert "image/gif" in told
        assert "35000000 pixels" in told


# --- fields ----------------------------------------------------------------------------------------------------------


async def test_an_input_has_exactly_one_source(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        asset = await upload(it, picture())
        async with leaving_nothing(it):
            for given, field in (
                ({}, "inputs.image"),
                ({"url": NOBODY_THERE, "asset": asset["id"]}, "inputs.image"),
                ({"asset": asset["id"], "job": "job_" + "0" * 26}, "inputs.image"),
                ({"url": None}, "inputs.image"),
                ({"asset": "../../etc/passwd"}, "inputs.image"),
                ({"asset": asset["id"], "pass": True}, "inputs.image"),
                ({"url": "file:///etc/passwd"}, "inputs.image.url"),
                ({"url": "x" * 3000}, "inputs.image.url"),
            ):
                status, problem = await it.client.submit(ENLARGE, inputs={"image": given})
                assert (status, fields(problem)) == (422, {field}), given
            status, problem = await submitted(
                it, {"operation": ENLARGE, "inputs": {"image": {"asset": asset["id"]}}}, image=picture()
            )
            assert (status, fields(problem)) == (422, {"inputs.image"})
            status, problem = await it.client.submit(ENLARGE)
            assert (status, fields(problem)) == (422, {"inputs.image"})
            assert "required" in reasons(problem, "inputs.image")
            status, problem = await it.client.submit(
                ENLARGE, inputs={"image": {"asset": asset["id"]}, "mask": {"asset": asset["id"]}}
            )
            assert (status, fields(problem)) == (422, {"inputs.mask"})


async def test_an_unknown_operation_is_refused_and_so_is_one_without_credentials(tmp_path: Path) -> None:
    async with stand(tmp_path, vanceai_settings={"api_token": None}) as it, leaving_nothing(it):
        for operation in ("vanceai/enlarge9", "nobody/enlarge3", "vanceai", "", "vanceai/../enlarge3", ENLARGE):
            status, problem = await it.client.submit(operation, inputs={"image": {"url": NOBODY_THERE}})
            assert (status, fields(problem)) == (422, {"operation"}), operation
        assert "not configured" in reasons(problem, "operation")


async def test_all_faulty_fields_are_named_at_once(tmp_path: Path) -> None:
    async with stand(tmp_path, allow_networks=[]) as it, leaving_nothing(it):
        params = {"scale": 3, "remove_blur": 101, "supress_noise": 1}
        bad_params = {"params.scale", "params.remove_blur", "params.supress_noise"}
        # Where the form is right, all else is judged.
        status, problem = await submitted(
            it,
            {"operation": ENLARGE, "params": params, "webhook": "http://127.0.0.1/hook"},
            image=b"no picture",
            mask=picture(),
        )
        assert status == 422
        assert fields(problem) == {*bad_params, "webhook", "inputs.image", "inputs.mask"}
        # Where it is wrong, what can be judged is.
        status, problem = await submitted(
            it,
            {"operation": ENLARGE, "params": params, "metadata": {"key": 7}, "channels": [""], "surprise": True},
            image=b"no picture",
        )
        assert status == 422
        assert fields(problem) == {*bad_params, "metadata.key", "channels.0", "surprise", "inputs.image"}
        assert "suppress_noise" in reasons(problem, "params.supress_noise"), "the right name is in the answer"


async def test_params_of_a_wrong_type_or_out_of_range_are_refused(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        for params, field in (
            ({"scale": "2"}, "params.scale"),
            ({"scale": 2.5}, "params.scale"),
            ({"scale": True}, "params.scale"),
            ({"scale": None}, "params.scale"),
            ({"remove_blur": -1}, "params.remove_blur"),
            ({"out_params": {"compress": {"quality": 101}}}, "params.out_params.compress.quality"),
            ({"out_params": {"format": "gif"}}, "params.out_params.format"),
            ({"Scale": 2}, "params.Scale"),
        ):
            status, problem = await it.client.submit(ENLARGE, inputs={"image": {"url": NOBODY_THERE}}, params=params)
            assert (status, fields(problem)) == (422, {field}), params


async def test_a_refusal_does_not_repeat_a_megabyte(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        status, problem = await it.client.submit(
            ENLARGE, inputs={"image": {"url": NOBODY_THERE}}, params={"scale": "x" * 900_000}
        )
        assert status == 422
        assert len(json.dumps(problem)) < 2000


# --- bodies ----------------------------------------------------------------------------------------------------------


def with_extra(value: str) -> bytes:
    """A job that is right but for one value, written by hand."""
    inputs = json.dumps({"image": {"url": NOBODY_THERE}})
    return f'{{"operation": "{ENLARGE}", "inputs": {inputs}, "extra": {{"x": {value}}}}}'.encode()


BAD_JSON = {
    "empty": b"",
    "no JSON": b"operation=vanceai/enlarge3",
    "cut": with_extra("1")[:-1],
    "NaN": with_extra("NaN"),
    "Infinity": with_extra("-Infinity"),
    "beyond a float": with_extra("1e999"),
    "huge integer": with_extra("9" * 5000),
    "half a surrogate pair": with_extra('"\\ud800"'),
    "half a pair as a key": with_extra('{"\\uDFFF": 1}'),
    "not UTF-8": with_extra('"\xff"').decode().encode("latin-1"),
    "UTF-16": with_extra("1").decode().encode("utf-16"),
    **{f"{depth} deep": with_extra("[" * depth + "]" * depth) for depth in (70, 200, 500, 990, 100_000)},
    **{f"{depth} objects deep": with_extra('{"a":' * depth + "1" + "}" * depth) for depth in (70, 990)},
}


async def test_a_body_that_is_no_json_is_refused_and_never_a_fault_of_ours(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        for name, body in BAD_JSON.items():
            for data, headers in ((body, JSON), (form(body), None)):
                status, problem, answered = await it.client.call_full("POST", "/v1/jobs", data=data, headers=headers)
                assert (status, problem["type"]) == (400, "urn:wirephoto:problem:bad_json"), name
                assert answered["Content-Type"] == "application/problem+json"
        for body in (b"[]", b"null", b'"job"', b"7", b"{}"):
            status, problem = await it.client.call("POST", "/v1/jobs", data=body, headers=JSON)
            assert status == 422, body


async def test_any_text_that_json_and_utf8_can_hold_comes_back_as_it_was(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        extra = {"emoji": "📷", "nul": "a\0b", "deep": [[[[1]]]], "big": 2**70, "😀": 1.5, "rtl": "שלום"}
        for ensure_ascii in (True, False):
            body = {"operation": ENLARGE, "inputs": {"image": {"url": NOBODY_THERE}}, "extra": extra}
            status, job = await it.client.call(
                "POST", "/v1/jobs", data=json.dumps(body, ensure_ascii=ensure_ascii).encode(), headers=JSON
            )
            assert (status, job["extra"]) == (202, extra)
            assert (await it.client.events(job["id"]))[0]["data"]["extra"] == extra


async def test_a_text_that_one_of_the_databases_can_not_hold_is_refused_by_its_field(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        for path, body, field in (
            ("/v1/endpoints", {"url": "http://127.0.0.1:9/", "description": "a\0b"}, "description"),
            ("/v1/keys", {"name": "a\0b"}, "name"),
            ("/v1/projects", {"name": "a\0b"}, "name"),
        ):
            status, problem = await it.client.call("POST", path, json=body)
            assert status == 422
            assert problem["errors"] == [{"field": field, "reason": "can't hold a NUL character"}]


async def test_other_types_of_body_are_refused(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "image/png", "nonsense"):
            status, problem = await it.client.call(
                "POST", "/v1/jobs", data=with_extra("1"), headers={"Content-Type": kind}
            )
            assert (status, problem["type"]) == (415, "urn:wirephoto:problem:unsupported_type"), kind


async def test_multipart_bodies_that_can_not_be_read_are_refused(tmp_path: Path) -> None:
    def part(name: str, body: str, more: str = "") -> str:
        return f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{body}\r\n'

    job = part("job", with_extra("1").decode())
    file = '; filename="a.png"'
    async with stand(tmp_path) as it, leaving_nothing(it):
        for kind, body, expected in (
            ("multipart/form-data", job + "--edge--\r\n", 400),
            ("multipart/form-data; boundary=", job + "--edge--\r\n", 400),
            ("multipart/form-data; boundary=other", job + "--edge--\r\n", 400),
            ("multipart/form-data; boundary=edge", "garbage", 400),
            ("multipart/form-data; boundary=edge", "", 400),
            ("multipart/form-data; boundary=edge", job, 400),
            ("multipart/form-data; boundary=edge", job + part("image", "x" * 3_000, file)[:-9], 400),
            ("multipart/form-data; boundary=edge", "--edge\r\n\r\nnameless\r\n--edge--\r\n", 400),
            ("multipart/form-data; boundary=edge", job * 11 + "--edge--\r\n", 400),
            ("multipart/form-data; boundary=edge", part("image", "x", file) * 11 + "--edge--\r\n", 400),
            ("multipart/form-data; boundary=edge", job + job + "--edge--\r\n", 422),
            ("multipart/form-data; boundary=edge", part("image", "x", file) + "--edge--\r\n", 422),
            ("multipart/form-data; boundary=edge", job + part("image", "x") + "--edge--\r\n", 422),
            ("multipart/form-data; boundary=edge; charset=utf-7", job + part("+2AA-", "x", file) + "--edge--\r\n", 422),
        ):
            status, problem, headers = await it.client.call_full(
                "POST", "/v1/jobs", data=body.encode(), headers={"Content-Type": kind}
            )
            assert (status, headers["Content-Type"]) == (expected, "application/problem+json"), (kind, body[:200])
            assert problem["detail"]


async def test_a_body_that_is_too_large_is_refused_whether_its_length_is_declared_or_not(tmp_path: Path) -> None:
    async with stand(tmp_path, max_upload_mb=1.2) as it, leaving_nothing(it):

        async def undeclared(body: bytes) -> AsyncIterator[bytes]:
            for start in range(0, len(body), 65_536):
                yield body[start : start + 65_536]

        large = b" " * 1_300_000
        multipart = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + large
        for path, body, kind in (
            ("/v1/jobs", large, "application/json"),
            ("/v1/endpoints", large, "application/json"),
            ("/v1/assets", large, "image/png"),
            ("/v1/jobs", multipart, "multipart/form-data; boundary=edge"),
            ("/v1/assets", multipart, "multipart/form-data; boundary=edge"),
        ):
            for data in (io.BytesIO(body), undeclared(body)):
                status, problem, headers = await it.client.call_full(
                    "POST", path, data=data, headers={"Content-Type": kind}
                )
                assert (status, problem["type"]) == (413, "urn:wirephoto:problem:too_large"), (path, kind)
                assert headers["Content-Type"] == "application/problem+json"
        # The job's own part is JSON, also where it comes as a file.
        status, _ = await it.client.call(
            "POST",
            "/v1/jobs",
            data=form(b" " * 1_100_000),
        )
        assert status == 413


async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        host, port = it.client.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = (
            "POST /v1/assets HTTP/1.1",
            "Host: here",
            f"Authorization: Bearer {it.client.key}",
            "Content-Length: 999999999999",
        )
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer.lower()
        writer.close()
        await writer.wait_closed()


async def test_a_stranger_is_turned_away_before_a_byte_of_the_body_is_read(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        host, port = it.client.url.removeprefix("http://").split(":")
        for path in ("/v1/jobs", "/v1/assets"):
            reader, writer = await asyncio.open_connection(host, int(port))
            lines = (
                f"POST {path} HTTP/1.1",
                "Host: here",
                "Authorization: Bearer wp_wrong",
                "Content-Type: multipart/form-data; boundary=edge",
                "Content-Length: 90000000",
            )
            writer.write("\r\n".join([*lines, "", ""]).encode())
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.close()
            await writer.wait_closed()
