"""SQLite's write-ahead log stays small, whoever reads meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from service.store import sqlite
from service.store.database import Reader, Tx
from service.store.sqlite import Sqlite

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
ROUNDS = 120
BATCH = 200 * 1024


async def _fill(tx: Tx) -> None:
    await tx.run("INSERT INTO filler (body) VALUES (:body)", {"body": "x" * BATCH})


async def _table(tx: Tx) -> None:
    await tx.run("CREATE TABLE filler (body TEXT)", {})


async def _long_read(reader: Reader, began: Callable[[], object], end: threading.Event) -> int:
    """It holds its view of the store until it is told to end."""
    row = await reader.one("SELECT COUNT(*) AS count FROM filler", {})
    began()
    end.wait()
    assert row is not None
    return int(row["count"])


async def _always_read(store: Sqlite, first: asyncio.Event) -> None:
    """A new one begins before the last one ends, so at no instant does nobody read."""
    loop = asyncio.get_running_loop()
    reading: list[tuple[threading.Event, asyncio.Task[int]]] = []
    try:
        while True:
            began, end = asyncio.Event(), threading.Event()
            read = store.read(_long_read, partial(loop.call_soon_threadsafe, began.set), end)
            reading.append((end, asyncio.create_task(read)))
            await began.wait()
            if len(reading) > 1:
                last, task = reading.pop(0)
                last.set()
                await task
                first.set()
    finally:
        for end, _ in reading:
            end.set()


async def test_the_log_is_bounded_though_somebody_always_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "WAL_BYTES", MIB)
    store = Sqlite(tmp_path / "store.sqlite3")
    await store.open()
    try:
        await store.write(_table)
        first = asyncio.Event()
        readers = asyncio.create_task(_always_read(store, first))
        await first.wait()
        wal = tmp_path / "store.sqlite3-wal"
        largest = 0
        for _ in range(ROUNDS):
            await store.write(_fill)
            largest = max(largest, wal.stat().st_size)
        readers.cancel()
        await asyncio.gather(readers, return_exceptions=True)
        assert ROUNDS * BATCH > 20 * MIB, "much more was written"
        assert largest < 8 * MIB
    finally:
        await store.close()
