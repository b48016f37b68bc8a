"""What the crash tests do over and over: wait for a vendor to see something, hang it, and check a clean end."""

import asyncio

import pytest

from handlers.sandbox.faults import HANG, HANG_AFTER_WORK
from tests.crash.scene import CUTOUT, ENLARGE, Scene
from tests.harness import PATIENCE

BOTH = pytest.mark.parametrize("operation", [ENLARGE, CUTOUT])
# Each vendor's names for the same thing.
ASK = {ENLARGE: "progress", CUTOUT: "query"}
RESULT = {ENLARGE: "download", CUTOUT: "result"}
RESULTS = {ENLARGE: 1, CUTOUT: 2}
PAID = {ENLARGE: "transform", CUTOUT: "create"}


async def seen(place: Scene, operation: str, endpoint: str, count: int = 1) -> None:
    vendor = place.vanceai if operation == ENLARGE else place.picwish
    async with asyncio.timeout(PATIENCE):
        await vendor.seen(endpoint, count)


def hang(place: Scene, operation: str, endpoint: str, *, after_work: bool = False) -> None:
    vendor = place.vanceai if operation == ENLARGE else place.picwish
    vendor.faults.next(endpoint, HANG_AFTER_WORK if after_work else HANG)


async def succeeded_once(place: Scene, job_id: str, operation: str) -> None:
    """One task, one bill, whole pictures, and nobody is told of a possible duplicate."""
    job = await place.end_of(job_id)
    await place.pictures_are_whole(job)
    assert place.asked(PAID[operation]) == 1
    assert place.charges == 1
    assert job["submissions"] == 1
    assert job["billing"]["possible_duplicate"] is False
    assert job["billing"]["charged"] == "yes"
    types = [event["type"] for event in await place.log() if event["data"]["id"] == job_id]
    assert types == ["job.queued", "job.submitted", "job.succeeded"]
