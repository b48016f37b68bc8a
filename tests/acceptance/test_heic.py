"""What phones make by default no vendor takes: HEIC is refused by its name, before anything is queued or paid."""

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.acceptance.made import form, leaving_nothing
from tests.harness import receiver, server_of, stand, terminal_events

pytestmark = pytest.mark.anyio

# Only the first box, as one maker of phones writes it and as another does.
HEADS = {
    "heic first": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "the container first": b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf",
}
BOTH = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
SAID = "HEIC is not supported; convert to JPEG or PNG."
OPERATIONS = {
    "vanceai/enlarge3": ("image",),
    "perfectcorp/colorize": ("image",),
    "ailabtools/photo-retouching": ("image", "style"),
    "picwish/segmentation": ("image",),
}


@BOTH
async def test_an_upload_is_refused_by_the_name_of_its_input(tmp_path: Path, head: bytes) -> None:
    data = head + bytes(2000)
    async with stand(tmp_path) as it, leaving_nothing(it):
        for operation, inputs in OPERATIONS.items():
            job = {"operation": operation}
            status, problem = await it.client.call("POST", "/v1/jobs", data=form(job, **dict.fromkeys(inputs, data)))
            assert status == 422
            told = [error for error in problem["errors"] if error["field"] != "operation"]
            assert told == [{"field": f"inputs.{name}", "reason": SAID} for name in inputs], operation


@BOTH
async def test_an_asset_is_refused_by_its_field(tmp_path: Path, head: bytes) -> None:
    data = head + bytes(2000)
    named = aiohttp.FormData()
    named.add_field("file", data, filename="IMG_0001.HEIC", content_type="image/heic")
    async with stand(tmp_path) as it, leaving_nothing(it):
        for body, headers in ((data, {"Content-Type": "image/heic"}), (named, {})):
            status, problem = await it.client.call("POST", "/v1/assets", data=body, headers=headers)
            assert (status, problem["errors"]) == (422, [{"field": "file", "reason": SAID}])


@BOTH
async def test_a_link_to_one_fails_the_job_as_bad_input(tmp_path: Path, head: bytes) -> None:
    async def picture(_: web.Request) -> web.Response:
        return web.Response(body=head + bytes(2000), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/IMG_0001.jpg", picture)
    async with stand(tmp_path) as it, receiver() as shop, server_of(app) as url:
        await it.client.subscribe(shop.url, events=["job.failed"])
        source = {"url": f"{url}/IMG_0001.jpg"}
        status, job = await it.client.submit("vanceai/enlarge3", inputs={"image": source})
        assert status == 202
        error = (await shop.event_of(job["id"], "job.failed"))["data"]["error"]
        assert (error["class"], error["code"], error["retryable"]) == ("input", "unsupported_type", False)
        assert error["message"] == f"inputs.image.url: {SAID}"
        assert len(terminal_events(await it.client.events(), job["id"])) == 1
        assert it.vanceai.requests == []
