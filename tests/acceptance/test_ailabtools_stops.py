"""AILabTools over stops and starts: what is under way goes on, and is paid for once."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.helpers import asked, begun, failed_with, in_state, only_end, pictures, reached
from tests.acceptance.test_ailabtools import REFINE, RETOUCH, SIZE, Scene, photographs_of, sandbox_at, service_at
from tests.fast_clock import FastClock
from tests.harness import receiver

pytestmark = pytest.mark.anyio


@pytest.fixture
def photographs(photos: Path, tmp_path: Path) -> Mapping[str, bytes]:
    return photographs_of(photos, tmp_path)


async def test_a_stop_waits_for_a_retouch_that_is_under_way(
    tmp_path: Path, photographs: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its paid call blocks until the picture is done: cut off after what others may take, it would be paid twice."""
    monkeypatch.setattr("service.app.GRACE_SECONDS", 0.1)
    clock, release = FastClock(1), asyncio.Event()
    async with sandbox_at(clock, work_seconds=release.wait) as vendor:
        async with service_at(tmp_path, clock, vendor, call_seconds=0.1, blocking_call_seconds=60) as it:
            at = Scene(it, vendor, photographs, clock)
            job_id = await begun(it.client, RETOUCH, None, **await at.job(RETOUCH))
            await reached(vendor, "retouch")
            asyncio.get_running_loop().call_later(0.6, release.set)
        async with service_at(tmp_path, clock, vendor) as it:
            job = await in_state(it.client, job_id, "succeeded")
            assert (job["submissions"], len(vendor.charged)) == (1, 1)
            assert job["billing"] == {"credits": "3", "charged": "yes", "possible_duplicate": False}


async def test_a_restart_goes_on_asking_for_the_same_task(tmp_path: Path, photographs: Mapping[str, bytes]) -> None:
    clock, release = FastClock(100), asyncio.Event()
    async with sandbox_at(clock, work_seconds=release.wait) as vendor:
        async with service_at(tmp_path, clock, vendor) as it:
            at = Scene(it, vendor, photographs, clock)
            job_id = await begun(it.client, REFINE, None, **await at.job(REFINE))
            await reached(vendor, "query")
        release.set()
        async with service_at(tmp_path, clock, vendor) as it, receiver() as subscriber:
            await it.client.subscribe(subscriber.url, events=["job.succeeded", "job.failed"])
            if (await it.client.job(job_id))["finished_at"] is None:
                await subscriber.event_of(job_id)
            job = await it.client.job(job_id)
            assert (await pictures(it.client, job))["image"].size == SIZE
            assert job["submissions"] == len(asked(vendor, "refine")) == len(vendor.charged) == 1
            await only_end(it.client, job_id)
            assert vendor.violations == []


async def test_a_task_that_was_asked_for_a_day_too_late_is_expired(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    clock, release = FastClock(100), asyncio.Event()
    async with sandbox_at(clock, work_seconds=release.wait) as vendor:
        async with service_at(tmp_path, clock, vendor) as it:
            at = Scene(it, vendor, photographs, clock)
            job_id = await begun(it.client, REFINE, None, **await at.job(REFINE))
            await reached(vendor, "query")
        release.set()
        (task,) = vendor.tasks.values()
        await task.ended.wait()
        clock.jump(25 * 3600)
        async with service_at(tmp_path, clock, vendor) as it, receiver() as subscriber:
            await it.client.subscribe(subscriber.url, events=["job.failed"])
            if (await it.client.job(job_id))["finished_at"] is None:
                await subscriber.event_of(job_id)
            job = await it.client.job(job_id)
            await failed_with(it.client, job, "expired", "ERROR_RESOURCE_NOT_FOUND")
            assert job["billing"]["charged"] == "unknown"
