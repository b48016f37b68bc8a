"""Perfect Corp's tasks die when nobody asks for ten seconds: a killed service is back, and asking, before that."""

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import PerfectCorpSettings
from tests.crash.scene import Launch, Scene, scene

pytestmark = pytest.mark.anyio

COLORIZE = "perfectcorp/colorize"


@asynccontextmanager
async def at_perfectcorp(
    launch: Launch, data_dir: Path, photo: Path, work: float | Callable[[], Any]
) -> AsyncIterator[tuple[Scene, PerfectCorpSandbox]]:
    async with PerfectCorpSandbox(PerfectCorpSettings(work_seconds=work)) as sandbox:
        given: dict[str, Any] = {f"PERFECTCORP__{name.upper()}": value for name, value in sandbox.credentials.items()}
        given["PERFECTCORP__BASE_URL"] = sandbox.base_url
        async with scene(launch, data_dir, photo, **given) as place:
            yield place, sandbox
        assert sandbox.lost == []
        assert sandbox.violations == []


async def polls(sandbox: PerfectCorpSandbox, count: int) -> None:
    """Until so many questions have come."""
    await sandbox.seen("task", count)


@pytest.mark.slow
async def test_twenty_jobs_and_a_kill_in_their_midst_lose_no_task_and_cost_nothing_twice(
    launch: Launch, tmp_path: Path, photo: Path
) -> None:
    dice = random.Random(3)
    lives = iter([9 * math.exp(0.6 * dice.gauss(0, 1)) for _ in range(40)])
    async with at_perfectcorp(launch, tmp_path, photo, lambda: next(lives)) as (place, sandbox):
        service = await place.start()
        await place.subscribe("job.succeeded", "job.failed")
        jobs = [await place.submit(COLORIZE) for _ in range(20)]
        async with asyncio.timeout(60):
            # Each about once. A task is asked every eight seconds and dies after ten: how long a busy machine takes to
            # start the service again is not what is shown here.
            await polls(sandbox, 20)
        await service.kill()
        await place.start()
        told = place.receiver
        await told.until(lambda: {entry.event["data"]["id"] for entry in told.got} >= set(jobs), patience=240)
        assert {entry.event["type"] for entry in told.got} == {"job.succeeded"}
        assert len(sandbox.charged) == len({task for task, _ in sandbox.charged}) == 20
        for job in jobs:
            assert (await place.client.job(job))["billing"]["possible_duplicate"] is False
        print(json.dumps({"requests": len(sandbox.requests), "lost": sandbox.lost}))


async def test_after_a_kill_the_tasks_are_asked_before_anything_else(
    launch: Launch, tmp_path: Path, photo: Path
) -> None:
    released = asyncio.Event()
    async with at_perfectcorp(launch, tmp_path, photo, released.wait) as (place, sandbox):
        service = await place.start()
        await place.subscribe("job.submitted", "job.succeeded", "job.failed")
        job = await place.submit(COLORIZE)
        await place.receiver.event_of(job, "job.submitted")
        for _ in range(5):
            await place.submit("vanceai/enlarge3")
        await service.kill()
        asked = len([seen for seen in sandbox.requests if seen.endpoint == "task"])
        before = len(sandbox.requests)
        released.set()
        await place.start()
        await polls(sandbox, asked + 1)
        first = sandbox.requests[before]
        assert first.endpoint == "task", "no new token, no new job: the question comes first"
        await place.receiver.event_of(job, "job.succeeded")


@pytest.mark.slow
async def test_a_kill_during_a_submission_loses_no_task_though_many_wait(
    launch: Launch, tmp_path: Path, photo: Path
) -> None:
    async with at_perfectcorp(launch, tmp_path, photo, 12.0) as (place, sandbox):
        sandbox.faults.next("run", faults.NONE, times=2)
        # It has begun the task, and told nobody its name.
        sandbox.faults.next("run", faults.HANG_AFTER_WORK)
        service = await place.start()
        await place.subscribe("job.succeeded", "job.failed")
        jobs = [await place.submit(COLORIZE) for _ in range(12)]
        # At once: how long the service then takes to start is out of the ten seconds that a task lives unasked.
        await sandbox.seen("run", 3)
        await service.kill()
        await place.start()
        told = place.receiver
        await told.until(lambda: {entry.event["data"]["id"] for entry in told.got} >= set(jobs), patience=120)
        assert {entry.event["type"] for entry in told.got} == {"job.succeeded"}
        assert len(sandbox.charged) == len({task for task, _ in sandbox.charged}) == 12
