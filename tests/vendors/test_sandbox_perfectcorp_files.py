"""Perfect Corp's stand-in takes files as storage does, keeps them as long as the document says, and gives results."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from yarl import URL

from tests.vendors.perfectcorp_by_hand import AT_ONCE, Hands, code, encoded, running, small_photo

pytestmark = pytest.mark.anyio


@pytest.fixture
def photo(photos: Path) -> bytes:
    return small_photo(photos)


# -- storage -----------------------------------------------------------------------------------------------------------


async def test_one_call_opens_a_slot_for_each_file(photo: bytes) -> None:
    async with running(photo) as client:
        slots = await client.slots("mu-trans-rec", "image/jpeg", "image/jpg", "image/jpeg")
        assert [slot["content_type"] for slot in slots] == ["image/jpeg", "image/jpg", "image/jpeg"]
        assert [slot["file_name"] for slot in slots] == ["0.jpg", "1.jpg", "2.jpg"]
        for slot in slots:
            assert slot.keys() == {"content_type", "file_name", "file_id", "requests"}
            (request,) = slot["requests"]
            assert (request.keys(), request["method"]) == ({"headers", "url", "method"}, "PUT")
            assert request["headers"]["Content-Type"] == slot["content_type"]
            assert any(type(value) is int for value in request["headers"].values())
            assert await client.put(slot, photo) == 200
        assert len({slot["file_id"] for slot in slots}) == 3
        assert client.sandbox.violations == []


@pytest.mark.parametrize("form", ["object", "key", "name"])
async def test_headers_come_as_an_object_or_as_an_array(photo: bytes, form: Any) -> None:
    async with running(photo, replace(AT_ONCE, headers=form)) as client:
        (slot,) = await client.slots("enhance", "image/jpeg")
        headers = slot["requests"][0]["headers"]
        assert (
            isinstance(headers, dict)
            if form == "object"
            else [set(entry) for entry in headers] == [{form, "value"}] * 2
        )
        assert await client.put(slot, photo) == 200


async def test_the_newer_documents_file_size_is_needed_told_back_as_a_number_and_held_to(photo: bytes) -> None:
    async with running(photo) as client:
        files = [{"content_type": "image/jpeg", "file_name": "a.jpg", "file_size": 7}]
        assert code(await client.call("POST", "/file/enhance", json={"files": files}))[0] == 400
        client.sandbox.settings = replace(AT_ONCE, file_size=True)
        (slot,) = await client.slots("enhance", "image/jpeg", file_size=len(photo))
        assert slot["requests"][0]["headers"]["Content-Length"] == len(photo)
        assert await client.put(slot, photo[:-1], content_length=None) == 403
        assert await client.put(slot, photo) == 200
        del files[0]["file_size"]
        assert code(await client.call("POST", "/file/enhance", json={"files": files}))[0] == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": "image/png"},
        {"content_type": None},
        {"x_amz_meta_place": None},
        {"x_amz_meta_place": "1"},
        {"authorization": "Bearer x"},
    ],
    ids=str,
)
async def test_an_upload_with_other_headers_than_the_slots_is_refused_and_noted(photo: bytes, changes: Any) -> None:
    async with running(photo) as client:
        (slot,) = await client.slots("enhance", "image/jpeg")
        assert await client.put(slot, photo, **changes) == (400 if "authorization" in changes else 403)
        assert len(client.sandbox.violations) == 1
        assert await client.put(slot, photo) == 200


async def test_an_upload_in_chunks_a_second_one_and_a_forged_or_late_link_are_refused(photo: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield photo

    clock = Hands()
    async with running(photo, clock=clock) as client:
        (slot,) = await client.slots("enhance", "image/jpeg")
        assert await client.put(slot, pieces()) == 403
        url = slot["requests"][0]["url"]
        for forged in (url.split("?")[0], url[:-3], url.replace("X-Expires=1", "X-Expires=2"), f"{url}&more=1"):
            assert await client.put({"requests": [{**slot["requests"][0], "url": forged}]}, photo) == 403
        assert await client.put(slot, photo) == 200
        assert await client.put(slot, photo) == 403
        (late,) = await client.slots("enhance", "image/jpeg")
        clock.now += 7201
        assert await client.put(late, photo) == 403
        assert len(client.sandbox.violations) == 7
        signature = URL(url).query["X-Signature"]
        assert signature not in repr(client.sandbox.requests) + repr(client.sandbox.violations)


async def test_bytes_that_are_not_what_they_are_called_are_taken_and_noted(photo: bytes) -> None:
    async with running(photo) as client:
        file_id = await client.upload("enhance", photo, "image/png")
        assert client.sandbox.violations == [
            "PUT upload: the bytes are not of the content_type that the slot was opened for"
        ]
        assert (await client.finished("enhance", file_id))["status"] == "success"


@pytest.mark.parametrize("body", [None, {}, {"files": []}, {"files": {}}, {"files": [{}]}, {"files": ["x"]}], ids=str)
async def test_a_file_call_against_the_document_is_400(photo: bytes, body: Any) -> None:
    async with running(photo) as client:
        good = {"content_type": "image/jpeg", "file_name": "a.jpg"}
        more = [{"files": [good], "x": 1}, {"files": [{**good, "x": 1}]}, {"files": [{**good, "file_name": 7}]}]
        for wrong in (body, *more):
            assert code(await client.call("POST", "/file/enhance", json=wrong)) == (400, "invalid_parameter")
        assert len(client.sandbox.violations) == 4


async def test_a_file_lives_a_day_and_must_have_been_uploaded_and_for_this_operation(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, clock=clock) as client:
        file_id, other = await client.upload("enhance"), await client.upload("colorize")
        (slot,) = await client.slots("enhance", "image/jpeg")
        for wrong in ("nobody-gave-this", slot["file_id"], other):
            body = await client.body("enhance", wrong)
            assert code(await client.run("enhance", body)) == (400, "InvalidFileId")
        assert len(client.sandbox.violations) == 3
        clock.now += 86_400
        assert (await client.finished("enhance", file_id))["status"] == "success"
        clock.now += 1
        assert code(await client.run("enhance", await client.body("enhance", file_id))) == (400, "InvalidFileId")
        # Whoever kept it can't have known.
        assert len(client.sandbox.violations) == 3


async def test_it_may_be_the_engine_that_misses_a_file(photo: bytes) -> None:
    async with running(photo, replace(AT_ONCE, missing_file="engine")) as client:
        (slot,) = await client.slots("enhance", "image/jpeg")
        assert (await client.finished("enhance", slot["file_id"]))["error"] == "error_download_image"
        source = await client.upload("obj-removal")
        said = await client.finished("obj-removal", source, "nobody-gave-this")
        assert said["error"] == "error_download_mask"


async def test_the_engine_refuses_what_is_too_large_or_no_picture(photo: bytes) -> None:
    wide = encoded(Image.new("L", (4097, 8)), "PNG")
    cases: dict[str, dict[str, tuple[bytes, ...]]] = {
        "enhance": {"exceed_max_filesize": (photo + bytes(10_000_000 - len(photo)), wide)},
        "hair-style": {"exceed_max_filesize": (encoded(Image.new("L", (8, 1025)), "PNG"),)},
        "sod": {"error_decode_image": (b"no picture", photo[:300], encoded(Image.new("P", (9, 9)), "GIF"))},
    }
    async with running(photo) as client:
        for slug, expected in cases.items():
            for word, files in expected.items():
                for data in files:
                    file_id = await client.upload(slug, data, "image/png")
                    assert await client.finished(slug, file_id) == {
                        "polling_interval": 0,
                        "status": "error",
                        "error": word,
                    }
        just = encoded(Image.new("L", (4096, 8)), "PNG")
        assert (await client.finished("sod", await client.upload("sod", just, "image/png")))["status"] == "success"
        assert len(client.sandbox.charged) == 1


# -- results -----------------------------------------------------------------------------------------------------------


async def test_a_results_link_lives_two_hours_and_a_new_one_can_be_had(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, clock=clock) as client:
        task_id = await client.started("colorize")
        await client.ended(task_id)
        url = (await client.said("colorize", task_id))["results"][0]["data"][0]["url"]
        clock.now += 7200
        assert (await client.link(url))[0] == 200
        clock.now += 1
        assert (await client.link(url))[0] == 403
        fresh = (await client.said("colorize", task_id))["results"][0]["data"][0]["url"]
        assert (await client.link(fresh))[0] == 200
        assert client.sandbox.violations == ["GET result: a link was used after its end"]
        async with client.session.get(URL(fresh, encoded=True), headers={"Authorization": "Bearer x"}) as reply:
            assert reply.status == 400
        assert (await client.link(fresh.split("?")[0]))[0] == 403
        assert len(client.sandbox.violations) == 3


async def test_a_result_feeds_any_operation_for_thirty_days_without_an_upload(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, clock=clock) as client:
        made = (await client.finished("colorize"))["results"][0]["data"][0]["dst_id"]
        clock.now += 30 * 86_400
        said = await client.finished("enhance", made, scale=4)
        assert (await client.image(said["results"][0]["data"][0]["url"])).size == (512, 512)
        assert len([seen for seen in client.sandbox.requests if seen.endpoint == "upload"]) == 1
        clock.now += 1
        assert code(await client.run("enhance", await client.body("enhance", made))) == (400, "InvalidFileId")
        assert client.sandbox.violations == []
