"""Many deliveries in one statement: each is still its own."""

import pytest

from schemas.delivery import DeliveryState
from service.store import deliveries, endpoints, nodes
from tests.store.rows import NOW, Rows

pytestmark = pytest.mark.anyio


async def test_a_fan_out_owes_each_endpoint_one_delivery_and_holds_what_a_disabled_one_is_owed(made: Rows) -> None:
    subscribers = [await made.endpoint() for _ in range(40)]
    for endpoint in subscribers[::4]:
        await made.db.write(endpoints.disable, endpoint.row, "gone", NOW)
    event, owed = await made.event()
    assert [entry.endpoint for entry in owed] == [entry.row for n, entry in enumerate(subscribers) if n % 4]
    kept = await made.db.read(deliveries.of_event, event.row)
    assert {entry.endpoint: entry.state for entry in kept} == {
        entry.id: DeliveryState.PENDING if n % 4 else DeliveryState.HELD for n, entry in enumerate(subscribers)
    }
    assert len({entry.id for entry in kept}) == 40


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
async def test_many_are_settled_at_once_but_only_by_their_node_and_only_once(made: Rows, count: int) -> None:
    for _ in range(count):
        await made.endpoint()
    event, owed = await made.event()
    rows = [entry.delivery for entry in owed]
    other = await made.db.write(nodes.add, NOW)
    assert await made.db.write(deliveries.delivered, rows, other, 1, NOW) == []
    assert {entry.delivery for entry in await made.db.write(deliveries.delivered, rows, made.node, 1, NOW)} == set(rows)
    assert await made.db.write(deliveries.delivered, rows, made.node, 2, NOW) == []
    settled = await made.db.read(deliveries.of_event, event.row)
    assert {(entry.state, entry.attempts, entry.finished_at) for entry in settled} == {
        (DeliveryState.DELIVERED, 1, NOW)
    }


async def test_of_many_those_that_another_node_has_taken_are_left_to_it(made: Rows) -> None:
    for _ in range(6):
        await made.endpoint()
    _, owed = await made.event()
    rows = [entry.delivery for entry in owed]
    for taken in rows[:2]:
        await made.db.write(deliveries.let_go, taken, made.node, NOW)
    other = await made.db.write(nodes.add, NOW)
    assert len(await made.db.write(deliveries.claim, other, NOW, 10)) == 2
    settled = await made.db.write(deliveries.delivered, rows, made.node, 1, NOW)
    assert {entry.delivery for entry in settled} == set(rows[2:])
    for row in rows[:2]:
        assert (await made.db.read(deliveries.by_row, row)).state is DeliveryState.PENDING
