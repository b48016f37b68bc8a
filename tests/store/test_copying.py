"""Rows copied from a SQLite file into a store of either kind, and what the store does with them afterwards."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from schemas.job import Charged
from service.store import copying, jobs, sqlite
from service.store.copying import Table
from service.store.database import Database, Reader, Row, Tx
from service.store.migrate import migrate
from service.store.sqlite import Sqlite
from tests.store.rows import NOW, Rows, rows

pytestmark = pytest.mark.anyio

MANY = 450  # more than two pages


async def everything(reader: Reader, of: list[Table]) -> dict[str, list[Row]]:
    """All rows, by table, in the order of their keys."""
    found: dict[str, list[Row]] = {}
    for table in of:
        query = f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {', '.join(table.key)}"
        found[table.name] = [dict(row) for row in await reader.all(query, {})]
    return found


async def copied(tx: Tx, source: Reader, of: list[Table]) -> list[int]:
    told: list[int] = []
    await copying.copy(source, tx, of, told.append)
    return told


async def is_empty(reader: Reader, of: list[Table]) -> bool:
    return await copying.is_empty(reader, of)


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A closed SQLite store with rows in most tables."""
    path = tmp_path / "source.sqlite3"
    db = Sqlite(path)
    await db.open()
    try:
        await migrate(db, NOW)
        made = await rows(db)
        await made.endpoint()
        await made.running_job()
        for _ in range(MANY):
            await made.event()
    finally:
        await db.close()
    return path


async def test_every_row_arrives_as_it_was_and_new_ones_follow(file: Path, database: Database) -> None:
    with sqlite.alone(file) as source:
        of = await copying.tables(source)
        before = await everything(source, of)
        assert await database.read(is_empty, of)
        told = await database.write(copied, source, of)
        counts = await copying.counts(source, of)
    assert told[-1] == sum(counts.values()) > MANY
    assert told == sorted(told)
    assert await database.read(everything, of) == before
    assert not await database.read(is_empty, of)
    # A store that numbered on from 1 would refuse these.
    made = Rows(database, before["projects"][0]["id"], before["nodes"][0]["id"])
    await made.running_job()
    event, _ = await made.event()
    assert event.row > before["events"][-1]["id"]
    assert event.sequence == before["events"][-1]["sequence"] + 1


async def test_a_copy_that_breaks_off_leaves_nothing(file: Path, database: Database) -> None:
    async def breaking(tx: Tx, source: Reader, of: list[Table]) -> None:
        await copied(tx, source, of)
        raise RuntimeError("broken off")

    with sqlite.alone(file) as source:
        of = await copying.tables(source)
        with pytest.raises(RuntimeError, match="broken off"):
            await database.write(breaking, source, of)
    assert await database.read(is_empty, of)


async def test_who_is_referred_to_comes_first_and_no_table_is_forgotten(file: Path) -> None:
    with sqlite.alone(file) as source:
        order = [table.name for table in await copying.tables(source)]
    with closing(sqlite3.connect(file)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {*order} == names - {copying.LEDGER}
        for table in order:
            for _, _, parent, *_ in connection.execute(f"PRAGMA foreign_key_list({table})"):
                assert order.index(parent) <= order.index(table)


async def test_a_snapshot_of_a_store_at_work_is_one_instant_of_it(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    db = Sqlite(file)

    async def at_work(tx: Tx) -> None:
        await tx.run("DELETE FROM deliveries", {})
        sqlite.snapshot(file, copy)  # what is not committed is not in it

    await db.open()
    try:
        await db.write(at_work)
    finally:
        await db.close()
    with sqlite.alone(copy) as reader:
        counts = await copying.counts(reader, await copying.tables(reader))
    assert counts["deliveries"] == MANY


async def test_a_snapshot_that_nobody_wants_any_more_ends_soon(file: Path, tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        sqlite.snapshot(file, tmp_path / "copy.sqlite3", lambda: True)


async def test_what_waits_in_a_restored_store_may_be_paid_for_twice_and_says_so(made: Rows) -> None:
    running, _ = await made.running_job()
    waiting = await made.job()
    assert await made.db.write(jobs.doubt_waiting, NOW) >= 1
    doubted = await made.db.read(jobs.by_row, waiting.row)
    assert (doubted.possible_duplicate_at, doubted.charged) == (NOW, Charged.UNKNOWN)
    # What the vendor has is asked for, and paid once.
    assert (await made.db.read(jobs.by_row, running.row)).possible_duplicate_at is None
