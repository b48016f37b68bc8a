"""Each place at a shop shows what the log has last for it: known from the events, whichever delivery comes last."""

import pytest

from schemas.delivery import DeliveryState, Owed
from schemas.event import Event
from service.store import deliveries, delivery_steps, endpoints, events, nodes
from service.store.database import Database, Tx
from service.store.deliveries import Again
from tests.store.rows import MINUTE, NOW, Rows, one_row, run

pytestmark = pytest.mark.anyio

PLACE, OTHER = "lamps/1", "lamps/2"


async def two(made: Rows) -> tuple[Owed, Owed]:
    """Of two events the older one's delivery, and the newer one's, which was written a minute later."""
    await made.endpoint()
    _, (old,) = await made.event()
    event, (new,) = await made.event()
    await made.db.write(run, "UPDATE events SET created_at = :at WHERE id = :id", {"at": NOW + MINUTE, "id": event.row})
    return old, new


async def overtaken(db: Database, owed: Owed, place: str = PLACE) -> bool:
    return await db.read(delivery_steps.overtaken, owed.delivery, place)


async def arrived(db: Database, owed: Owed, node: int, place: str = PLACE) -> bool:
    return await db.write(delivery_steps.arrived, owed.delivery, node, place)


async def test_an_older_event_is_overtaken_where_a_newer_one_has_arrived_and_nowhere_else(
    database: Database, made: Rows
) -> None:
    old, new = await two(made)
    assert not await overtaken(database, old)
    assert await arrived(database, new, made.node)
    assert await overtaken(database, old)
    assert not await overtaken(database, new), "by itself"
    assert not await overtaken(database, old, OTHER)


async def test_a_place_remembers_the_newest_whichever_came_last(database: Database, made: Rows) -> None:
    old, new = await two(made)
    assert await arrived(database, old, made.node)
    assert not await overtaken(database, new)
    assert await arrived(database, new, made.node)
    assert await arrived(database, old, made.node), "it was put there, by whose wish ever"
    assert await overtaken(database, old)


async def test_endpoints_do_not_overtake_each_other(database: Database, made: Rows) -> None:
    await made.endpoint()
    await made.endpoint()
    _, (old, _) = await made.event()
    _, (_, other) = await made.event()
    assert await arrived(database, other, made.node)
    assert not await overtaken(database, old)


async def test_who_is_chosen_is_overtaken_by_what_comes_after_the_choice_alone(database: Database, made: Rows) -> None:
    old, new = await two(made)
    assert await arrived(database, new, made.node)
    await database.write(deliveries.choose, old.delivery, NOW + MINUTE)
    assert not await overtaken(database, old)
    await database.write(deliveries.choose, old.delivery, NOW + MINUTE - 1)
    assert await overtaken(database, old)


async def test_a_replay_takes_a_choice_back(database: Database, made: Rows) -> None:
    old, new = await two(made)
    assert await arrived(database, new, made.node)
    await database.write(deliveries.delivered, [old.delivery], made.node, 1, NOW)
    await database.write(deliveries.choose, old.delivery, NOW + 2 * MINUTE)
    how = Again(DeliveryState.PENDING, NOW + 3 * MINUTE, NOW, replay=1)
    assert await database.write(deliveries.reopen, old.delivery, how)
    assert await overtaken(database, old)


async def test_whoever_has_lost_a_delivery_writes_no_place_down(database: Database, made: Rows) -> None:
    old, new = await two(made)
    other = await database.write(nodes.add, NOW)
    await database.write(nodes.take_over_all, other, NOW)
    await database.write(deliveries.claim, other, NOW, 10)
    assert not await arrived(database, new, made.node)
    assert not await overtaken(database, old)


async def test_places_are_forgotten_with_the_event_that_they_show(database: Database, made: Rows) -> None:
    await made.endpoint()
    event, (owed,) = await made.event()
    await made.event()
    assert await arrived(database, owed, made.node)
    await database.write(deliveries.delivered, [owed.delivery], made.node, 1, NOW)
    assert await _places(database) == 1
    assert await database.write(_cut_off, event)
    assert await _places(database) == 0


async def _cut_off(tx: Tx, event: Event) -> bool:
    await deliveries.trim(tx, event.row, NOW + MINUTE, 100)
    return await events.remove(tx, event.row, NOW + MINUTE)


async def test_places_do_not_keep_an_endpoint_that_was_deleted(database: Database, made: Rows) -> None:
    endpoint = await made.endpoint()
    _, (owed,) = await made.event()
    assert await arrived(database, owed, made.node)
    await database.write(run, "DELETE FROM deliveries", {})
    await database.write(endpoints.delete, endpoint.row, NOW)
    await database.write(run, "DELETE FROM endpoints WHERE id = :id", {"id": endpoint.row})
    assert await _places(database) == 0


async def _places(db: Database) -> int:
    return int((await db.read(one_row, "SELECT COUNT(*) AS count FROM shown_at_shops"))["count"])
