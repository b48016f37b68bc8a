"""What the tests of replays share: an endpoint that has missed something, and a replay followed to its end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from schemas.event import EventType
from service.pipeline import samples
from service.pipeline.core import Announced
from service.store import deliveries, events
from service.store.database import Tx
from tests.acceptance.delivery_rig import Rig, rig, says
from tests.clock import ManualClock
from tests.harness import PATIENCE, Receiver

TWICE: dict[str, Any] = {"retry_schedule": [1]}  # the second failure is the last
LONG_AGO = "2020-01-01T00:00:00Z"


class ReplayRig(Rig):
    async def replay(self, endpoint: dict[str, Any], **asked: Any) -> dict[str, Any]:
        path = f"/v1/endpoints/{endpoint['id']}/replay"
        status, made = await self.client.call("POST", path, json={"since": LONG_AGO, **asked})
        assert status == (200 if asked.get("dry_run") else 202), made
        told: dict[str, Any] = made
        return told

    async def count(self, endpoint: dict[str, Any], **asked: Any) -> int:
        return int((await self.replay(endpoint, dry_run=True, **asked))["count"])

    async def look(self, replay: dict[str, Any]) -> dict[str, Any]:
        status, found = await self.client.call("GET", f"/v1/replays/{replay['id']}")
        assert status == 200
        told: dict[str, Any] = found
        return told

    async def settled(self, replay: dict[str, Any]) -> dict[str, Any]:
        """The replay once it has ended and nothing that it owes is pending."""
        async with asyncio.timeout(PATIENCE):
            while (found := await self.look(replay))["state"] == "running" or found["pending"]:
                pass
        return found

    async def replayed(self, endpoint: dict[str, Any], **asked: Any) -> dict[str, Any]:
        return await self.settled(await self.replay(endpoint, **asked))

    async def exhausted(self, events_: Sequence[str], endpoint: dict[str, Any]) -> None:
        """The receiver fails twice for each, and so each is given up."""
        self.pass_until(max([(await self.tried(event, endpoint, 1))["next_attempt_at"] for event in events_]))
        for event in events_:
            await self.until(event, endpoint, lambda found: found["state"] == "exhausted")

    async def log(self, count: int, event_type: EventType = EventType.JOB_QUEUED) -> list[str]:
        """So many events at once, about nothing, told like any others; their ids."""
        core = self.stand.wirephoto.core
        announced = await core.db.write(_log, count, event_type, core.node, self.clock.now())
        for entry in announced:
            core.tell(entry)
        return [entry.event.id for entry in announced]


async def _log(tx: Tx, count: int, event_type: EventType, node: int, now: int) -> list[Announced]:
    made, data = [], samples.sample(event_type)["data"]
    for _ in range(count):
        event = await events.add(tx, 1, event_type, data, now)
        made.append(Announced(event, await deliveries.fan_out(tx, event, node)))
    return made


@asynccontextmanager
async def replay_rig(folder: Path, clock: ManualClock | None = None, **changes: Any) -> AsyncIterator[ReplayRig]:
    async with rig(folder, clock, **{**TWICE, **changes}) as it:
        yield ReplayRig(it.stand, it.clock)


def ids(got: Receiver) -> list[str]:
    return [entry.event["id"] for entry in got.got]


def failing_times(it: Receiver, times: int) -> None:
    it.answers = [says(500)] * times
