"""Assets: uploads as files or bytes, and links that give one picture to whoever holds them, for as long as it lives."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from tests.acceptance.made import ENLARGE, fields, leaving_nothing, picture, upload
from tests.fast_clock import FastClock
from tests.harness import Stand, stand

pytestmark = pytest.mark.anyio

DAY = 24 * 3600.0


async def get(it: Stand, url: str, method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
    """Without any key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await it.client.call_full(method, url, key="", headers=named)


async def test_a_picture_is_uploaded_as_a_form_or_as_it_is(tmp_path: Path, photos: Path) -> None:
    data = (photos / "cat.jpg").read_bytes()
    async with stand(tmp_path) as it:
        form = aiohttp.FormData()
        form.add_field("file", data, filename='..\\..\\C:\\e/vil" cat.jpg', content_type="text/html")
        status, asset, headers = await it.client.call_full("POST", "/v1/assets", data=form)
        assert (status, headers["Location"]) == (201, f"/v1/assets/{asset['id']}")
        raw = await upload(it, data, headers={"Content-Type": "text/html"})
        for made in (asset, raw):
            assert made["sha256"] == hashlib.sha256(data).hexdigest()
            # What it is, is read from its content, whatever its sender says.
            assert (made["content_type"], made["bytes"]) == ("image/jpeg", len(data))
            assert (made["width"], made["height"]) == (451, 300)
            assert (await it.client.call("GET", f"/v1/assets/{made['id']}")) == (200, made)
        assert asset["id"] != raw["id"]
        assert asset["filename"].endswith("cat.jpg")
        assert not set(asset["filename"]) & set("/\\\x07")
        assert raw["filename"] is None


async def test_the_bytes_are_had_by_key_or_by_signed_link_and_by_nothing_else(tmp_path: Path) -> None:
    data = picture()
    async with stand(tmp_path) as it:
        asset, other = await upload(it, data), await upload(it, picture(size=(8, 8)))
        path = f"/v1/assets/{asset['id']}/content"
        assert await it.client.call("GET", path) == (200, data)
        assert (await get(it, asset["url"]))[:2] == (200, data)
        status, problem, headers = await get(it, it.client.url + path)
        assert (status, problem["type"]) == (401, "urn:wirephoto:problem:unauthenticated")
        assert headers["WWW-Authenticate"].startswith("Bearer")

        sent = {name: values[0] for name, values in parse_qs(urlsplit(asset["url"]).query).items()}
        exp, sig = sent["exp"], sent["sig"]
        flipped = ("A" if sig[0] != "A" else "B") + sig[1:]
        foreign = parse_qs(urlsplit(other["url"]).query)["sig"][0]
        for query in (
            f"exp={exp}&sig={flipped}",
            f"exp={exp}&sig={sig[:-1]}",
            f"exp={exp}&sig=",
            f"exp={int(exp) + 1}&sig={sig}",
            f"exp={'9' * 5000}&sig={sig}",
            f"exp=&sig={sig}",
            f"exp=%C2%B2&sig={sig}",
            f"sig={sig}",
            f"exp={exp}&sig={foreign}",
            f"exp={exp}&sig=%00%FF%F0%9F%92%A3",
        ):
            status, problem, headers = await get(it, f"{it.client.url}{path}?{query}")
            assert (status, problem["type"]) == (403, "urn:wirephoto:problem:bad_link"), query[:60]
            assert headers["Content-Type"] == "application/problem+json"
        # A link opens one asset, also to who has a key.
        status, _ = await it.client.call("GET", f"/v1/assets/{other['id']}/content?exp={exp}&sig={sig}")
        assert status == 403


async def test_a_link_lives_as_long_as_its_asset_and_no_longer(tmp_path: Path) -> None:
    clock = FastClock(1.0)
    async with stand(tmp_path, clock=clock, asset_retention_days=2) as it:
        asset = await upload(it, picture())
        clock.jump(1.99 * DAY)
        assert (await get(it, asset["url"]))[0] == 200
        clock.jump(0.02 * DAY)
        assert (await get(it, asset["url"]))[0] == 403
        for path in (f"/v1/assets/{asset['id']}", f"/v1/assets/{asset['id']}/content"):
            assert (await it.client.call("GET", path))[0] == 404
        # Its bytes may be swept at any moment, so no new job may lean on it.
        async with leaving_nothing(it):
            status, problem = await it.client.submit(ENLARGE, inputs={"image": {"asset": asset["id"]}})
        assert (status, fields(problem)) == (422, {"inputs.image.asset"})
        assert "expired" in problem["errors"][0]["reason"]


async def test_ranges_are_served_as_rfc_9110_says(tmp_path: Path, photos: Path) -> None:
    data = (photos / "coffee.jpg").read_bytes()
    size = len(data)
    async with stand(tmp_path) as it:
        url = (await upload(it, data))["url"]
        for asked, start, end in (
            ("bytes=0-99", 0, 100),
            ("bytes=100-", 100, size),
            ("bytes=-10", size - 10, size),
            (f"bytes=-{size * 2}", 0, size),
            ("bytes=7-7", 7, 8),
            (f"bytes={size - 1}-{size + 5}", size - 1, size),
        ):
            status, body, headers = await get(it, url, Range=asked)
            assert body == data[start:end], asked
            assert headers["Content-Length"] == str(end - start)
            if (start, end) != (0, size):
                assert (status, headers["Content-Range"]) == (206, f"bytes {start}-{end - 1}/{size}")
        for asked in (f"bytes={size}-", "bytes=-0", f"bytes={size + 5}-{size + 9}"):
            status, problem, headers = await get(it, url, Range=asked)
            assert (status, problem["type"]) == (416, "urn:wirephoto:problem:bad_range"), asked
            assert headers["Content-Range"] == f"bytes */{size}"
        # What is no single range of bytes is passed over.
        for asked in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a-b", f"bytes=0-{'9' * 5000}"):
            status, body, _ = await get(it, url, Range=asked)
            assert (status, body) == (200, data), asked[:20]


async def test_a_range_counts_only_while_the_picture_is_the_one_it_was_asked_of(tmp_path: Path) -> None:
    data = picture(size=(200, 200))
    async with stand(tmp_path) as it:
        url = (await upload(it, data))["url"]
        _, _, headers = await get(it, url)
        etag = headers["ETag"]
        assert (await get(it, url, Range="bytes=0-9", If_Range=etag))[:2] == (206, data[:10])
        for other in ('"something-else"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
            assert (await get(it, url, Range="bytes=0-9", If_Range=other))[:2] == (200, data)
        for known in (etag, f"W/{etag}", f'"old", {etag}', "*"):
            assert (await get(it, url, If_None_Match=known))[:2] == (304, None)
        assert (await get(it, url, If_None_Match='"old"'))[:2] == (200, data)


async def test_head_tells_the_size_and_sends_nothing(tmp_path: Path) -> None:
    data = picture()
    async with stand(tmp_path) as it:
        url = (await upload(it, data))["url"]
        for asked in ({}, {"Range": "bytes=0-4"}):
            status, body, headers = await get(it, url, "HEAD", **asked)
            assert (status, body, headers["Content-Length"]) == (200, None, str(len(data)))


async def test_a_browser_can_neither_guess_nor_run_what_it_is_given(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        asset = await upload(it, picture("GIF", mode="P"))
        _, _, headers = await get(it, asset["url"])
        assert headers["Content-Type"] == "image/gif"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Disposition"] == f'inline; filename="{asset["id"]}.gif"'
        assert "sandbox" in headers["Content-Security-Policy"]
        assert "private" in headers["Cache-Control"]


async def test_what_is_no_single_picture_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        two = aiohttp.FormData()
        two.add_field("file", picture(), filename="a.png")
        two.add_field("file", picture(), filename="b.png")
        misnamed = aiohttp.FormData()
        misnamed.add_field("picture", picture(), filename="a.png")
        plain = aiohttp.FormData(default_to_multipart=True)
        plain.add_field("file", "no file at all")
        for data in (
            two,
            misnamed,
            plain,
            b"",
            b"<svg/>",
            b"%PDF-1.7",
            picture()[:-9],
        ):
            status, problem = await it.client.call("POST", "/v1/assets", data=data)
            assert (status, fields(problem)) == (422, {"file"})
            assert problem["errors"][0]["reason"]
        for folder in (tmp_path / "assets").glob("??"):
            assert list(folder.iterdir()) == []
