"""Many receivers at once: what they take of us is bounded, and none takes it from another."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.destinations.contract import Message
from schemas.event import EventType
from service.pipeline import retry
from service.pipeline.core import Announced, Core
from service.pipeline.deliver import Deliver
from service.pipeline.lane import Lane
from service.store import deliveries, endpoints, events
from service.store.database import Tx
from tests.acceptance.delivery_rig import FAILS, QUEUED, Gate, failing, rig, says
from tests.acceptance.helpers import ENLARGE
from tests.clock import ManualClock
from tests.harness import PATIENCE, Stand, receiver, stand

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
MESSAGE_BYTES_IN_MEMORY = 16 * MIB


async def _tell(tx: Tx, core: Core, event_type: EventType, data: dict[str, Any]) -> Announced:
    """An event of any size, as a job's would be written."""
    event = await events.add(tx, 1, event_type, data, core.clock.now())
    return Announced(event, await deliveries.fan_out(tx, event, core.node))


async def tell(it: Stand, event_type: EventType = EventType.JOB_CANCELED, **data: Any) -> str:
    core = it.wirephoto.core
    announced = await core.db.write(_tell, core, event_type, data)
    core.tell(announced)
    return announced.event.id


def living(kind: type[Any]) -> list[Any]:
    gc.collect()
    return [found for found in gc.get_objects() if type(found) is kind]


async def _until_lanes(hold: Callable[[Lane], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not all(hold(lane) for lane in living(Lane)):
            await asyncio.to_thread(gc.collect)


async def _come_to(lanes: int) -> None:
    """Wait until there are so many lanes. An attempt's end is a few steps of the loop behind its answer."""
    async with asyncio.timeout(PATIENCE):
        while len(living(Lane)) != lanes:
            await asyncio.to_thread(gc.collect)


# What is kept in memory.


async def test_bodies_kept_in_memory_are_bounded_and_every_one_is_delivered(tmp_path: Path) -> None:
    body = "x" * 700_000
    count = 3 * MESSAGE_BYTES_IN_MEMORY // len(body) // 2
    gate = Gate()
    async with stand(tmp_path) as it, receiver() as slow:
        slow.answers = [gate]
        endpoint = await it.client.subscribe(slow.url, events=["job.canceled"], max_in_flight=1)
        told = [await tell(it, body=body) for _ in range(count)]
        await gate.holds(1)
        kept = sum(len(message.body) for message in living(Message))
        # And the one that is under way.
        assert kept <= MESSAGE_BYTES_IN_MEMORY + MIB
        assert count * len(body) > MESSAGE_BYTES_IN_MEMORY + 5 * MIB, "more than that was told"
        gate.opened.set()
        got = await slow.wait_for(count)
        assert [entry.verified(endpoint["secret"])["id"] for entry in got] == told


async def test_a_jobs_own_webhook_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    before = len(living(Lane))
    async with rig(tmp_path) as it, receiver() as gone:
        gone.answers = [says(410)] * FAILS
        for _ in range(5):
            await it.client.submit(
                ENLARGE,
                inputs={"image": {"url": "http://127.0.0.1:9/none.jpg"}},
                webhook=gone.url,
                webhook_events=QUEUED,
            )
        await gone.wait_for(5)
        await _come_to(before)


async def test_a_failing_receivers_lane_is_forgotten_with_its_endpoint(tmp_path: Path) -> None:
    before = len(living(Lane))
    async with rig(tmp_path) as it, receiver() as bad:
        failing(bad)
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        event = await it.event()
        await it.tried(event, endpoint, 1)
        assert len(living(Lane)) == before + 1, "what is known of a failing receiver is kept"
        assert (await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}"))[0] == 204
        await _come_to(before)


# A rest that a receiver asked for.


async def test_a_new_address_ends_the_rest_that_the_old_one_asked_for(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as busy, receiver() as idle:
        busy.answers = [says(429, Retry_After="3600")] * FAILS
        endpoint = await it.client.subscribe(busy.url, events=QUEUED)
        await it.tried(await it.event(), endpoint, 1)
        waiting = [await it.event() for _ in range(3)]
        status, _ = await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": idle.url})
        assert status == 200
        # No time has passed.
        got = await idle.wait_for(3)
        assert sorted(entry.event["id"] for entry in got) == sorted(waiting)
        assert len(busy.got) == 1


# Attempts under way.


@asynccontextmanager
async def bounded(folder: Path, most: int) -> AsyncIterator[tuple[Stand, Deliver]]:
    """A service that has at most so many attempts under way."""
    async with stand(folder, clock=ManualClock()) as it:
        core, site = it.wirephoto.core, it.wirephoto.site
        deliver = Deliver(core, site.destinations, retry.SCHEDULE, lambda: 0.0, most_under_way=most)
        core.hand_over = deliver.hand_over
        try:
            yield it, deliver
        finally:
            await deliver.stop(1)


async def test_receivers_that_hang_leave_room_for_one_that_does_not_and_the_bound_is_kept(tmp_path: Path) -> None:
    most = 64
    gate = Gate()
    async with bounded(tmp_path, most) as (it, _), receiver() as hanging, receiver() as healthy:
        hanging.answers = [gate] * FAILS
        for n in range(6):
            await it.client.subscribe(f"{hanging.url}/{n}", events=["job.canceled"])
        await it.client.subscribe(healthy.url, events=["job.canceled"])
        told = [await tell(it, n=n) for n in range(20)]
        got = await healthy.wait_for(20)
        assert sorted(entry.event["id"] for entry in got) == sorted(told)
        await gate.holds(most // 2)
        assert gate.most < most
        gate.opened.set()
        await hanging.wait_for(6 * 20)
        assert gate.most <= most


@pytest.mark.parametrize("most", [1, 3])
async def test_whoever_waits_for_room_has_it_in_the_end(tmp_path: Path, most: int) -> None:
    gate = Gate()
    async with bounded(tmp_path, most) as (it, _), receiver() as busy:
        busy.answers = [gate] * FAILS
        for n in range(8):
            await it.client.subscribe(f"{busy.url}/{n}", events=["job.canceled"])
        told = [await tell(it, n=n) for n in range(5)]
        await gate.holds(most)
        gate.opened.set()
        got = await busy.wait_for(8 * 5)
        assert sorted(entry.event["id"] for entry in got) == sorted(told * 8)
        assert gate.most == most


async def test_a_lane_that_needs_its_room_no_more_leaves_it_to_the_next(tmp_path: Path) -> None:
    gate = Gate()
    async with bounded(tmp_path, 1) as (it, deliver), receiver() as busy, receiver() as later:
        busy.answers = [gate]
        await it.client.subscribe(busy.url, events=["job.failed"])
        await tell(it, EventType.JOB_FAILED)
        await gate.holds(1)
        line = []
        for url in (busy.url, later.url):
            line.append((await it.client.subscribe(url, events=["job.canceled"]))["id"])
            await tell(it)
            await _until_lanes(lambda lane: lane.endpoint is not None)
        # The first in the line goes away while it waits.
        leaving = await it.wirephoto.core.db.read(endpoints.get, 1, line[0])
        assert leaving is not None
        assert (await it.client.call("DELETE", f"/v1/endpoints/{leaving.id}"))[0] == 204
        deliver.endpoint_changed(leaving.row)
        await _until_lanes(lambda lane: lane.row != leaving.row or not lane.waiting)
        gate.opened.set()
        await later.wait_for(1)
        assert len(busy.got) == 1
