"""Results outlive the vendor's link: bytes are ours, whole and checked, before anybody is told."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from PIL import Image

from handlers.sandbox import faults
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.vanceai import VanceAISandbox, error
from tests.acceptance.helpers import (
    CUTOUT,
    ENLARGE,
    asked,
    begun,
    done,
    failed_with,
    fast_stand,
    front,
    only_end,
    pictures,
    reached,
    restated,
)
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, server_of, stand

pytestmark = pytest.mark.anyio

# The operation, and its sandbox's endpoint that hands out the bytes.
VENDORS = pytest.mark.parametrize(("operation", "endpoint"), [(ENLARGE, "download"), (CUTOUT, "result")])


@asynccontextmanager
async def quick(tmp_path: Path, speed: float = 50, **changes: Any) -> AsyncIterator[tuple[Stand, FastClock]]:
    clock = FastClock(speed)
    async with (
        fast_stand(tmp_path, clock, **changes) as it,
    ):
        yield it, clock


def sandbox_of(it: Stand, operation: str) -> VanceAISandbox | PicWishSandbox:
    return it.vanceai if operation == ENLARGE else it.picwish


# -- first the bytes, then the news ------------------------------------------------------------------------------------


@VENDORS
async def test_the_link_serves_the_whole_picture_when_the_event_comes(
    tmp_path: Path, photo: Path, operation: str, endpoint: str
) -> None:
    """The receiver takes the picture before it answers the event that names it, and the vendor is gone by then."""
    taken: list[tuple[dict[str, Any], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        event = await request.json()
        await it.vanceai.stop()
        await it.picwish.stop()
        async with aiohttp.ClientSession() as outside:
            for output in event["data"]["outputs"]:
                async with outside.get(output["url"]) as answer:
                    assert answer.status == 200
                    taken.append((output, await answer.read()))
        return web.Response(status=204)

    async with stand(tmp_path) as it, receiver() as subscriber:
        subscriber.answers.append(take)
        await it.client.subscribe(subscriber.url, events=["job.succeeded"])
        job_id = await begun(it.client, operation, photo)
        await subscriber.event_of(job_id, "job.succeeded")
        _, deliveries = await it.client.call("GET", "/v1/deliveries")
        assert deliveries["data"]
        job = await it.client.job(job_id)
        await pictures(it.client, job)
    assert [output for output, _ in taken] == job["outputs"]
    for output, body in taken:
        assert len(body) == output["bytes"]
        assert hashlib.sha256(body).hexdigest() == output["sha256"]
        with Image.open(io.BytesIO(body)) as image:
            assert (image.width, image.height) == (output["width"], output["height"])
            assert Image.MIME[image.format or ""] == output["content_type"]
    assert endpoint in {seen.endpoint for seen in sandbox_of(it, operation).requests}


@VENDORS
async def test_the_bytes_are_the_vendors_own(tmp_path: Path, photo: Path, operation: str, endpoint: str) -> None:
    async with quick(tmp_path) as (it, _):
        job = await done(it.client, operation, photo)
        await pictures(it.client, job)
        made = sandbox_of(it, operation).tasks[job["vendor_task_id"]].outputs
        kept = {output["name"]: output["sha256"] for output in job["outputs"]}
        assert kept == {name: hashlib.sha256(picture.data).hexdigest() for name, picture in made.items()}
        assert len(asked(sandbox_of(it, operation), endpoint)) == len(made)


@VENDORS
async def test_a_result_outlives_the_vendors_link_and_a_restart(
    tmp_path: Path, photo: Path, operation: str, endpoint: str
) -> None:
    async with quick(tmp_path) as (it, clock):
        before = await done(it.client, operation, photo)
        clock.jump(3 * 24 * 3600)
        again = await it.client.job(before["id"])
        await pictures(it.client, again)
        fetched = len(asked(sandbox_of(it, operation), endpoint))
    async with stand(tmp_path, vanceai=it.vanceai, picwish=it.picwish, clock=clock, reachable=False) as later:
        again = await later.client.job(before["id"])
        status, body, _ = await later.client.call_full("GET", f"/v1/assets/{again['outputs'][0]['asset']}/content")
        assert status == 200
        assert hashlib.sha256(body).hexdigest() == before["outputs"][0]["sha256"]
    assert len(asked(sandbox_of(it, operation), endpoint)) == fetched


async def test_the_type_is_what_the_bytes_are_and_not_what_the_vendor_says(tmp_path: Path, photo: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5), "teal").save(buffer, "PNG")
    async with quick(tmp_path) as (it, _):
        it.vanceai.faults.next("download", faults.Fault(status=200, body=buffer.getvalue(), content_type="text/html"))
        job = await done(it.client, ENLARGE, photo)
        (output,) = job["outputs"]
        assert (output["content_type"], output["width"], output["height"]) == ("image/png", 7, 5)
        await pictures(it.client, job)


# -- what is no picture ------------------------------------------------------------------------------------------------

NO_PICTURES = {
    "a JSON error": error(10010),
    "JSON without a code": faults.answering({"message": "success"}),
    "an error page": faults.HTML_500,
    "a page with status 200": faults.Fault(status=200, body=b"<!DOCTYPE html><html></html>", content_type="image/png"),
    "noise called image/png": faults.NOT_AN_IMAGE,
    "nothing": faults.Fault(status=200, content_type="image/png"),
    "a picture cut in half": faults.CUT_IMAGE,
    "a transfer cut in half": faults.TRUNCATED,
    "a drawing with scripts": faults.Fault(
        status=200,
        body=b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        content_type="image/svg+xml",
    ),
}


@VENDORS
async def test_what_is_no_picture_is_fetched_again_and_never_a_result(
    tmp_path: Path, photo: Path, operation: str, endpoint: str
) -> None:
    async with quick(tmp_path, speed=100) as (it, _):
        sandbox = sandbox_of(it, operation)
        for name, fault in NO_PICTURES.items():
            before = len(sandbox.charged)
            sandbox.faults.next(endpoint, fault, times=2)
            job = await done(it.client, operation, photo)
            assert job["state"] == "succeeded", (name, job["error"])
            made = sandbox.tasks[job["vendor_task_id"]].outputs
            assert {hashlib.sha256(picture.data).hexdigest() for picture in made.values()} == {
                output["sha256"] for output in job["outputs"]
            }, name
            await only_end(it.client, job["id"])
            # Trying again costs nothing: the vendor charges a job once.
            assert len(sandbox.charged) == before + 1, name


@VENDORS
@pytest.mark.parametrize("name", ["noise called image/png", "a picture cut in half", "JSON without a code"])
async def test_a_result_that_is_never_a_picture_fails_the_job(
    tmp_path: Path, photo: Path, operation: str, endpoint: str, name: str
) -> None:
    async with quick(tmp_path, speed=100) as (it, _):
        sandbox = sandbox_of(it, operation)
        sandbox.faults.next(endpoint, NO_PICTURES[name], times=100)
        job = await done(it.client, operation, photo)
        await failed_with(it.client, job, "vendor", "result_unavailable")
        assert 1 < len(asked(sandbox, endpoint)) <= 10
        assert job["error"]["retryable"]
        status, assets = await it.client.call("GET", f"/v1/jobs/{job['id']}/timeline")
        assert status == 200
        assert "fetched" not in [entry["step"] for entry in assets["data"]]


@VENDORS
async def test_a_transfer_that_always_breaks_is_tried_until_the_link_is_dead(
    tmp_path: Path, photo: Path, operation: str, endpoint: str
) -> None:
    async with quick(tmp_path) as (it, clock), receiver() as subscriber:
        await it.client.subscribe(subscriber.url, events=["job.succeeded", "job.failed"])
        sandbox = sandbox_of(it, operation)
        sandbox.faults.next(endpoint, faults.TRUNCATED, times=1000)
        job_id = await begun(it.client, operation, photo)
        await reached(sandbox, endpoint, 4)
        assert (await it.client.job(job_id))["state"] == "fetching"
        # PicWish's links live for an hour; VanceAI names no end, so a day is what we wait.
        clock.jump(25 * 3600)
        await subscriber.event_of(job_id)
        await failed_with(it.client, await it.client.job(job_id), "vendor", "result_unavailable")


async def test_a_job_with_one_good_result_of_two_is_no_success(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path, speed=100) as (it, _):
        it.picwish.faults.next("result", faults.NONE)
        it.picwish.faults.next("result", faults.CUT_IMAGE, times=100)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "vendor", "result_unavailable")
        # The first one was kept, so it was not fetched a second time.
        assert [seen.path.rsplit("/", 1)[-1] for seen in asked(it.picwish, "result")].count("image.png") == 1


async def test_a_link_that_is_dead_already_fails_the_job_at_once(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as (it, _):
        denied = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        it.picwish.faults.next("result", faults.Fault(status=403, body=denied, content_type="application/xml"), 9)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "vendor", "result_unavailable")
        assert len(asked(it.picwish, "result")) == 1


async def test_a_vendor_that_is_away_for_a_while_does_not_cost_the_result(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as (it, clock), receiver() as subscriber:
        await it.client.subscribe(subscriber.url, events=["job.succeeded", "job.failed"])
        it.picwish.faults.next("result", faults.DROPPED_BEFORE_WORK, times=6)
        job_id = await begun(it.client, CUTOUT, photo)
        await reached(it.picwish, "result", 3)
        clock.jump(1800)
        await pictures(it.client, (await subscriber.event_of(job_id, "job.succeeded", "job.failed"))["data"])


# -- links are untrusted input -----------------------------------------------------------------------------------------


@asynccontextmanager
async def trap() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that is none of the vendor's business, and what reached it."""
    visits: list[str] = []

    async def note(request: web.Request) -> web.Response:
        visits.append(request.path)
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, "PNG")
        return web.Response(body=buffer.getvalue(), content_type="image/png")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", note)
    async with server_of(app) as url:
        yield url, visits


@pytest.mark.parametrize(
    "link",
    [
        "{trap}/internal.png",
        "http://localhost:{port}/internal.png",
        "http://[::ffff:127.0.0.1]:{port}/internal.png",
        "http://0.0.0.0:{port}/internal.png",
        "http://2130706433:{port}/internal.png",
        "http://10.0.0.7/internal.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00::1]/internal.png",
        "http://user:password@127.0.0.1:{port}/internal.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/internal.png",
    ],
)
async def test_a_result_link_into_the_inside_is_refused(tmp_path: Path, photo: Path, link: str) -> None:
    """Although deliveries and sources may go to loopback here: what an operator allows for those is not for vendors."""
    async with quick(tmp_path) as (it, _), trap() as (url, visits):
        own = link.format(trap=url, port=url.rsplit(":", 1)[-1])
        it.picwish.faults.next("query", faults.Fault(change=restated({"image": own})), times=9)
        it.picwish.play(1)
        job = await done(it.client, CUTOUT, photo)
        assert job["state"] == "failed", job
        assert job["error"]["class"] == "vendor"
        assert job["error"]["code"] in ("result_unavailable", "no_image")
        assert visits == []
        await only_end(it.client, job["id"])


async def test_the_mask_is_judged_like_the_image(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as (it, _), trap() as (url, visits):
        it.picwish.faults.next("query", faults.Fault(change=restated({"mask": f"{url}/m.png?token=s3cret"})), times=9)
        it.picwish.play(1)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "vendor", "result_unavailable")
        assert visits == []
        # A link is a secret: whoever has it has the picture.
        assert "s3cret" not in job["error"]["message"]


@pytest.mark.parametrize(
    ("hops", "to_the_inside", "ends"),
    [(1, False, "succeeded"), (3, False, "succeeded"), (4, False, "failed"), (1, True, "failed"), (3, True, "failed")],
)
async def test_each_hop_of_a_redirected_link_is_judged(
    tmp_path: Path, photo: Path, hops: int, to_the_inside: bool, ends: str
) -> None:
    async with quick(tmp_path) as (outer, clock), front(outer.picwish.base_url) as door, trap() as (url, visits):
        places = [f"{door.url}/hop{number}" for number in range(hops)]
        last = f"{url}/internal.png" if to_the_inside else ""
        own = {"base_url": door.url}
        async with stand(tmp_path / "second", clock=clock, picwish=outer.picwish, picwish_settings=own) as it:
            outer.picwish.play(1)

            def moved(answer: Any) -> Any:
                told = {**answer["data"]}
                if not told.get("image"):
                    return answer  # asked before it was finished
                # Where the picture really is, as the front names it.
                image = last or told["image"].replace(outer.picwish.base_url, door.url)
                for here, there in zip(places, [*places[1:], image], strict=True):
                    door.answers[here.removeprefix(door.url)] = [web.Response(status=302, headers={"Location": there})]
                return {**answer, "data": {**told, "image": places[0]}}

            outer.picwish.faults.next("query", faults.Fault(change=moved), times=1000)
            job = await done(it.client, CUTOUT, photo)
            assert job["state"] == ends, job["error"]
            assert visits == []
            if ends == "succeeded":
                await pictures(it.client, job)
            else:
                await failed_with(it.client, job, "vendor", "result_unavailable")


# -- our own disk ------------------------------------------------------------------------------------------------------


@VENDORS
async def test_a_disk_that_takes_nothing_for_a_while_does_not_cost_a_paid_result(
    tmp_path: Path, photo: Path, operation: str, endpoint: str
) -> None:
    """A folder that can't be written to, for longer than a fault of ours would be tried: then there is room again."""
    async with quick(tmp_path, speed=600) as (it, _), receiver() as subscriber:
        await it.client.subscribe(subscriber.url, events=["job.succeeded", "job.failed"])
        sandbox = sandbox_of(it, operation)
        sandbox.settings = replace(sandbox.settings, work_seconds=(release := asyncio.Event()).wait)
        job_id = await begun(it.client, operation, photo)
        await has_left_for(it, job_id, sandbox)
        incoming = tmp_path / "assets" / "incoming"
        incoming.rename(tmp_path / "away")
        incoming.write_bytes(b"")
        release.set()
        await reached(sandbox, endpoint, 14)
        job = await it.client.job(job_id)
        assert job["state"] == "fetching", job["error"]
        incoming.unlink()
        (tmp_path / "away").rename(incoming)
        ended = (await subscriber.event_of(job_id))["data"]
        await pictures(it.client, ended)
        assert len(sandbox.charged) == 1
        await only_end(it.client, job_id)


async def has_left_for(it: Stand, job_id: str, sandbox: VanceAISandbox | PicWishSandbox) -> None:
    """Wait until the vendor has the picture, so that nothing more is read from our disk."""
    await reached(sandbox, "transform" if isinstance(sandbox, VanceAISandbox) else "create")
    assert (await it.client.job(job_id))["finished_at"] is None
