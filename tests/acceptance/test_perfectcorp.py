"""A photograph's way through Perfect Corp: asked in time or lost, asked too often and refused; neither ever happens."""

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import PerfectCorpSettings as Play
from handlers.sandbox.perfectcorp_words import error
from tests.acceptance.helpers import asked, begun, done, pictures
from tests.fast_clock import FastClock
from tests.harness import Receiver, Stand, receiver, stand

pytestmark = pytest.mark.anyio

COLORIZE = "perfectcorp/colorize"
KEEP_ALIVE = 10.0


@asynccontextmanager
async def sandbox_at(clock: FastClock, **play: Any) -> AsyncIterator[PerfectCorpSandbox]:
    """A vendor that lives in the test's time."""
    sandbox = PerfectCorpSandbox(
        Play(**{"work_seconds": 0, **play}), clock=clock.seconds, monotonic=clock.seconds, sleep=clock.sleep
    )
    async with sandbox:
        yield sandbox


@asynccontextmanager
async def quick(tmp_path: Path, speed: float = 20, **play: Any) -> AsyncIterator[Stand]:
    clock = FastClock(speed)
    async with sandbox_at(clock, **play) as sandbox, stand(tmp_path, clock=clock, perfectcorp=sandbox) as it:
        yield it


def vendor_of(it: Stand) -> PerfectCorpSandbox:
    assert it.perfectcorp is not None
    return it.perfectcorp


def kept(sandbox: PerfectCorpSandbox) -> None:
    """No task was lost, and no limit broken, so that nothing was refused."""
    assert sandbox.lost == []
    assert sandbox.violations == []


async def ended(subscriber: Receiver, count: int, seconds: float) -> list[dict[str, Any]]:
    async with asyncio.timeout(seconds):
        await subscriber.until(lambda: len(subscriber.got) >= count, patience=seconds)
    return [entry.event for entry in subscriber.got]


async def test_a_photograph_goes_all_the_way(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path, work_seconds=3) as it, receiver() as subscriber:
        endpoint = await it.client.subscribe(subscriber.url, events=["job.succeeded"])
        job_id = await begun(it.client, COLORIZE, photo)
        (delivery,) = await subscriber.wait_for(1)
        job = delivery.verified(endpoint["secret"])["data"]
        assert (job["id"], job["billing"]["charged"]) == (job_id, "yes")
        assert list(await pictures(it.client, job)) == ["image"]
        assert [entry["via"] for entry in job["callbacks"]] == ["poll"]
        kept(vendor_of(it))


async def test_sixty_jobs_at_once_lose_no_task_and_break_no_limit(tmp_path: Path, photo: Path) -> None:
    dice = random.Random(7)
    lives = iter([9 * math.exp(0.6 * dice.gauss(0, 1)) for _ in range(60)])
    async with quick(tmp_path, work_seconds=lambda: next(lives)) as it, receiver() as subscriber:
        await it.client.subscribe(subscriber.url, events=["job.succeeded", "job.failed"])
        for _ in range(60):
            await begun(it.client, COLORIZE, photo)
        events = await ended(subscriber, 60, 90)
        assert {event["type"] for event in events} == {"job.succeeded"}
        sandbox = vendor_of(it)
        kept(sandbox)
        assert len(sandbox.charged) == 60


async def test_refused_questions_are_asked_again_in_time(tmp_path: Path, photo: Path) -> None:
    """A 429 keeps no task alive: the question has to come again within the ten seconds."""
    async with quick(tmp_path, speed=10, work_seconds=30) as it:
        sandbox = vendor_of(it)
        for refusals in (1, 2, 1):
            sandbox.faults.next("task", error("TooManyRequests"), times=refusals)
            sandbox.faults.next("task", faults.NONE)
        job = await done(it.client, COLORIZE, photo)
        assert list(await pictures(it.client, job)) == ["image"]
        assert len(asked(sandbox, "task")) > 7, "every refusal has struck"
        kept(sandbox)
