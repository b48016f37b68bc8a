"""`job.progressed`: who asks for it by name hears how far a job is, and nobody is flooded."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.helpers import CUTOUT, asked, fast_stand, in_state
from tests.fast_clock import FastClock
from tests.harness import TERMINAL, receiver

pytestmark = pytest.mark.anyio

PROGRESSED = "job.progressed"
# What PicWish says when it is asked, again and again: 0, 10, 20, 50, 60 and 90 %, then done. It may be asked twice a
# second.
SLOWLY = (0, 0, 0, 2, 2, 3, 3, 3, 3, 4, 4, 6, 6, 5, 5, 1)
SHARES = [0, 10, 20, 50, 60, 90]


def at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


async def test_progress_is_told_every_two_seconds_at_most_and_never_after_the_end(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(30)) as it, receiver() as there, receiver() as every:
        await it.client.subscribe(there.url, events=[PROGRESSED, "job.succeeded"])
        await it.client.subscribe(every.url, events=["job.*"])
        it.picwish.play(*SLOWLY)
        _, job = await it.client.submit(CUTOUT, photo)
        await there.event_of(job["id"], *TERMINAL)
        await every.wait_for(3)
        log = await it.client.events(job["id"])
        told = [event for event in log if event["type"] == PROGRESSED]
        assert len(told) >= 2
        assert all(at(later) - at(earlier) >= 2 for earlier, later in pairwise(told))
        shares = [event["data"]["progress"] for event in told]
        assert shares == sorted(set(shares)), "each is told once"
        assert set(shares) <= set(SHARES)
        assert {event["data"]["state"] for event in told} == {"running"}
        assert len(told) < len(asked(it.picwish, "query"))
        assert [event["type"] for event in log][-1] == "job.succeeded"
        await there.wait_for(len(told) + 1)
        assert {entry.event["id"] for entry in there.got} == {event["id"] for event in [*told, log[-1]]}
        # Who takes everything has not asked for this.
        assert {entry.event["type"] for entry in every.got} == {"job.queued", "job.submitted", "job.succeeded"}


async def test_progress_that_nobody_asked_for_by_name_is_no_event(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(30)) as it, receiver() as there:
        await it.client.subscribe(there.url, events=["*"])
        await it.client.subscribe(there.url, events=[PROGRESSED], channels=["another"])
        it.picwish.play(0, 4, 4, 4, 1)
        _, job = await it.client.submit(CUTOUT, photo)
        await in_state(it.client, job["id"], "succeeded")
        assert [event["type"] for event in await it.client.events(job["id"])] == [
            "job.queued",
            "job.submitted",
            "job.succeeded",
        ]


async def test_a_jobs_own_webhook_may_ask_for_its_progress(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(30)) as it, receiver() as there:
        it.picwish.play(0, 4, 4, 4, 4, 4, 4, 4, 1)
        own = [PROGRESSED, "job.succeeded"]
        _, job = await it.client.submit(CUTOUT, photo, webhook=there.url, webhook_events=own)
        told = await there.event_of(job["id"], PROGRESSED)
        assert told["data"]["progress"] in (0, 50)
        # The same is not said twice.
        await there.event_of(job["id"], "job.succeeded")
        shares = [entry.event["data"]["progress"] for entry in there.got if entry.event["type"] == PROGRESSED]
        assert len(set(shares)) == len(shares)
