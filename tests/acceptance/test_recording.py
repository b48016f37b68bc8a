"""What attempts came to is written down: many at once, each for itself, and never by sending again."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from service.pipeline.record import Tried, write_down
from service.store import endpoints
from service.store.database import Database, Unit
from tests.acceptance.delivery_rig import QUEUED
from tests.acceptance.helpers import ENLARGE
from tests.clock import ManualClock
from tests.faulty_store import bug, faulty_store
from tests.harness import PATIENCE, Client, receiver, stand
from tests.stores import Passing

pytestmark = pytest.mark.anyio

P = ParamSpec("P")
T = TypeVar("T")

NOBODY = {"image": {"url": "http://127.0.0.1:9/none.jpg"}}


async def _states(client: Client) -> dict[str, str]:
    """By endpoint."""
    status, listed = await client.call("GET", "/v1/deliveries")
    assert status == 200, listed
    return {entry["endpoint"]: entry["state"] for entry in listed["data"]}


async def test_while_the_store_is_away_an_outcome_waits_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        faulty_store(tmp_path) as store,
        stand(tmp_path, clock=clock, database=store) as it,
        receiver() as subscriber,
    ):
        endpoint = await it.client.subscribe(subscriber.url, events=QUEUED)
        struck = store.fails("record.write_down", times=5)
        await it.client.submit(ENLARGE, inputs=NOBODY)
        async with asyncio.timeout(PATIENCE):
            while (await _states(it.client))[endpoint["id"]] != "delivered":
                await clock.advance(1000)
        assert struck.count == 5
        assert len(subscriber.got) == 1


class _Gathering(Passing):
    """The first outcome is kept waiting until `most` others have come in; what is of the endpoint `bad` is refused."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner)
        self.bad = 0
        self.gathered = asyncio.Event()
        self.batches: list[int] = []

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if unit is write_down:
            tried: Sequence[Tried] = args[1]  # type: ignore[assignment]  # its second argument
            if not self.batches:
                await self.gathered.wait()
            self.batches.append(len(tried))
            if any(entry.owed.endpoint == self.bad for entry in tried):
                raise bug()
        return await super().write(unit, *args, **kwargs)


async def test_an_outcome_that_can_not_be_recorded_spoils_no_other(tmp_path: Path) -> None:
    async with (
        faulty_store(tmp_path) as inner,
        stand(tmp_path, clock=(clock := ManualClock()), database=(store := _Gathering(inner))) as it,
        receiver() as subscriber,
    ):
        made = [await it.client.subscribe(f"{subscriber.url}/{n}", events=QUEUED) for n in range(6)]
        bad = await it.wirephoto.core.db.read(endpoints.get, 1, made[3]["id"])
        assert bad is not None
        store.bad = bad.row
        await it.client.submit(ENLARGE, inputs=NOBODY)
        await subscriber.wait_for(6)
        # Each answer is a few turns of the loop away from its outcome.
        await clock.settle()
        store.gathered.set()
        others = {entry["id"] for entry in made if entry is not made[3]}
        async with asyncio.timeout(PATIENCE):
            while {name for name, state in (await _states(it.client)).items() if state == "delivered"} != others:
                pass
        assert (await _states(it.client))[made[3]["id"]] == "pending"
        assert max(store.batches) > 1, "they were tried together"
        store.bad = 0
        async with asyncio.timeout(PATIENCE):
            while (await _states(it.client))[made[3]["id"]] != "delivered":
                await clock.advance(1000)
