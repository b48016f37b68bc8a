"""Killed again and again at random instants, under load: then count what became of everything that was acknowledged."""

import asyncio
import contextlib
import random
from pathlib import Path

import aiohttp
import pytest

from tests.crash.scene import CUTOUT, ENLARGE, Launch, Scene, scene
from tests.harness import TERMINAL

pytestmark = pytest.mark.anyio

QPS = 10


class Ordeal:
    """The kills are driven by what vendors and subscriber see: so many more requests, then death."""

    def __init__(self, place: Scene, rng: random.Random) -> None:
        self._place = place
        self._rng = rng
        self._up = asyncio.Event()
        self.acknowledged: list[str] = []

    @property
    def _seen(self) -> int:
        place = self._place
        return len(place.vanceai.requests) + len(place.picwish.requests) + len(place.receiver.got)

    async def submit(self, count: int) -> None:
        for number in range(count):
            key = {"Idempotency-Key": f"job-{number}"}
            operation = self._rng.choice([ENLARGE, CUTOUT])
            while True:
                await self._up.wait()
                with contextlib.suppress(aiohttp.ClientError):
                    status, job = await self._place.client.submit(operation, self._place.photo, headers=key)
                    assert status in (200, 202), job
                    self.acknowledged.append(job["id"])
                    break

    async def die(self, kills: int, least: int, most: int) -> None:
        service = await self._place.start()
        await self._place.subscribe()
        self._up.set()
        for _ in range(kills):
            await self._more(self._rng.randint(least, most))
            self._up.clear()
            await service.kill()
            service = await self._place.start()
            self._up.set()

    async def _more(self, requests: int) -> None:
        """Until so many more have come, to whomever."""
        until = self._seen + requests

        def reached() -> bool | None:
            return self._seen >= until or None

        waiting = {
            asyncio.create_task(self._place.vanceai.bell.until(reached)),
            asyncio.create_task(self._place.picwish.bell.until(reached)),
            asyncio.create_task(self._place.receiver.until(lambda: bool(reached()), patience=60)),
        }
        done, late = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in done:
            task.result()

    async def all_ended(self, patience: float) -> None:
        def ended() -> bool:
            told = (entry.event for entry in self._place.receiver.got)
            return set(self.acknowledged) <= {event["data"]["id"] for event in told if event["type"] in TERMINAL}

        await self._place.receiver.until(ended, patience)


async def endure(
    launch: Launch, data_dir: Path, photo: Path, *, seed: int, jobs: int, kills: int, gaps: tuple[int, int]
) -> None:
    """`gaps`: how many requests are seen from one kill to the next, at least and at most."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with scene(
        launch,
        data_dir,
        photo,
        work=lambda: rng.uniform(0, 0.3),
        qps=QPS,
        VANCEAI__WATCHDOG_SECONDS="1",
        PICWISH__CALL_SECONDS="2",
        RETRY_SCHEDULE="0.2,0.5,1,1,1,1,1,1,1,1",
    ) as place:
        ordeal = Ordeal(place, rng)
        async with asyncio.TaskGroup() as group:
            group.create_task(ordeal.submit(jobs))
            group.create_task(ordeal.die(kills, *gaps))
        assert len(set(ordeal.acknowledged)) == jobs
        await ordeal.all_ended(patience=120)
        await place.all_was_told()
        log = await place.log()
        ended = [event["data"]["id"] for event in log if event["type"] in TERMINAL]
        assert sorted(ended) == sorted(ordeal.acknowledged)
        repeated = 0
        for job_id in ordeal.acknowledged:
            job = await place.client.job(job_id)
            repeated += job["billing"]["possible_duplicate"]
            if job["state"] == "succeeded":
                await place.pictures_are_whole(job)
            else:
                # Only a job whose paid call was cut off twice may fail, and says so.
                assert (job["error"]["class"], job["submissions"]) == ("unconfirmed", 2), job["error"]
        assert place.charges <= jobs + repeated
        # The scene's end looks whether PicWish's rate was kept across the restarts.


async def test_nothing_acknowledged_is_lost_in_five_kills(launch: Launch, data_dir: Path, photo: Path) -> None:
    await endure(launch, data_dir, photo, seed=1935, jobs=20, kills=5, gaps=(8, 25))


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_in_twenty_kills(launch: Launch, data_dir: Path, photo: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    await endure(launch, data_dir, photo, seed=seed, jobs=100, kills=20, gaps=(10, 40))
