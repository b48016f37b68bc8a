"""What goes wrong on our own side: a job still has one end, and what was paid for is neither lost nor paid again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from handlers.sandbox import faults
from handlers.sandbox.faults import Fault
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.picwish import error as picwish_error
from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from handlers.sandbox.vanceai import error as vanceai_error
from service.pipeline.crew import MOST_FAULTS
from service.store import jobs
from service.store.files import FileStore
from service.store.jobs import Step
from tests.acceptance.helpers import (
    CUTOUT,
    ENLARGE,
    NEVER,
    SOON,
    asked,
    begun,
    done,
    failed_with,
    only_end,
    pictures,
    play,
    reached,
    webhook_of,
)
from tests.acceptance.made import picture, upload
from tests.fast_clock import FastClock
from tests.faulty_store import FOR_EVER, FaultyStore, bug, faulty_store
from tests.harness import PATIENCE, Stand, server_of, stand

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def faulty(folder: Path, *, speed: float = 20.0, **changes: Any) -> AsyncIterator[tuple[Stand, FaultyStore]]:
    """A service on a store that fails where it is told to, and vendors by whose clocks no time is lost."""
    clock = FastClock(speed)
    async with (
        faulty_store(folder) as store,
        PicWishSandbox(PicWishPlay(work_seconds=0), clock=clock.seconds, monotonic=clock.seconds) as picwish,
        VanceAISandbox(VanceAIPlay(work_seconds=0, poll_seconds=0, webhook=NEVER)) as vanceai,
        stand(folder, clock=clock, database=store, picwish=picwish, vanceai=vanceai, **{**SOON, **changes}) as it,
    ):
        yield it, store


# -- after the submission was opened -----------------------------------------------------------------------------------


async def test_a_picture_that_is_gone_when_the_paid_call_is_made_up_ends_the_job(tmp_path: Path) -> None:
    async with faulty(tmp_path, speed=300) as (it, _):
        asset = await upload(it, picture())
        FileStore(tmp_path / "assets").path(asset["sha256"]).unlink()
        job = await done(it.client, CUTOUT, None, inputs={"image": {"asset": asset["id"]}})
        await failed_with(it.client, job, "vendor", "unreadable_input")
        assert job["billing"]["charged"] == "no", "nothing was ever sent"
        assert asked(it.picwish, "create") == []


@pytest.mark.parametrize("operation", [ENLARGE, CUTOUT])
async def test_the_answer_to_a_paid_call_outlives_a_store_that_is_away(
    tmp_path: Path, photo: Path, operation: str
) -> None:
    async with faulty(tmp_path) as (it, store):
        away = store.fails("submit._accept", 3)
        job = await done(it.client, operation, photo)
        await pictures(it.client, job)
        await only_end(it.client, job["id"])
        assert (away.count, job["submissions"]) == (3, 1)
        assert len(asked(it.vanceai, "transform")) + len(asked(it.picwish, "create")) == 1
        assert len(it.vanceai.charged) + len(it.picwish.charged) == 1


async def test_the_answer_to_a_paid_call_is_not_thrown_away_with_a_bookkeeping_write(
    tmp_path: Path, photo: Path
) -> None:
    async with faulty(tmp_path) as (it, store):
        away = store.fails("vendor_requests.finish", FOR_EVER)
        job = await done(it.client, CUTOUT, photo)
        await pictures(it.client, job)
        await only_end(it.client, job["id"])
        assert away.count >= 2, "the paid call's and the question's"
        assert len(asked(it.picwish, "create")) == len(it.picwish.charged) == 1


async def test_a_step_whose_work_and_whose_letting_go_meet_a_store_that_is_away_goes_on(tmp_path: Path) -> None:
    async def source(_: web.Request) -> web.Response:
        return web.Response(body=picture(), content_type="image/png")

    app = web.Application()
    app.router.add_get("/{tail:.*}", source)
    async with faulty(tmp_path) as (it, store), server_of(app) as url:
        away = [store.fails("stage._start"), store.fails("crew._try_later")]
        job = await done(it.client, ENLARGE, None, inputs={"image": {"url": f"{url}/a.png"}})
        await pictures(it.client, job)
        assert [unit.count for unit in away] == [1, 1]


# -- how often ---------------------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_once_does_not_end_a_job_that_its_vendor_has_often_put_off(
    tmp_path: Path, photo: Path
) -> None:
    async with faulty(tmp_path, speed=400) as (it, store):
        it.picwish.faults.next("create", picwish_error(429), times=MOST_FAULTS + 1)
        away = store.fails("submit._open", after=MOST_FAULTS + 1)
        job = await done(it.client, CUTOUT, photo)
        assert away.count == 1
        await pictures(it.client, job)
        assert len(asked(it.picwish, "create")) == MOST_FAULTS + 2


async def test_ten_faults_of_ours_end_a_job_in_plain_words(tmp_path: Path, photo: Path) -> None:
    async with faulty(tmp_path, speed=400) as (it, store):
        faulted = store.fails("submit._open", FOR_EVER, fault=bug)
        with capture_logs() as told:
            job = await done(it.client, ENLARGE, photo)
        assert [line["event"] for line in told if "exc_info" in line] == ["worker.broken"] * MOST_FAULTS
        await failed_with(it.client, job, "unknown", "internal")
        assert faulted.count == MOST_FAULTS == 10
        assert job["error"]["retryable"]
        assert job["billing"]["charged"] == "no"


# -- strange answers ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def odd_vendor() -> AsyncIterator[str]:
    """PicWish, all of whose answers have a header that is no UTF-8."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        link = f"http://{request.host}/result.png"
        data = {"task_id": "t1", "state": 1, "progress": 100, "image": link, "mask": link}
        body = json.dumps({"status": 200, "data": data}).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; by=caf\xe9\r\nConnection: close\r\n\r\n"
        assert request.transport is not None
        # Past the library, which sends only what it can spell.
        request.transport.write(head + body)
        request.transport.close()
        return web.Response()

    async def result(_: web.Request) -> web.Response:
        return web.Response(body=picture(), content_type="image/png")

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/api/{tail:.*}", answer)
    app.router.add_get("/result.png", result)
    async with server_of(app) as url:
        yield url


async def test_a_vendors_header_of_any_bytes_is_stored_and_the_job_goes_on(tmp_path: Path, photo: Path) -> None:
    async with odd_vendor() as url, stand(tmp_path, picwish_settings={"base_url": url}) as it:
        job = await done(it.client, CUTOUT, photo)
        await pictures(it.client, job)


async def test_a_poll_that_always_faults_ends_at_the_deadline_in_plain_words(tmp_path: Path, photo: Path) -> None:
    changes = {"picwish_settings": {"deadline_seconds": 20, "poll_seconds": 1}}
    async with faulty(tmp_path, speed=40, **changes) as (it, store):
        faulted = store.fails("poll._found", FOR_EVER, fault=bug)
        with capture_logs() as told:
            job = await done(it.client, CUTOUT, photo)
        assert [line["event"] for line in told if "exc_info" in line] == ["worker.broken"] * faulted.count
        await failed_with(it.client, job, "unknown", "internal")
        assert faulted.count >= 2
        assert job["billing"]["charged"] == "unknown"


# -- lost answers ------------------------------------------------------------------------------------------------------


async def test_the_first_calls_task_is_the_jobs_own_while_the_second_call_was_put_off(
    tmp_path: Path, photo: Path
) -> None:
    # Slow time: the third call must still be ahead when the word of the first comes.
    async with stand(tmp_path, clock=FastClock(0.3), **SOON) as it:
        play(it.vanceai, webhook=NEVER)
        it.vanceai.faults.next("transform", faults.ANSWER_LOST)
        it.vanceai.faults.next("transform", vanceai_error(10010))
        job_id = await begun(it.client, ENLARGE, photo)
        await reached(it.vanceai, "transform", 2)
        async with asyncio.timeout(PATIENCE):
            while (await it.client.job(job_id))["state"] != "queued":
                pass
        (task,) = it.vanceai.tasks
        token = urlsplit(webhook_of(it.vanceai, 1)).path
        status, _ = await it.client.call("POST", token, key="", json={"trans_id": task, "status": "finish"})
        assert status == 204
        async with asyncio.timeout(PATIENCE):
            while (job := await it.client.job(job_id))["finished_at"] is None:
                pass
        await pictures(it.client, job)
        await only_end(it.client, job_id)
        assert job["vendor_task_id"] == task
        assert len(asked(it.vanceai, "transform")) == 2
        assert len(it.vanceai.charged) == 1


async def test_an_unanswered_upload_is_handed_in_again_and_after_three_refusals_made_anew(
    tmp_path: Path, photo: Path
) -> None:
    async with faulty(tmp_path, vanceai_settings={"watchdog_seconds": 2}) as (it, _):
        it.vanceai.faults.next("transform", faults.ANSWER_LOST)
        it.vanceai.faults.next("transform", vanceai_error(10010), times=3)
        job = await done(it.client, ENLARGE, photo)
        await pictures(it.client, job)
        assert job["billing"]["possible_duplicate"]
        uids = [seen.fields["uid"] for seen in asked(it.vanceai, "transform")]
        assert len(asked(it.vanceai, "upload")) == 2
        assert [uid == uids[0] for uid in uids] == [True, True, True, True, False]


async def test_a_turn_that_finds_nothing_final_has_the_vendor_asked_at_once(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, vanceai_settings={"watchdog_seconds": 3600}) as it:
        play(it.vanceai, webhook=NEVER)
        job_id = await begun(it.client, ENLARGE, photo)
        async with asyncio.timeout(PATIENCE):
            while (await it.client.job(job_id))["state"] != "running":
                pass
        core = it.wirephoto.core
        await core.db.write(jobs.to_conclude, 1, core.clock.now())
        core.wake(Step.CONCLUDE, "vanceai")
        async with asyncio.timeout(PATIENCE):
            while (job := await it.client.job(job_id))["finished_at"] is None:
                pass
        await pictures(it.client, job)


# -- what a lost result cost -------------------------------------------------------------------------------------------


async def test_a_result_that_is_gone_at_picwish_was_charged_all_the_same(tmp_path: Path, photo: Path) -> None:
    async with faulty(tmp_path, speed=300) as (it, _):
        it.picwish.faults.next("result", Fault(status=404), times=50)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "vendor", "result_unavailable")
        assert job["billing"]["charged"] == "yes"


async def test_whether_a_result_that_is_gone_at_vanceai_was_charged_is_unknown(tmp_path: Path, photo: Path) -> None:
    async with faulty(tmp_path, speed=300) as (it, _):
        it.vanceai.faults.next("download", vanceai_error(10011), times=50)
        job = await done(it.client, ENLARGE, photo)
        await failed_with(it.client, job, "vendor", "result_unavailable")
        assert job["billing"]["charged"] == "unknown"
