"""What every database of ours promises to the units and queries that run on it."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.store.database import Database, Locked, Reader, StoreUnavailable, Tx
from service.store.sqlite import READERS, Sqlite
from tests.store.rows import BROKEN_RULE, REFUSED_SQL, all_rows, one_row, run

pytestmark = pytest.mark.anyio

PUT = "INSERT INTO meta (name, value) VALUES (:name, :value)"
FOUND = "SELECT name, value FROM meta ORDER BY name"


class Refused(Exception):
    """What a unit of these tests fails with."""


async def put(tx: Tx, *names: str) -> tuple[str, ...]:
    for name in names:
        await tx.run(PUT, {"name": name, "value": "1"})
    return names


async def put_and_fail(tx: Tx, name: str) -> None:
    await put(tx, name)
    raise Refused(name)


async def names(reader: Reader) -> list[str]:
    return [row["name"] for row in await reader.all(FOUND, {})]


async def test_a_unit_commits_as_a_whole_or_not_at_all(database: Database) -> None:
    assert await database.write(put, "a", "b") == ("a", "b")
    with pytest.raises(Refused):
        await database.write(put_and_fail, "c")
    with pytest.raises(BROKEN_RULE):
        await database.write(put, "d", "a")
    assert await database.read(names) == ["a", "b"]


async def test_reads_see_all_that_was_committed_before_them(database: Database) -> None:
    for n in range(50):
        await database.write(put, f"{n:02}")
        seen = await asyncio.gather(*(database.read(names) for _ in range(READERS + 1)))
        assert all(len(found) == n + 1 for found in seen)


async def test_a_query_sees_one_state_however_long_it_takes(database: Database) -> None:
    await database.write(put, "a")
    looked, committed = threading.Event(), threading.Event()

    async def twice(reader: Reader) -> tuple[list[str], list[str]]:
        before = await names(reader)
        looked.set()
        while not committed.is_set():
            # A query awaits nothing but its reader.
            await reader.one("SELECT 1 AS one", {})
        return before, await names(reader)

    async with asyncio.timeout(10):
        reading = asyncio.create_task(database.read(twice))
        await asyncio.to_thread(looked.wait)
        await database.write(put, "b")
        committed.set()
        assert await reading == (["a"], ["a"])
    assert await database.read(names) == ["a", "b"]


async def test_a_query_can_change_nothing(database: Database) -> None:
    with pytest.raises(REFUSED_SQL, match=r"read-?only"):
        await database.read(all_rows, "DELETE FROM meta RETURNING name")


async def test_a_reader_whose_caller_gave_up_at_any_moment_serves_the_next(database: Database) -> None:
    await database.write(put, "a")
    for rounds in range(24):
        # Given up in the middle of its begin, of its query or of its end: each round one turn of the loop later.
        given_up = [asyncio.create_task(database.read(names)) for _ in range(READERS)]
        for _ in range(rounds):
            await asyncio.sleep(0)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        async with asyncio.timeout(10):
            served = await asyncio.gather(*(database.read(names) for _ in range(READERS)))
        assert served == [["a"]] * READERS


async def test_a_failing_query_leaves_its_reader_whole(database: Database) -> None:
    for _ in range(READERS + 1):
        with pytest.raises(REFUSED_SQL):
            await database.read(all_rows, "SELECT * FROM nowhere")
    assert await database.read(names) == []


async def test_a_unit_is_run_though_its_caller_gave_up(database: Database) -> None:
    writing = asyncio.create_task(database.write(put, "a"))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await database.write(put, "b")
    assert await database.read(names) == ["a", "b"]


async def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(BROKEN_RULE):
        await database.write(run, "INSERT INTO job_inputs (job_id, name, source) VALUES (99, 'image', '{}')", {})


# SQLite alone.


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Sqlite]:
    db = Sqlite(path)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


async def _make_meta(tx: Tx) -> None:
    await tx.run("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)", {})


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Sqlite]:
    async with opened(tmp_path / "wirephoto.sqlite3") as db:
        await db.write(_make_meta)
        yield db


async def test_a_failing_unit_rolls_back_alone_while_its_batch_mates_commit(sqlite: Sqlite) -> None:
    entered, leave = threading.Event(), threading.Event()

    async def slow(tx: Tx) -> None:
        # Holds up the one writer, so that all that follows becomes one batch.
        await names(tx)
        entered.set()
        assert leave.wait(10)

    first = asyncio.create_task(sqlite.write(slow))
    await asyncio.to_thread(entered.wait, 10)
    units = [sqlite.write(put_and_fail if n % 3 == 0 else put, f"{n:02}") for n in range(30)]
    outcomes = asyncio.gather(*units, return_exceptions=True)
    await asyncio.sleep(0)
    leave.set()
    results = await outcomes
    await first
    assert [isinstance(result, Refused) for result in results] == [n % 3 == 0 for n in range(30)]
    assert await sqlite.read(names) == [f"{n:02}" for n in range(30) if n % 3]


async def test_a_unit_sees_what_its_batch_mates_before_it_wrote(sqlite: Sqlite) -> None:
    await asyncio.gather(*(sqlite.write(put, f"{n:03}") for n in range(100)))

    async def count(tx: Tx) -> int:
        await tx.run(PUT, {"name": "extra", "value": "1"})
        return len(await tx.all(FOUND, {}))

    counted, _ = await asyncio.gather(sqlite.write(count), sqlite.write(put, "zzz"))
    assert counted == 101


async def test_a_unit_that_awaits_something_else_fails_clearly_and_changes_nothing(sqlite: Sqlite) -> None:
    async def waits(tx: Tx) -> None:
        await put(tx, "a")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits awaited something else than its tx"):
        await sqlite.write(waits)
    assert await sqlite.read(names) == []
    await sqlite.write(put, "b")
    assert await sqlite.read(names) == ["b"]


async def test_an_answer_comes_only_after_another_connection_can_read_the_commit(sqlite: Sqlite) -> None:
    second = sqlite3.connect(f"file:{sqlite.path}?mode=ro", uri=True)
    try:
        for n in range(20):
            await sqlite.write(put, f"{n:02}")
            assert second.execute("SELECT COUNT(*) FROM meta").fetchone() == (n + 1,)
    finally:
        second.close()


async def test_every_commit_is_synced_to_the_disk(sqlite: Sqlite) -> None:
    async def synchronous(tx: Tx) -> tuple[Any, Any]:
        mode, level = await tx.one("PRAGMA journal_mode", {}), await tx.one("PRAGMA synchronous", {})
        assert mode is not None
        assert level is not None
        return mode["journal_mode"], level["synchronous"]

    assert await sqlite.write(synchronous) == ("wal", 2)  # 2 is FULL


async def test_a_second_opener_is_refused_and_the_first_goes_on(sqlite: Sqlite) -> None:
    with pytest.raises(Locked, match="another Wirephoto is running"):
        await Sqlite(sqlite.path).open()
    await sqlite.write(put, "a")
    assert await sqlite.read(names) == ["a"]


async def test_the_lock_is_free_after_a_close_and_after_an_open_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "wirephoto.sqlite3"
    async with opened(path) as db:
        await db.write(_make_meta)
    path.rename(tmp_path / "good")
    path.write_bytes(b"this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(sqlite3.DatabaseError):
        await Sqlite(path).open()
    (tmp_path / "good").replace(path)
    async with opened(path) as db:
        assert await db.read(names) == []


async def test_nobody_else_may_read_the_files(sqlite: Sqlite) -> None:
    await sqlite.write(put, "a")
    assert {path.stat().st_mode & 0o077 for path in sqlite.path.parent.iterdir() if path.is_file()} == {0}


async def often(reader: Reader) -> None:
    for _ in range(20):
        await names(reader)


async def test_close_finishes_what_was_handed_in_and_takes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "wirephoto.sqlite3"
    db = Sqlite(path)
    await db.open()
    await db.write(_make_meta)
    writes = [asyncio.create_task(db.write(put, f"{n:03}")) for n in range(300)]
    reads = [asyncio.create_task(db.read(often)) for _ in range(READERS * 3)]
    await asyncio.sleep(0)
    await db.close()
    async with asyncio.timeout(10):
        assert len(await asyncio.gather(*writes)) == 300
        await asyncio.gather(*reads)
    for late in (db.write(put, "late"), db.read(names)):
        with pytest.raises(StoreUnavailable, match="closed"):
            await late
    async with opened(path) as again:
        assert await again.read(names) == [f"{n:03}" for n in range(300)]


async def test_after_a_close_the_file_alone_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "wirephoto.sqlite3"
    async with opened(path) as db:
        await db.write(_make_meta)
        await db.write(put, "a")
    copy = tmp_path / "copy.sqlite3"
    copy.write_bytes(path.read_bytes())
    async with opened(copy) as db:
        assert await db.read(names) == ["a"]


async def test_a_full_disk_fails_the_batch_clearly_and_the_writer_lives_on(sqlite: Sqlite) -> None:
    big = "x" * 4096

    async def fill(tx: Tx, name: str) -> None:
        await tx.run(PUT, {"name": name, "value": big})

    async def limit(tx: Tx, pages: int) -> None:
        # SQLite's own way to run into a full disk.
        await tx.one(f"PRAGMA max_page_count = {pages}", {})

    pages = (await sqlite.read(one_row, "PRAGMA page_count"))["page_count"]
    await sqlite.write(limit, pages + 20)
    outcomes = await asyncio.gather(*(sqlite.write(fill, f"{n:03}") for n in range(200)), return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome is not None]
    assert failed
    assert {type(outcome) for outcome in failed} == {StoreUnavailable}
    # What was answered is there, what failed is not.
    answered = [f"{n:03}" for n, outcome in enumerate(outcomes) if outcome is None]
    assert await sqlite.read(names) == answered
    await sqlite.write(limit, 1_000_000)
    await sqlite.write(fill, "after")
    assert await sqlite.read(names) == [*answered, "after"]
