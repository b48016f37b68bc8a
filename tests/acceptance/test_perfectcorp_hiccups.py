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
from handlers.sandbox.perfectcorp_words import PerfectCorpSettings as Play
from service.clock import SystemClock
from service.pacing.turns import Turns
from tests.acceptance.helpers import asked, begun, in_state, only_end, reached
from tests.acceptance.test_perfectcorp import COLORIZE, kept, sandbox_at
from tests.fast_clock import FastClock
from tests.faulty_store import FaultyStore, away, bug, faulty_store
from tests.harness import Stand, stand
from tests.racing_clock import RacingClock, Watched

pytestmark = pytest.mark.anyio

HOUR = 3_600.0


class WallClock(RacingClock):
    """Its wall clock may be set; the other one never is."""

    set_by = 0

    def now(self) -> int:
        return self.monotonic() + self.set_by

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        return await super().wait(wake, None if until is None else until - self.set_by)

    async def sleep(self, seconds: float) -> None:
        await super().wait(asyncio.Event(), self.monotonic() + round(seconds * 1000))


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
        await self.clock.race(self.clock.monotonic() + round(seconds * 1000))

    async def until(self, job_id: str, state: str, minutes: int = 5) -> dict[str, Any]:
        """The job as soon as it is in this state."""
        for _ in range(60 * minutes):
            if (job := await self.it.client.job(job_id))["state"] == state:
                return job
            await self.passes(1)
        raise AssertionError(f"the job is {job['state']}, not {state}: {job['error']}")

    async def asked_for(self, count: int = 1) -> None:
        """Until the vendor has been asked for its tasks so often."""
        for _ in range(300):
            if len(asked(self.sandbox, "task")) >= count:
                return
            await self.passes(1)
        raise AssertionError("it was not asked")


@asynccontextmanager
async def scene(folder: Path, **play: Any) -> AsyncIterator[Scene]:
    clock = WallClock(SystemClock().now())
    async with (
        faulty_store(folder) as store,
        PerfectCorpSandbox(Play(**play), clock=clock.seconds, monotonic=clock.seconds, sleep=clock.sleep) as sandbox,
        stand(folder, clock=clock, database=Watched(store, clock.busy), perfectcorp=sandbox) as it,
    ):
        yield Scene(it, sandbox, store, clock)


# -- kept alive --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["poll._go_on", "poll._found"])
async def test_a_task_whose_answer_could_not_be_written_down_is_asked_again_in_time(
    tmp_path: Path, photo: Path, unit: str
) -> None:
    async with scene(tmp_path, work_seconds=42) as at:
        for fault in (bug, away):
            job = await begun(at.it.client, COLORIZE, photo)
            # After some questions the wait after a fault of ours would be longer than a task lives unasked.
            struck = at.store.fails(unit, after=0 if unit == "poll._found" else 5, fault=fault)
            assert (await at.until(job, "succeeded"))["submissions"] == 1
            assert struck.count == 1
            kept(at.sandbox)


@pytest.mark.parametrize("by", [-60_000, -3_600_000])
async def test_a_wall_clock_that_is_set_back_loses_no_task(tmp_path: Path, photo: Path, by: int) -> None:
    async with scene(tmp_path, work_seconds=25) as at:
        job = await begun(at.it.client, COLORIZE, photo)
        await at.until(job, "running")
        for _ in range(3):
            at.clock.set_by += by // 3
            await at.passes(2)
        await at.until(job, "succeeded")
        kept(at.sandbox)


async def test_one_answer_that_knows_the_task_takes_back_an_earlier_one_that_did_not(
    tmp_path: Path, photo: Path
) -> None:
    unknown = faults.answering({"status": 404, "error_code": "InvalidTaskId"}, 404)
    async with scene(tmp_path, work_seconds=35) as at:
        at.sandbox.faults.next("task", unknown)
        job = await begun(at.it.client, COLORIZE, photo)
        await at.asked_for(3)
        await at.passes(12)
        at.sandbox.faults.next("task", unknown)
        await at.until(job, "succeeded")


# -- nothing is wasted -------------------------------------------------------------------------------------------------


async def test_a_vendor_that_cannot_answer_is_not_asked_until_its_windows_are_full(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, work_seconds=HOUR) as at:
        job = await begun(at.it.client, COLORIZE, photo)
        await at.until(job, "running")
        at.sandbox.faults.next("task", faults.HTML_500, times=1_000)
        before = len(asked(at.sandbox, "task"))
        await at.passes(60)
        assert len(asked(at.sandbox, "task")) - before <= 30


async def test_an_authentication_that_fails_is_not_tried_until_the_windows_are_full(
    tmp_path: Path, photo: Path
) -> None:
    async with scene(tmp_path, work_seconds=HOUR) as at:
        job = await begun(at.it.client, COLORIZE, photo)
        await at.until(job, "running")
        at.sandbox.faults.next("auth", faults.HTML_500, times=1_000)
        at.sandbox.tokens.revoke()
        await at.passes(60)
        assert len(asked(at.sandbox, "auth")) <= 15


async def test_a_vendor_that_is_down_for_some_seconds_fails_no_job(tmp_path: Path, photo: Path) -> None:
    async with scene(tmp_path, work_seconds=3) as at:
        at.sandbox.faults.next("run", faults.HTML_500, times=3)
        await at.until(await begun(at.it.client, COLORIZE, photo), "succeeded")
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
        await at.asked_for()
        assert (await at.it.client.call("POST", f"/v1/jobs/{job}/cancel"))[0] == 200
        with capture_logs() as logs:
            at.sandbox.faults.release()
            await at.passes(10)
        assert [entry for entry in logs if entry["log_level"] == "error"] == []
        await only_end(at.it.client, job)
        assert not at.turns.member.tasks
        assert not at.turns._jobs


# -- a stop ------------------------------------------------------------------------------------------------------------


async def test_while_a_stop_waits_for_others_the_tasks_are_kept_alive(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stop waits by the wall: these three seconds are thirty here.
    monkeypatch.setattr("service.app.GRACE_SECONDS", 3.0)
    clock, own = FastClock(10), {"keepalive_seconds": 7.5}
    async with sandbox_at(clock, work_seconds=HOUR) as sandbox:
        async with stand(tmp_path, clock=clock, perfectcorp=sandbox, perfectcorp_settings=own) as it:
            job = await begun(it.client, COLORIZE, photo)
            await in_state(it.client, job, "running")
            # Another job's submission hangs: a stop waits for its answer, as long as the call may take.
            sandbox.faults.next("run", faults.HANG)
            await begun(it.client, COLORIZE, photo)
            await reached(sandbox, "run", 2)
            (task,) = sandbox.tasks.values()
            before = len(asked(sandbox, "task"))
        assert len(asked(sandbox, "task")) - before >= 3
        assert not task.lost
