"""What is done of a delivery is written down by the node that has it, and goes with it."""

import asyncio

import pytest

from service.pipeline.shops import Turns
from service.store import deliveries, delivery_steps, nodes
from service.store.database import Database, Tx
from tests.store.rows import MINUTE, NOW, Rows, one_row

pytestmark = pytest.mark.anyio


async def save(db: Database, delivery: int, node: int, step: str, value: str) -> bool:
    return await db.write(delivery_steps.save, delivery, node, step, value)


async def test_steps_are_kept_and_the_last_word_counts(database: Database, made: Rows) -> None:
    await made.endpoint()
    _, (owed,) = await made.event()
    assert await database.read(delivery_steps.of, owed.delivery, made.node) == {}
    assert await save(database, owed.delivery, made.node, "1.upload", "17")
    assert await save(database, owed.delivery, made.node, "1.attach", "yes")
    assert await save(database, owed.delivery, made.node, "1.upload", "18")
    assert await database.read(delivery_steps.of, owed.delivery, made.node) == {"1.upload": "18", "1.attach": "yes"}


async def test_whoever_has_lost_a_delivery_writes_nothing_of_it_down(database: Database, made: Rows) -> None:
    await made.endpoint()
    _, (owed,) = await made.event()
    assert await save(database, owed.delivery, made.node, "1.upload", "17")
    other = await database.write(nodes.add, NOW)
    await database.write(nodes.take_over_all, other, NOW)
    (taken,) = await database.write(deliveries.claim, other, NOW, 10)
    assert taken.delivery == owed.delivery
    assert not await save(database, owed.delivery, made.node, "1.upload", "18")
    assert await database.read(delivery_steps.of, owed.delivery, made.node) is None
    # The other goes on where the first was.
    assert await database.read(delivery_steps.of, owed.delivery, other) == {"1.upload": "17"}


async def test_steps_are_forgotten_with_their_delivery(database: Database, made: Rows) -> None:
    await made.endpoint()
    event, (owed,) = await made.event()
    await save(database, owed.delivery, made.node, "1.upload", "17")
    assert await database.write(deliveries.delivered, [owed.delivery], made.node, 1, NOW)
    assert not await save(database, owed.delivery, made.node, "1.upload", "18"), "it has ended"
    assert await _count(database) == 1, "for who wants it once more"
    assert await database.write(_trim, event.row) == 1
    assert await _count(database) == 0


async def _trim(tx: Tx, event: int) -> int:
    return await deliveries.trim(tx, event, NOW + MINUTE, 100)


async def _count(db: Database) -> int:
    row = await db.read(one_row, "SELECT COUNT(*) AS count FROM delivery_steps")
    return int(row["count"])


async def test_a_turn_is_one_at_a_time_for_its_key_and_nobody_elses_business() -> None:
    turn = Turns()
    async with turn("lamps/1"):
        async with turn("lamps/2"):
            pass
        with pytest.raises(TimeoutError):
            await _within_a_moment(turn, "lamps/1")
    await _within_a_moment(turn, "lamps/1")


async def _within_a_moment(turn: Turns, key: str) -> None:
    async with asyncio.timeout(0.02), turn(key):
        pass
