"""Killed while a vendor's no pauses its account, or while the pause ends: it is told once, and no job pays for it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from handlers.sandbox.vanceai import error
from tests.crash.scene import ENLARGE, Launch, Scene, scene
from tests.harness import PATIENCE

pytestmark = pytest.mark.anyio


async def told(place: Scene) -> list[str]:
    return [event["type"] for event in await place.log() if event["type"].startswith("vendor.")]


async def vendor(place: Scene) -> dict[str, Any]:
    _, page = await place.client.call("GET", "/v1/vendors")
    found: dict[str, Any] = next(entry for entry in page["data"] if entry["id"] == "vanceai")
    return found


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Each look is a request of its own."""
    async with asyncio.timeout(PATIENCE):
        while not await look():
            pass


async def paused(place: Scene) -> bool:
    return bool((await vendor(place))["state"] == "paused")


def refuse(place: Scene) -> None:
    """The key, from now on."""
    place.vanceai.faults.next("upload", error(30001), times=99)


async def mend(place: Scene) -> None:
    place.vanceai.faults.clear()
    # Whatever dies of it may die before it has answered.
    with suppress(aiohttp.ClientError):
        await place.client.call("POST", "/v1/vendors/vanceai/probe")


async def ended_well(place: Scene, job_id: str) -> None:
    job = await place.end_of(job_id)
    await place.pictures_are_whole(job)
    await place.receiver.wait_for(1, "vendor.recovered")
    await place.all_was_told()
    assert await told(place) == ["vendor.unavailable", "vendor.recovered"]
    assert place.charges == 1
    assert job["billing"]["possible_duplicate"] is False


@pytest.mark.parametrize("die", ["before:trouble._settle:1", "after:trouble._settle:1", "before:submit._later:1"])
async def test_a_pause_is_told_once_wherever_it_was_cut_off(
    launch: Launch, data_dir: Path, photo: Path, die: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start(die)
        await place.subscribe("job.*", "vendor.*")
        refuse(place)
        job_id = await place.submit(ENLARGE)
        await service.killed()
        await place.start()
        await place.receiver.wait_for(1, "vendor.unavailable")
        assert await paused(place)
        assert await told(place) == ["vendor.unavailable"]
        assert (await place.client.job(job_id))["state"] == "queued"
        await mend(place)
        await ended_well(place, job_id)


@pytest.mark.parametrize("die", ["before:vendor_troubles.probing:1", "after:vendor_troubles.probing:1"])
async def test_a_probe_that_was_cut_off_is_made_again(launch: Launch, data_dir: Path, photo: Path, die: str) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start(die)
        await place.subscribe("job.*", "vendor.*")
        refuse(place)
        job_id = await place.submit(ENLARGE)
        await until(lambda: paused(place))
        await mend(place)
        await service.killed()
        await place.start()
        await mend(place)
        await ended_well(place, job_id)


@pytest.mark.parametrize("die", ["before:trouble._settle:2", "after:trouble._settle:2"])
async def test_the_end_of_a_pause_is_told_once_wherever_it_was_cut_off(
    launch: Launch, data_dir: Path, photo: Path, die: str
) -> None:
    async with scene(launch, data_dir, photo, VANCEAI__WATCHDOG_SECONDS="0.3") as place:
        service = await place.start(die)
        await place.subscribe("job.*", "vendor.*")
        refuse(place)
        job_id = await place.submit(ENLARGE)
        await until(lambda: paused(place))
        await mend(place)
        await service.killed()
        await place.start()
        await mend(place)
        job = await place.end_of(job_id)
        await place.receiver.wait_for(1, "vendor.recovered")
        await place.all_was_told()
        assert await told(place) == ["vendor.unavailable", "vendor.recovered"]
        # The vendor's yes to the paid call may not have been written down yet: that is said, as ever.
        assert place.charges == 1
        assert job["state"] == "succeeded"
