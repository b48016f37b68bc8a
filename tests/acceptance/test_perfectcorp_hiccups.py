"""Perfect Corp on bad days, ours and its own: a task in flight is still asked in time, and no window is wasted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from handlers.sandbox import faults
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from service.pacing.turns import Turns
from tests.acceptance.helpers import asked, begun, done, in_state, only_end, reached
from tests.acceptance.test_perfectcorp import COLORIZE, kept, sandbox_at
from tests.fast_clock import FastClock
from tests.faulty_store import FaultyStore, away, bug, faulty_store
from tests.harness import PATIENCE, Stand, stand

pytestmark = pytest.mark.anyio

HOUR = 3_600.0


class WallClock(FastClock):
    """Its wall clock may be set; the other one never is."""

    set_by = 0

    def now(self) -> int:
        return super().now() + self.set_by

    def monotonic(self) -> int:
        return super().now()

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        return await super().wait(wake, None if until is None else until - self.set_by)


@dataclass
class Scene:
    it: Stand
    sandbox: PerfectCorpSandbox
    store: FaultyStore
    clock: WallClock

    @property
    def turns(self) -> Turns:
        contracted = self.it.wirephoto.site.vendors.get("perfectcorp")
        assert contracted is not None
        return contracted.turns

    async def passes(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


@asynccontextmanager
async def scene(folder: Path, *, speed: float = 20.0, **play: Any) -> AsyncIterator[Scene]:
    clock = WallClock(speed)
    async with (
        faulty_store(folder) as store,
        sandbox_at(clock, **play) as sandbox,
        stand(folder, clock=clock, database=store, perfectcorp=sandbox) as it,
    ):
        yield Scene(it, sandbox, store, clock)


# -- kept alive --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["poll._replan", "poll._found"])
async def test_a_task_whose_answer_could_not_be_written_down_is_asked_again_in_time(
    tmp_path: Path, photo: Path, unit: str
) -> None:
    async with scene(tmp_path, work_seconds=42) as at:
        for fault in (bug, away):
            job = await begun(at.it.client, COLORIZE, photo)
            # After some questions the wait after a fault of ours would be longer than a task lives unasked.
            struck = at.store.fails(unit, after=0 if unit == "poll._found" else 5, fault=fault)
            async with asyncio.timeout(PATIENCE):
                await struck.bell.wait()
            assert (await in_state(at.it.client, job, "succeeded"))["submissions"] == 1
            kept(at.sandbox)


@pytest.mark.parametrize("by", [-60_000, -3_600_000])
async def test_a_wall_clock_that_is_set_back_loses_no_task(tmp_path: Path, photo: Path, by: int) -> None:
    async with scene(tmp_path, work_seconds=25) as at:
        job = await begun(at.it.client, COLORIZE, photo)
        await in_state(at.it.client, job, "running")
        for _ in range(3):
            at.clock.set_by += by // 3
            await at.passes(2)
        await in_state(at.it.client, job, "succeeded")
        kept(at.sandbox)


async def test_one_answer_that_knows_the_task_takes_back_an_earlier_one_that_did_not(
    tmp_path: Path, photo: Path
) -> None:
    unknown = faults.answering({"status": 404, "error_code": "InvalidTaskId"}, 404)
    async with scene(tmp_path, work_seconds=35) as at:
        at.sandbox.faults.next("task", unknown)
        job = await begun(at.it.client, COLORIZE, photo)
        await reached(at.sandbox, "task", 3)
        await at.passes(12)
        at.sandbox.faults.next("task", unknown)
        await in_state(at.it.client, job, "succeeded")


# -- nothing is wasted -------------------------------------------------------------------------------------------------


async def test_a_vendor_that_cannot_answer_is_not_asked_until_its_windows_are_full(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, work_seconds=HOUR) as at:
        job = await begun(at.it.client, COLORIZE, photo)
        await in_state(at.it.client, job, "running")
        at.sandbox.faults.next("task", faults.HTML_500, times=1_000)
        before = len(asked(at.sandbox, "task"))
        await at.passes(60)
        assert len(asked(at.sandbox, "task")) - before <= 30


async def test_an_authentication_that_fails_is_not_tried_until_the_windows_are_full(
    tmp_path: Path, photo: Path
) -> None:
    async with scene(tmp_path, work_seconds=HOUR) as at:
        job = await begun(at.it.client, COLORIZE, photo)
        await in_state(at.it.client, job, "running")
        at.sandbox.faults.next("auth", faults.HTML_500, times=1_000)
        at.sandbox.tokens.revoke()
        await at.passes(60)
        assert len(asked(at.sandbox, "auth")) <= 15


async def test_a_vendor_that_is_down_for_some_seconds_fails_no_job(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, work_seconds=3) as at:
        at.sandbox.faults.next("run", faults.HTML_500, times=3)
        job = await done(at.it.client, COLORIZE, photo)
        assert job["state"] == "succeeded", job["error"]
        assert len(at.sandbox.charged) == 1


# -- jobs that end meanwhile -------------------------------------------------------------------------------------------


async def test_a_job_that_is_canceled_during_its_paid_call_leaves_no_promise_behind(
    tmp_path: Path, photo: Path
) -> None:
    async with scene(tmp_path, work_seconds=HOUR) as at:
        at.sandbox.faults.next("run", faults.HANG_AFTER_WORK)
        job = await begun(at.it.client, COLORIZE, photo)
        await reached(at.sandbox, "run")
        assert (await at.it.client.call("POST", f"/v1/jobs/{job}/cancel"))[0] == 200
        with capture_logs() as logs:
            at.sandbox.faults.release()
            await at.passes(10)
        assert "job.submitted" in [entry["event"] for entry in logs]
        assert not at.turns.member.tasks
        assert not at.turns._jobs
        assert asked(at.sandbox, "task") == []


async def test_a_job_that_is_canceled_while_its_task_is_asked_ends_quietly(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, work_seconds=0) as at:
        at.sandbox.faults.next("task", faults.HANG_AFTER_WORK)
        job = await begun(at.it.client, COLORIZE, photo)
        await reached(at.sandbox, "task")
        assert (await at.it.client.call("POST", f"/v1/jobs/{job}/cancel"))[0] == 200
        with capture_logs() as logs:
            at.sandbox.faults.release()
            await at.passes(10)
        assert [entry for entry in logs if entry["log_level"] == "error"] == []
        await only_end(at.it.client, job)
        assert not at.turns.member.tasks
        assert not at.turns._jobs


# -- a stop ------------------------------------------------------------------------------------------------------------


async def test_while_a_stop_waits_for_others_the_tasks_are_kept_alive(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, speed=6, work_seconds=HOUR) as at:
        job = await begun(at.it.client, COLORIZE, photo)
        await in_state(at.it.client, job, "running")
        # Another job's submission hangs: a stop waits for its answer, as long as the call may take.
        at.sandbox.faults.next("run", faults.HANG)
        await begun(at.it.client, COLORIZE, photo)
        await reached(at.sandbox, "run", 2)
        (task,) = at.sandbox.tasks.values()
        before = len(asked(at.sandbox, "task"))
    # 10 s of the wall are a minute here.
    assert len(asked(at.sandbox, "task")) - before >= 5
    assert not task.lost
