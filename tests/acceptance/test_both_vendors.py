"""What holds at every vendor, whether it calls back or is asked: how to cancel, to come in crowds, and to wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.sandbox import faults
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.vanceai import VanceAISandbox
from tests.acceptance.helpers import (
    CUTOUT,
    ENLARGE,
    asked,
    begun,
    done,
    ends_told,
    fast_stand,
    heard,
    only_end,
    pictures,
    reached,
)
from tests.fast_clock import FastClock
from tests.harness import PATIENCE, Receiver, Stand, receiver, server_of

pytestmark = pytest.mark.anyio

OPERATIONS = pytest.mark.parametrize("operation", [ENLARGE, CUTOUT])
ONE_AT_A_TIME: Mapping[str, Any] = {
    "vanceai_settings": {"max_concurrent": 1},
    "picwish_settings": {"max_concurrent": 1},
}


@dataclass
class Scene:
    it: Stand
    told: Receiver
    operation: str

    @property
    def vendor(self) -> VanceAISandbox | PicWishSandbox:
        return self.it.vanceai if self.operation == ENLARGE else self.it.picwish

    @property
    def paid_call(self) -> str:
        return "transform" if self.operation == ENLARGE else "create"

    @property
    def fetch(self) -> str:
        return "download" if self.operation == ENLARGE else "result"

    def hold_work(self) -> asyncio.Event:
        """The vendor works until the event is set."""
        release = asyncio.Event()
        self.vendor.settings = replace(self.vendor.settings, work_seconds=release.wait)
        return release

    async def cancel(self, job_id: str) -> None:
        """Over at once, told once, and again the same answer."""
        for _ in range(2):
            status, job = await self.it.client.call("POST", f"/v1/jobs/{job_id}/cancel")
            assert (status, job["state"]) == (200, "canceled")
        await self.told.event_of(job_id, "job.canceled")

    async def stays_canceled(self, job_id: str, photo: Path) -> None:
        """Whatever the vendor still does: the next job has room, and the canceled one has its one end."""
        after = await done(self.it.client, self.operation, photo)
        await pictures(self.it.client, after)
        job = await self.it.client.job(job_id)
        assert (job["state"], job["outputs"], job["error"]) == ("canceled", [], None)
        assert (await only_end(self.it.client, job_id))["type"] == "job.canceled"
        assert len(ends_told(self.told.got, job_id)) == 1
        status, problem = await self.it.client.call("POST", f"/v1/jobs/{after['id']}/cancel")
        assert (status, problem["status"]) == (409, 409)


@asynccontextmanager
async def scene(tmp_path: Path, operation: str, speed: float = 20, **changes: Any) -> AsyncIterator[Scene]:
    clock = FastClock(speed)
    async with (
        fast_stand(tmp_path, clock, **changes) as it,
        receiver() as told,
    ):
        await it.client.subscribe(told.url, events=["job.*"])
        yield Scene(it, told, operation)


# -- cancel, wherever the job is ---------------------------------------------------------------------------------------


@OPERATIONS
async def test_a_queued_job_is_canceled_and_never_paid_for(tmp_path: Path, photo: Path, operation: str) -> None:
    async with scene(tmp_path, operation, **ONE_AT_A_TIME) as at:
        release = at.hold_work()
        first = await begun(at.it.client, operation, photo)
        await reached(at.vendor, at.paid_call)
        second = await begun(at.it.client, operation, photo)
        assert (await at.it.client.job(second))["state"] == "queued"
        await at.cancel(second)
        release.set()
        await pictures(at.it.client, (await at.told.event_of(first, "job.succeeded"))["data"])
        await at.stays_canceled(second, photo)
        assert len(asked(at.vendor, at.paid_call)) == len(at.vendor.charged) == 2
        assert (await at.it.client.job(second))["billing"]["charged"] == "no"


@OPERATIONS
async def test_a_job_whose_picture_is_still_being_fetched_is_canceled(
    tmp_path: Path, photo: Path, operation: str
) -> None:
    came, release = asyncio.Event(), asyncio.Event()

    async def slowly(_: web.Request) -> web.Response:
        came.set()
        await release.wait()
        return web.Response(body=photo.read_bytes(), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/cat.jpg", slowly)
    async with scene(tmp_path, operation) as at, server_of(app) as origin:
        job_id = await begun(at.it.client, operation, None, inputs={"image": {"url": f"{origin}/cat.jpg"}})
        async with asyncio.timeout(PATIENCE):
            await came.wait()
        assert (await at.it.client.job(job_id))["state"] == "staging"
        await at.cancel(job_id)
        release.set()
        await at.stays_canceled(job_id, photo)
        assert len(asked(at.vendor, at.paid_call)) == 1


@OPERATIONS
async def test_a_job_whose_submission_is_under_way_is_canceled(tmp_path: Path, photo: Path, operation: str) -> None:
    async with scene(tmp_path, operation, **ONE_AT_A_TIME) as at:
        at.vendor.faults.next(at.paid_call, faults.HANG_AFTER_WORK)
        # The news would come by itself; here it comes only when this test says so.
        at.it.vanceai.settings = replace(
            at.it.vanceai.settings, webhook=replace(at.it.vanceai.settings.webhook, never=True)
        )
        job_id = await begun(at.it.client, operation, photo)
        await reached(at.vendor, at.paid_call)
        job = await at.it.client.job(job_id)
        assert (job["state"], job["billing"]["charged"]) == ("submitting", "unknown")
        await at.cancel(job_id)
        at.vendor.faults.release()
        at.it.vanceai.settings = replace(
            at.it.vanceai.settings, webhook=replace(at.it.vanceai.settings.webhook, never=False)
        )
        await at.stays_canceled(job_id, photo)
        # Nobody can say what became of the call.
        assert (await at.it.client.job(job_id))["billing"]["charged"] == "unknown"
        assert len(asked(at.vendor, at.paid_call)) == 2


@OPERATIONS
async def test_a_running_job_is_canceled_and_its_result_is_left_alone(
    tmp_path: Path, photo: Path, operation: str
) -> None:
    async with scene(tmp_path, operation, **ONE_AT_A_TIME) as at:
        release = at.hold_work()
        job_id = await begun(at.it.client, operation, photo)
        await at.told.event_of(job_id, "job.submitted")
        await at.cancel(job_id)
        release.set()
        await at.stays_canceled(job_id, photo)
        task = (await at.it.client.job(job_id))["vendor_task_id"]
        outputs = 1 if operation == ENLARGE else 2
        assert len(asked(at.vendor, at.fetch)) == outputs
        if operation == ENLARGE:
            # What is not downloaded is not paid for.
            assert task not in [charged for charged, _ in at.vendor.charged]
            url = asked(at.vendor, "transform")[0].fields["webhook"]
            status, _ = await at.it.client.call("POST", url, key="", data=b"late")
            assert status == 204
            assert heard(await at.it.client.job(job_id))[-1] == ("webhook", "ignored")
            await only_end(at.it.client, job_id)


@OPERATIONS
async def test_a_job_whose_result_is_being_fetched_is_canceled(tmp_path: Path, photo: Path, operation: str) -> None:
    async with scene(tmp_path, operation, **ONE_AT_A_TIME) as at:
        at.vendor.faults.next(at.fetch, faults.HANG_AFTER_WORK)
        job_id = await begun(at.it.client, operation, photo)
        await reached(at.vendor, at.fetch)
        assert (await at.it.client.job(job_id))["state"] == "fetching"
        await at.cancel(job_id)
        at.vendor.faults.release()
        await at.stays_canceled(job_id, photo)
        # It was paid for, and that is not hidden.
        assert (await at.it.client.job(job_id))["billing"]["charged"] == "yes"


@OPERATIONS
async def test_a_canceled_job_gives_its_place_to_the_next(tmp_path: Path, photo: Path, operation: str) -> None:
    async with scene(tmp_path, operation, **ONE_AT_A_TIME) as at:
        release = at.hold_work()
        first = await begun(at.it.client, operation, photo)
        await at.told.event_of(first, "job.submitted")
        second = await begun(at.it.client, operation, photo)
        await at.cancel(first)
        await at.told.event_of(second, "job.submitted")
        release.set()
        await pictures(at.it.client, (await at.told.event_of(second, "job.succeeded"))["data"])


# -- crowds ------------------------------------------------------------------------------------------------------------


async def test_thirty_jobs_at_both_vendors_all_end_once(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, ENLARGE) as at:
        kinds = [done(at.it.client, (ENLARGE, CUTOUT)[number % 2], photo) for number in range(30)]
        jobs = await asyncio.gather(*kinds)
        for job in jobs:
            assert job["state"] == "succeeded", job["error"]
            await at.told.event_of(job["id"], "job.succeeded")
            assert len(ends_told(at.told.got, job["id"])) == 1
        events = await at.it.client.events()
        ends = [event["data"]["id"] for event in events if event["type"] == "job.succeeded"]
        assert sorted(ends) == sorted(job["id"] for job in jobs)
        # No number is missing and none is given twice.
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        for sandbox in (at.it.vanceai, at.it.picwish):
            assert sandbox.violations == []
            assert len(sandbox.charged) == len({task for task, _ in sandbox.charged}) == 15
        assert len({job["vendor_task_id"] for job in jobs}) == 30


@pytest.mark.parametrize("most", [1, 3])
async def test_a_vendor_never_has_more_tasks_of_ours_than_we_set(tmp_path: Path, photo: Path, most: int) -> None:
    async with scene(tmp_path, ENLARGE, vanceai_settings={"max_concurrent": most}) as at:
        most_seen = 0

        async def work() -> None:
            nonlocal most_seen
            running = sum(not task.ended.is_set() for task in at.it.vanceai.tasks.values())
            most_seen = max(most_seen, running)

        at.it.vanceai.settings = replace(at.it.vanceai.settings, work_seconds=work)
        jobs = await asyncio.gather(*(done(at.it.client, ENLARGE, photo) for _ in range(8)))
        assert {job["state"] for job in jobs} == {"succeeded"}
        assert 1 <= most_seen <= most


async def test_one_vendors_silence_does_not_hold_up_the_other(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, CUTOUT) as at:
        at.it.vanceai.faults.next("upload", faults.HANG, times=20)
        stuck = [await begun(at.it.client, ENLARGE, photo) for _ in range(20)]
        await pictures(at.it.client, await done(at.it.client, CUTOUT, photo))
        assert {(await at.it.client.job(job_id))["state"] for job_id in stuck} == {"queued"}
        at.it.vanceai.faults.clear()
        at.it.vanceai.faults.release()
        for job_id in stuck:
            await at.told.event_of(job_id, "job.succeeded")


# -- waiting -----------------------------------------------------------------------------------------------------------


@OPERATIONS
@pytest.mark.parametrize("how", ["succeeds", "fails", "is canceled"])
async def test_prefer_wait_wakes_at_the_end_and_not_by_the_clock(
    tmp_path: Path, photo: Path, operation: str, how: str
) -> None:
    async with scene(tmp_path, operation, speed=1) as at:
        release = at.hold_work()
        if how == "fails":
            at.vendor.play("fatal" if operation == ENLARGE else -1)
        headers = {"Prefer": "wait=60"}
        waiting = asyncio.create_task(at.it.client.submit(operation, photo, headers=headers))
        await reached(at.vendor, at.paid_call)
        started = time.monotonic()
        if how == "is canceled":
            _, listed = await at.it.client.call("GET", "/v1/jobs")
            await at.cancel(listed["data"][0]["id"])
        else:
            release.set()
        status, job = await waiting
        assert status == 200
        assert job["state"] == {"succeeds": "succeeded", "fails": "failed", "is canceled": "canceled"}[how]
        assert time.monotonic() - started < 10
        assert await at.it.client.job(job["id"]) == job
        release.set()


async def test_prefer_wait_gives_up_in_time_and_the_job_goes_on(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, ENLARGE) as at:
        release = at.hold_work()
        status, job = await at.it.client.submit(ENLARGE, photo, headers={"Prefer": "wait=5"})
        assert (status, job["state"]) == (202, "running")
        release.set()
        await pictures(at.it.client, (await at.told.event_of(job["id"], "job.succeeded"))["data"])


async def test_a_waiter_that_hangs_up_ends_nothing(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, ENLARGE) as at:
        release = at.hold_work()
        waiting = asyncio.create_task(at.it.client.submit(ENLARGE, photo, headers={"Prefer": "wait=60"}))
        await reached(at.vendor, "transform")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        release.set()
        ended = (await at.told.wait_for(1, "job.succeeded"))[0].event["data"]
        await pictures(at.it.client, ended)
