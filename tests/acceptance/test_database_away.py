"""A PostgreSQL server that goes away under the running service: what was acknowledged is done once it is back."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from service.clock import SystemClock
from tests import stores
from tests.acceptance.helpers import CUTOUT, ENLARGE, SOON, only_end
from tests.harness import PATIENCE, Receiver, Stand, receiver, stand
from tests.postgres import Server, server

pytestmark = pytest.mark.anyio

JOBS = 8


@pytest.fixture
def everywhere() -> Iterator[str]:
    """A server for this test alone, with fsync as in life."""
    with server(fast=False) as fragile:
        stores.use(fragile)
        yield "postgres"
        stores.use(None)


@dataclass
class Scene:
    it: Stand
    told: Receiver
    fragile: Server
    photo: Path

    async def submitted(self, key: str | None = None) -> list[str]:
        """As a client that goes on until it has its answer: the acknowledged jobs' ids."""
        answers = await asyncio.gather(
            *(
                self.insisted(operation, f"{key or secrets.token_hex(4)}-{number}")
                for number in range(JOBS // 2)
                for operation in (ENLARGE, CUTOUT)
            )
        )
        return [answer for answer in answers if answer is not None]

    async def insisted(self, operation: str, key: str) -> str:
        async with asyncio.timeout(4 * PATIENCE):
            while True:
                headers = {"Idempotency-Key": f"{operation}-{key}"}
                try:
                    status, job = await self.it.client.submit(operation, self.photo, headers=headers)
                except aiohttp.ClientError:
                    # A connection that was just being closed for having been idle.
                    continue
                if status in (200, 202):
                    return str(job["id"])
                assert (status, job["type"]) == (503, "urn:wirephoto:problem:unavailable"), job

    async def until_refused(self) -> None:
        """Until the service itself says that it is not ready."""
        async with asyncio.timeout(PATIENCE):
            while (await self.it.client.call("GET", "/readyz"))[0] != 503:
                pass

    async def all_ended_once(self, jobs: list[str]) -> None:
        for job in jobs:
            await self.told.event_of(job, "job.succeeded")
            await only_end(self.it.client, job)
        assert len(set(jobs)) == len(jobs)
        assert len(self.it.vanceai.charged) + len(self.it.picwish.charged) == len(jobs)
        assert self.it.vanceai.violations == self.it.picwish.violations == []


@pytest.fixture
async def scene(tmp_path: Path, photo: Path, everywhere: str) -> AsyncIterator[Scene]:  # noqa: ARG001 - the server
    fragile = stores.in_use()
    async with stand(tmp_path, **SOON) as it, receiver() as told:
        await it.client.subscribe(told.url, events=["job.*"])
        yield Scene(it, told, fragile, photo)


@pytest.mark.again
@pytest.mark.parametrize("end", [Server.stop, Server.kill])
async def test_jobs_under_way_end_when_the_server_is_back_and_nothing_is_paid_twice(
    scene: Scene, end: Callable[[Server], None]
) -> None:
    jobs = await scene.submitted()
    await asyncio.to_thread(end, scene.fragile)
    await scene.until_refused()
    waiting = asyncio.create_task(scene.submitted())
    await asyncio.to_thread(scene.fragile.start)
    jobs += await waiting
    await scene.all_ended_once(jobs)


@pytest.mark.slow
async def test_thirty_seconds_without_a_server_lose_nothing_and_need_no_restart(scene: Scene) -> None:
    jobs = await scene.submitted()
    waiting = asyncio.create_task(scene.submitted("during"))
    await asyncio.to_thread(scene.fragile.kill)
    clock = SystemClock()
    await clock.sleep(30)
    await asyncio.to_thread(scene.fragile.start)
    jobs += await waiting
    jobs += await scene.submitted("after")
    await scene.all_ended_once(jobs)
    status, ready = await scene.it.client.call("GET", "/readyz")
    assert status == 200, ready
