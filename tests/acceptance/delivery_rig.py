"""What the tests of deliveries share: a service on a clock of ours, and receivers that say what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.acceptance.helpers import ENLARGE
from tests.clock import ManualClock
from tests.harness import PATIENCE, Client, Receiver, Stand, stand

QUEUED = ["job.queued"]
FAILS = 10_000


class Rig:
    """A running service on a clock of ours, and the words that the tests say to it."""

    def __init__(self, it: Stand, clock: ManualClock) -> None:
        self.stand, self.clock = it, clock
        self.client: Client = it.client

    async def event(self) -> str:
        """Something happens; the id of its event. (The job's picture is at an address where nobody listens.)"""
        status, job = await self.client.submit(ENLARGE, inputs={"image": {"url": "http://127.0.0.1:9/none.jpg"}})
        assert status == 202, job
        (event,) = (entry for entry in await self.client.events(job["id"]) if entry["type"] == "job.queued")
        return str(event["id"])

    async def delivery(self, event: str, endpoint: dict[str, Any]) -> dict[str, Any]:
        status, listed = await self.client.call("GET", f"/v1/deliveries?event={event}&endpoint={endpoint['id']}")
        assert status == 200, listed
        (found,) = listed["data"]
        status, whole = await self.client.call("GET", f"/v1/deliveries/{found['id']}")
        assert status == 200
        delivery: dict[str, Any] = whole
        return delivery

    async def until(
        self, event: str, endpoint: dict[str, Any], holds: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The delivery once `holds` is true of it, as a user looks for it."""
        async with asyncio.timeout(PATIENCE):
            while not holds(delivery := await self.delivery(event, endpoint)):
                pass
        return delivery

    async def ledger(self, event: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Once `holds` is true of the one delivery of an event, whosever it is."""
        async with asyncio.timeout(PATIENCE):
            while True:
                _, found = await self.client.call("GET", f"/v1/events/{event}")
                (owed,) = found["deliveries"]
                if holds(owed):
                    return

    async def tried(self, event: str, endpoint: dict[str, Any], times: int) -> dict[str, Any]:
        delivery = await self.until(event, endpoint, lambda found: found["attempt_count"] >= times)
        assert delivery["attempt_count"] == len(delivery["attempts"]) == times
        return delivery

    async def endpoint(self, made: dict[str, Any]) -> dict[str, Any]:
        status, found = await self.client.call("GET", f"/v1/endpoints/{made['id']}")
        assert status == 200
        endpoint: dict[str, Any] = found
        return endpoint

    def pass_until(self, time: str) -> None:
        self.clock.leap(max(0, at(time) - self.clock.now()))


def at(time: str) -> int:
    """Milliseconds of an RFC 3339 time."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


@asynccontextmanager
async def rig(folder: Path, clock: ManualClock | None = None, **changes: Any) -> AsyncIterator[Rig]:
    clock = clock or ManualClock()
    async with stand(folder / "data", clock=clock, **changes) as it:
        yield Rig(it, clock)


def says(status: int, body: str = "", **headers: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def failing(it: Receiver, status: int = 500) -> None:
    it.answers = [says(status, "no")] * FAILS


class Gate:
    """Holds requests until it is opened, and counts how many it holds at once. `then` answers them, by default 204."""

    def __init__(self, then: Callable[[web.Request], Awaitable[web.Response]] | None = None) -> None:
        self._then = then or says(204)
        self.opened = asyncio.Event()
        self.inside = 0
        self.most = 0
        self._came = asyncio.Condition()

    async def __call__(self, request: web.Request) -> web.Response:
        self.inside += 1
        self.most = max(self.most, self.inside)
        async with self._came:
            self._came.notify_all()
        await self.opened.wait()
        self.inside -= 1
        return await self._then(request)

    async def holds(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(lambda: self.inside >= count)
