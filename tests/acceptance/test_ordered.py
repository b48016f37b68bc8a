"""An ordered endpoint has one delivery after the other, in the sequence of its events, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.event import EventType
from service.pipeline import retry
from service.pipeline.core import Announced, Core
from service.pipeline.crew import delivery_scan
from service.pipeline.deliver import Deliver
from service.store import deliveries, events, lines, nodes
from service.store.database import Tx
from tests.acceptance.delivery_rig import FAILS, QUEUED, Gate, Rig, rig, says
from tests.clock import ManualClock
from tests.harness import PATIENCE, Receiver, Stand, receiver
from tests.store.rows import run

pytestmark = pytest.mark.anyio


def sequences(it: Receiver) -> list[int]:
    return [got.event["sequence"] for got in it.got]


def once_each(it: Receiver) -> list[str]:
    """Ids in the order in which they first came."""
    return list(dict.fromkeys(got.headers["webhook-id"] for got in it.got))


async def settled(it: Rig, *, step: int = 1000) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await it.client.call("GET", "/v1/deliveries?state=pending&limit=1"))[1]["data"]:
            await it.clock.advance(step)


async def patch(it: Rig, endpoint: dict[str, Any], **terms: Any) -> None:
    status, problem = await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json=terms)
    assert status == 200, problem


async def test_one_follows_the_other_in_sequence(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [gate] * 3
        await it.client.subscribe(shop.url, events=QUEUED, ordered=True)
        made = await asyncio.gather(*(it.event() for _ in range(12)))
        await gate.holds(1)
        await it.clock.settle()
        assert gate.inside == 1
        gate.opened.set()
        await shop.wait_for(12)
        assert gate.most == 1
        assert sequences(shop) == sorted(sequences(shop))
        assert set(once_each(shop)) == set(made)


async def test_a_retry_of_the_first_holds_up_the_rest(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(500), says(500), says(204), says(500)]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, ordered=True)
        made = [await it.event() for _ in range(3)]
        await it.tried(made[0], endpoint, 1)
        await it.clock.advance(2000)
        assert once_each(shop) == made[:1]
        assert [(await it.delivery(event, endpoint))["attempt_count"] for event in made] == [1, 0, 0]
        await settled(it)
        came = [got.headers["webhook-id"] for got in shop.got]
        assert came == [made[0], made[0], made[0], made[1], made[1], made[2]]


@pytest.mark.parametrize("ends", ["exhausted", "aborted"])
async def test_after_one_that_is_given_up_the_next_follows(tmp_path: Path, ends: str) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(500)] if ends == "exhausted" else [says(500, webhook_delivery="abort")]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, ordered=True, retry_schedule=[])
        made = [await it.event() for _ in range(3)]
        await shop.wait_for(3)
        await it.until(made[2], endpoint, lambda found: found["state"] == "delivered")
        assert once_each(shop) == made
        assert (await it.delivery(made[0], endpoint))["state"] == ends


async def test_a_restart_keeps_the_order(tmp_path: Path) -> None:
    clock = ManualClock()
    async with receiver() as shop:
        shop.answers = [says(500)] * FAILS
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(shop.url, events=QUEUED, ordered=True)
            made = [await it.event() for _ in range(4)]
            await it.tried(made[0], endpoint, 1)
        shop.answers = []
        async with rig(tmp_path, clock) as it:
            made.append(await it.event())
            await settled(it)
        assert once_each(shop) == made


async def test_what_was_held_flows_in_order_when_the_endpoint_is_resumed(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(500)]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, ordered=True)
        made = [await it.event() for _ in range(3)]
        await it.tried(made[0], endpoint, 1)
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/pause")
        made += [await it.event() for _ in range(2)]
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/resume")
        made.append(await it.event())
        await settled(it)
        assert once_each(shop) == made


async def test_a_deleted_ordered_endpoint_leaves_nothing_pending(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [gate]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, ordered=True)
        for _ in range(4):
            await it.event()
        await gate.holds(1)
        assert (await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}"))[0] == 204
        gate.opened.set()
        await settled(it)
        assert len(shop.got) == 1


# From one to the other.


async def test_from_the_moment_an_endpoint_is_ordered_one_follows_the_other(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [gate] * 4
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=4)
        made = [await it.event() for _ in range(10)]
        await gate.holds(4)
        await patch(it, endpoint, ordered=True)
        made += [await it.event() for _ in range(3)]
        gate.opened.set()
        await settled(it)
        came = [got.headers["webhook-id"] for got in shop.got]
        assert came[4:] == made[4:], "those under way counted, and no other was sent out of turn"


async def test_a_retry_waits_for_those_that_were_under_way_when_their_endpoint_became_ordered(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(500), *[gate] * 3]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=4)
        first = await it.event()
        delivery = await it.tried(first, endpoint, 1)
        for _ in range(3):
            await it.event()
        await gate.holds(3)
        await patch(it, endpoint, ordered=True)
        it.pass_until(delivery["next_attempt_at"])
        async with asyncio.timeout(PATIENCE):
            while it.stand.wirephoto.site.deliver.pending < 4:
                await it.clock.advance(100)
        # What would be out of turn would be here before this.
        assert (await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/test"))[1]["delivered"]
        assert len(shop.got) == 5, "one at a time"
        gate.opened.set()
        await settled(it)
        assert [got.headers["webhook-id"] for got in shop.got[5:]] == [first]


async def test_what_fails_while_an_endpoint_becomes_ordered_is_sent_again_in_its_turn(tmp_path: Path) -> None:
    gate = Gate()

    async def no(request: web.Request) -> web.Response:
        await gate(request)
        return web.Response(status=500)

    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [no] * 4
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=4)
        made = [await it.event() for _ in range(6)]
        await gate.holds(4)
        await patch(it, endpoint, ordered=True)
        gate.opened.set()
        await settled(it)
        assert [got.headers["webhook-id"] for got in shop.got[4:]] == made


async def test_from_the_moment_an_endpoint_is_no_longer_ordered_all_that_waited_flows(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [gate] * 8
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, ordered=True)
        made = [await it.event() for _ in range(8)]
        await gate.holds(1)
        await patch(it, endpoint, ordered=False)
        await gate.holds(8)
        gate.opened.set()
        await settled(it)
        assert sorted(got.headers["webhook-id"] for got in shop.got) == sorted(made)


async def test_nothing_is_lost_or_stuck_while_the_setting_goes_to_and_fro_under_load(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(204), says(500), says(204)] * 20
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, retry_schedule=[1] * 20)
        made: list[str] = []

        async def writes() -> None:
            made.extend([await it.event() for _ in range(6)])

        async def turns() -> None:
            for number in range(9):
                await patch(it, endpoint, ordered=number % 2 == 0)
                await it.clock.advance(500)

        await asyncio.gather(*(writes() for _ in range(4)), turns())
        await settled(it)
        assert set(once_each(shop)) == set(made)
        before, late = len(shop.got), [await it.event() for _ in range(5)]
        await settled(it)
        came = [got.headers["webhook-id"] for got in shop.got[before:]]
        assert list(dict.fromkeys(came)) == late, "it is ordered in the end"


# Two nodes on one database.


async def _event(tx: Tx, core: Core) -> Announced:
    """As a job's unit writes it."""
    event = await events.add(tx, 1, EventType.JOB_CANCELED, {}, core.clock.now())
    return Announced(event, await deliveries.fan_out(tx, event, core.node))


async def event_of(core: Core) -> str:
    """An event that this node writes."""
    announced = await core.db.write(_event, core)
    core.tell(announced)
    return announced.event.id


@asynccontextmanager
async def second_node(it: Stand, clock: ManualClock) -> AsyncIterator[Core]:
    """Another node that delivers, beside the service's own."""
    first = it.wirephoto.core
    node = await first.db.write(nodes.add, clock.now() + 1000 * retry.HOUR)
    core = replace(first, node=node)
    deliver = Deliver(core, it.wirephoto.site.destinations, retry.SCHEDULE, lambda: 0.0)
    core.hand_over = deliver.hand_over
    scan = delivery_scan(core, deliver)
    core.wake_deliveries = scan.wake
    scan.start()
    try:
        yield core
    finally:
        await scan.stop(0)
        await deliver.stop(1)


async def test_two_nodes_keep_one_order(tmp_path: Path) -> None:
    clock = ManualClock()
    async with rig(tmp_path, clock) as it, receiver() as shop, second_node(it.stand, clock) as other:
        gate = Gate()
        gate.opened.set()

        async def fails(request: web.Request) -> web.Response:
            await gate(request)
            return web.Response(status=500)

        shop.answers = [gate, fails, gate] * 12
        await it.client.subscribe(shop.url, events=["job.canceled"], ordered=True, retry_schedule=[1] * 20)
        both = (it.stand.wirephoto.core, other)
        made = await asyncio.gather(*(event_of(both[number % 2]) for number in range(24)))
        await settled(it, step=300)
        assert len(made) == len(once_each(shop)) == 24
        assert sequences(shop) == sorted(sequences(shop))
        assert gate.most == 1


async def test_a_dead_nodes_head_is_taken_over_and_the_rest_stays_in_line(tmp_path: Path) -> None:
    clock = ManualClock()
    async with rig(tmp_path, clock) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=["job.canceled"], ordered=True)
        core = it.stand.wirephoto.core
        dead = replace(core, node=await core.db.write(nodes.add, clock.now()), hand_over=lambda _: None)
        made = [await event_of(dead) for _ in range(3)]
        made.append(await event_of(core))
        await it.clock.settle()
        assert shop.got == [], "the head is in its hands"
        async with asyncio.timeout(PATIENCE):
            while len(shop.got) < 4:
                await clock.advance(1000)
        assert once_each(shop) == made
        await it.until(made[-1], endpoint, lambda found: found["state"] == "delivered")


async def test_a_line_without_its_head_is_mended(tmp_path: Path) -> None:
    clock = ManualClock()
    async with rig(tmp_path, clock) as it, receiver() as shop:
        shop.answers = [says(500)]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, ordered=True)
        made = [await it.event() for _ in range(3)]
        await it.tried(made[0], endpoint, 1)
        db = it.stand.wirephoto.core.db
        # As a fault of ours would leave it: nobody's, and not due.
        await db.write(run, "UPDATE deliveries SET head = NULL, due_at = NULL, retry_at = NULL", {})
        line = await db.read(lines.next_line, 0)
        assert line is not None
        await it.clock.advance(100_000)
        assert len(shop.got) == 1
        # With the next pass of retention.
        async with asyncio.timeout(PATIENCE):
            while len(shop.got) < 4:
                await it.clock.advance(60_000)
        assert once_each(shop) == made
        assert await db.read(lines.next_line, 0) is None
