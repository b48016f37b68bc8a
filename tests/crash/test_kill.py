"""One promise for each row of the crash table: killed there, started again, and the job ends once, as if nothing was.

Killed by `die` at a named unit of the store, or by us at an instant that a vendor or a subscriber can see. A scene
checks at its end that no vendor's rule was broken; `end_of` that the log tells one end, without a gap, and that the
subscriber heard all of it, twins under one webhook-id.
"""

import asyncio
import contextlib
import os
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from handlers.sandbox.faults import NONE
from service.retention import STRAY_AFTER_MS
from tests.crash.acts import ASK, BOTH, PAID, RESULT, RESULTS, hang, seen, succeeded_once
from tests.crash.scene import CUTOUT, ENLARGE, ONCE, SILENT, Launch, Scene, scene
from tests.harness import API_KEY, PATIENCE, Received, server_of

pytestmark = pytest.mark.anyio


# --- an upload ---------------------------------------------------------------------------------------------------


async def test_a_half_sent_upload_leaves_no_row(launch: Launch, data_dir: Path, photo: Path) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(place.settings["PORT"]))
        data = photo.read_bytes()
        head = f"POST /v1/assets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: image/jpeg\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in await reader.readline()
        writer.write(data[: len(data) // 2])
        await writer.drain()
        await service.kill()
        writer.close()
        await place.start()
        assert (await place.client.call("GET", "/v1/jobs"))[1]["data"] == []
        assert await place.log() == []
        _is_swept_when_old(place)


def _is_swept_when_old(place: Scene) -> None:
    """What lies there is a temporary file, which the next sweep takes."""
    assert all(path.parent.name == "incoming" for path in place.files)


async def test_a_file_without_its_row_is_swept(launch: Launch, data_dir: Path, photo: Path) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start("before:accept._add:1")
        with pytest.raises(aiohttp.ClientError):
            await place.submit(ENLARGE)
        await service.killed()
        assert len(place.files) == 1
        for path in place.files:
            long_ago = path.stat().st_mtime - STRAY_AFTER_MS / 1000 - 1
            os.utime(path, (long_ago, long_ago))
        service = await place.start()
        await service.said("assets.swept")
        assert place.files == []
        assert (await place.client.call("GET", "/v1/jobs"))[1]["data"] == []
        assert await place.log() == []


# --- after accept, or in `stage` ---------------------------------------------------------------------------------


@BOTH
async def test_a_job_that_was_taken_in_is_done_even_if_its_202_was_lost(
    launch: Launch, data_dir: Path, photo: Path, operation: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start("after:accept._add:1")
        await place.subscribe()
        with pytest.raises(aiohttp.ClientError):
            await place.client.submit(operation, place.photo, headers=ONCE)
        await service.killed()
        await place.start()
        status, job = await place.client.submit(operation, place.photo, headers=ONCE)
        assert status == 200
        await succeeded_once(place, job["id"], operation)
        _, jobs = await place.client.call("GET", "/v1/jobs")
        assert [entry["id"] for entry in jobs["data"]] == [job["id"]]


@BOTH
async def test_a_source_link_is_fetched_again_after_a_kill_in_its_midst(
    launch: Launch, data_dir: Path, photo: Path, operation: str
) -> None:
    asked, never = asyncio.Queue[int](), asyncio.Event()
    body = photo.read_bytes()

    async def serve(_: web.Request) -> web.Response:
        asked.put_nowait(1)
        if not died.is_set():
            await never.wait()
        return web.Response(body=body, content_type="image/jpeg")

    died = asyncio.Event()
    app = web.Application()
    app.router.add_get("/photo.jpg", serve)
    async with server_of(app) as url, scene(launch, data_dir, photo) as place:
        service = await place.start()
        await place.subscribe()
        inputs = {"image": {"url": f"{url}/photo.jpg"}}
        status, job = await place.client.submit(operation, inputs=inputs)
        assert status == 202, job
        await asyncio.wait_for(asked.get(), PATIENCE)
        await service.kill()
        died.set()
        await place.start()
        await succeeded_once(place, job["id"], operation)


@pytest.mark.parametrize("die", ["before:stage._staged:1", "after:stage._staged:1", "after:stage._start:1"])
async def test_a_link_that_dies_is_needed_no_more_once_it_was_staged(
    launch: Launch, data_dir: Path, photo: Path, die: str
) -> None:
    asked = 0
    body = photo.read_bytes()

    async def serve(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(body=body, content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/photo.jpg", serve)
    async with server_of(app) as url, scene(launch, data_dir, photo) as place:
        service = await place.start(die)
        await place.subscribe()
        inputs = {"image": {"url": f"{url}/photo.jpg"}}
        # The 202 may have been faster than the death, or not.
        with contextlib.suppress(aiohttp.ClientError):
            await place.client.submit(ENLARGE, inputs=inputs, headers=ONCE)
        await service.killed()
        await place.start()
        _, job = await place.client.submit(ENLARGE, inputs=inputs, headers=ONCE)
        await succeeded_once(place, job["id"], ENLARGE)
        assert asked == (2 if die.startswith("before:stage._staged") else 1)


# --- `prepare` ---------------------------------------------------------------------------------------------------


async def test_an_upload_to_the_vendor_that_was_cut_off_is_made_again(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        await place.subscribe()
        hang(place, ENLARGE, "upload", after_work=True)
        job_id = await place.submit(ENLARGE)
        await seen(place, ENLARGE, "upload")
        await service.kill()
        await place.start()
        await succeeded_once(place, job_id, ENLARGE)
        assert place.asked("upload") == 2


# --- poll --------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_task_is_asked_again_when_the_answer_was_cut_off(
    launch: Launch, data_dir: Path, photo: Path, operation: str
) -> None:
    async with scene(launch, data_dir, photo, webhook=SILENT, VANCEAI__WATCHDOG_SECONDS="0.2") as place:
        service = await place.start()
        await place.subscribe()
        hang(place, operation, ASK[operation])
        job_id = await place.submit(operation)
        await seen(place, operation, ASK[operation])
        await service.kill()
        await place.start()
        await succeeded_once(place, job_id, operation)
        assert place.asked(ASK[operation]) == 2


@pytest.mark.parametrize("die", ["before:submit._accept:1", "after:submit._accept:1", "after:poll._go_on:1"])
async def test_a_task_that_was_told_or_asked_of_is_never_lost(
    launch: Launch, data_dir: Path, photo: Path, die: str
) -> None:
    async with scene(launch, data_dir, photo, PICWISH__CALL_SECONDS="1") as place:
        place.picwish.play(0, 4, 1)
        service = await place.start(die)
        await place.subscribe()
        job_id = await place.submit(CUTOUT)
        await service.killed()
        await place.start()
        if die.startswith("after"):
            await succeeded_once(place, job_id, CUTOUT)
        else:
            # The answer was here, but not yet on paper: as if it had been lost.
            job = await place.end_of(job_id)
            assert (job["state"], job["submissions"]) == ("succeeded", 2)
            assert job["billing"]["possible_duplicate"] is True


# --- a callback that is stored, and the first unit ---------------------------------------------------------------


async def test_a_callback_that_was_stored_is_not_needed_again(launch: Launch, data_dir: Path, photo: Path) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start("after:receive._receive:1")
        await place.subscribe()
        job_id = await place.submit(ENLARGE)
        await service.killed()
        await place.start()
        await succeeded_once(place, job_id, ENLARGE)
        assert [sent.status for sent in place.vanceai.webhooks] == [None]


async def test_a_callback_that_was_not_stored_was_not_acknowledged(launch: Launch, data_dir: Path, photo: Path) -> None:
    done = asyncio.Event()
    async with scene(launch, data_dir, photo, work=done.wait, VANCEAI__WATCHDOG_SECONDS="0.5") as place:
        service = await place.start("before:receive._receive:1")
        await place.subscribe()
        job_id = await place.submit(ENLARGE)
        # Only then: a webhook that comes sooner may share its transaction with the answer to the paid call.
        await place.receiver.event_of(job_id, "job.submitted")
        done.set()
        await service.killed()
        assert (await asyncio.wait_for(place.vanceai.webhook_sent(), PATIENCE)).status is None
        await place.start()
        await succeeded_once(place, job_id, ENLARGE)


@BOTH
@pytest.mark.parametrize("die", ["after:poll._found:1", "before:conclude.conclude:1", "after:conclude.conclude:1"])
async def test_a_final_answer_that_was_stored_is_not_asked_for_again(
    launch: Launch, data_dir: Path, photo: Path, operation: str, die: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        vendor = place.vanceai if operation == ENLARGE else place.picwish
        vendor.play(*(["finish"] if operation == ENLARGE else [1]))
        service = await place.start(die)
        await place.subscribe()
        job_id = await place.submit(operation)
        await service.killed()
        asked = place.asked(ASK[operation])
        await place.start()
        await succeeded_once(place, job_id, operation)
        assert place.asked(ASK[operation]) == asked


@BOTH
@pytest.mark.parametrize("die", ["before:conclude.conclude:1", "after:conclude.conclude:1"])
async def test_a_failure_is_told_once_too(
    launch: Launch, data_dir: Path, photo: Path, operation: str, die: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        vendor = place.vanceai if operation == ENLARGE else place.picwish
        vendor.play(*(["fatal"] if operation == ENLARGE else [-9]))
        service = await place.start(die)
        await place.subscribe()
        job_id = await place.submit(operation)
        await service.killed()
        await place.start()
        job = await place.end_of(job_id)
        assert (job["state"], job["error"]["class"]) == ("failed", "vendor")
        assert job["billing"]["charged"] == "no"
        assert place.asked(PAID[operation]) == 1
        assert place.charges == 0


# --- download, and the second unit -------------------------------------------------------------------------------


@BOTH
async def test_a_download_that_was_cut_off_is_made_again(
    launch: Launch, data_dir: Path, photo: Path, operation: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        await place.subscribe()
        vendor = place.vanceai if operation == ENLARGE else place.picwish
        # Of several outputs the last one hangs: those before it are kept and not fetched again.
        vendor.faults.next(RESULT[operation], NONE, times=RESULTS[operation] - 1)
        hang(place, operation, RESULT[operation], after_work=True)
        job_id = await place.submit(operation)
        await seen(place, operation, RESULT[operation], RESULTS[operation])
        await service.kill()
        await place.start()
        await succeeded_once(place, job_id, operation)
        assert place.asked(RESULT[operation]) == RESULTS[operation] + 1


@BOTH
@pytest.mark.parametrize("die", ["before:fetch.finish_job:1", "after:fetch.finish_job:1"])
async def test_a_picture_that_was_kept_is_not_downloaded_again(
    launch: Launch, data_dir: Path, photo: Path, operation: str, die: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start(die)
        await place.subscribe()
        job_id = await place.submit(operation)
        await service.killed()
        await place.start()
        await succeeded_once(place, job_id, operation)
        assert place.asked(RESULT[operation]) == RESULTS[operation]


async def test_a_picture_that_was_kept_without_its_row_is_downloaded_again_and_lies_there_once(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start("before:results.keep:1")
        await place.subscribe()
        job_id = await place.submit(ENLARGE)
        await service.killed()
        await place.start()
        await succeeded_once(place, job_id, ENLARGE)  # "duplicate downloads won't charge credits again"
        assert len(place.files) == 2  # what came in, and what came out


# --- delivery ----------------------------------------------------------------------------------------------------


def same(first: Received, second: Received) -> bool:
    return (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


async def test_a_delivery_that_was_cut_off_is_made_again_under_the_same_id(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    never = asyncio.Event()
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        endpoint = await place.subscribe("job.succeeded")
        place.receiver.answers = [lambda _: never.wait()]
        job_id = await place.submit(ENLARGE)
        await place.receiver.event_of(job_id, "job.succeeded")
        await service.kill()
        await place.start()
        first, second = await place.receiver.wait_for(2)
        assert same(first, second)
        assert first.verified(endpoint["secret"]) == second.verified(endpoint["secret"])


@pytest.mark.parametrize("die", ["before:record.write_down:1", "after:record.write_down:1"])
async def test_a_delivery_is_repeated_only_if_its_answer_is_not_on_paper(
    launch: Launch, data_dir: Path, photo: Path, die: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start(die)
        await place.subscribe("job.succeeded")
        job_id = await place.submit(ENLARGE)
        told = await place.receiver.event_of(job_id, "job.succeeded")
        await service.killed()
        service = await place.start()
        if die.startswith("before"):
            first, second = await place.receiver.wait_for(2)
            assert same(first, second)
        # All that is due goes out before a kind end.
        service.terminate()
        assert await service.ended() == 0
        await place.start()
        _, event = await place.client.call("GET", f"/v1/events/{told['id']}")
        assert event["status"] == "delivered"
        assert [owed["attempt_count"] for owed in event["deliveries"]] == [1]
        assert len(place.receiver.got) == (2 if die.startswith("before") else 1)
