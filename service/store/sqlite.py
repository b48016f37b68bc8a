"""SQLite: all writes through one group-commit writer, reads through threads of their own.

The writer is one thread with its own connection. Whatever arrives while one transaction is being committed is the
next transaction: under load one fsync serves many units, alone a unit pays for its own. Each unit runs inside a
SAVEPOINT, so that one that fails rolls back alone. A unit awaits nothing but `tx`, whose methods never really wait:
the thread drives the coroutine with `send(None)` and needs no event loop.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import aiosqlite

from service.store.database import (
    Committed,
    Locked,
    NotAStore,
    Query,
    Reader,
    Row,
    StoreUnavailable,
    Unit,
    Values,
    unheard,
)
from service.store.sqlite_readers import Readers
from service.store.sqlite_units import ThreadReader, Work, answer, drive, fault_of, row_as_dict, work_of

P = ParamSpec("P")
T = TypeVar("T")

MAX_BATCH = 256
READERS = 4
# SQLite folds its write-ahead log into the file as it goes, but begins it anew only when nobody reads from it. Where
# somebody always does it would grow for ever: from here on the writer waits a moment for those who read now.
WAL_BYTES = 64 * 1024 * 1024
WAL_PATIENCE_MS = 50
BUSY_MS = 10_000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # an answer is a promise: WAL with NORMAL may lose the last commits at a power cut
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_MS}",
    "PRAGMA cache_size=-16384",
    "PRAGMA temp_store=MEMORY",
)


class DirectTx(ThreadReader):
    """A `tx` on a connection of its own, whose methods never really wait: of a unit on the writer's thread, or of
    whoever copies a file that nobody else has open.
    """

    async def run(self, sql: str, values: Values) -> int:
        return self._connection.execute(sql, values).rowcount

    async def run_many(self, sql: str, values: Iterable[Values]) -> None:
        self._connection.executemany(sql, values)


class FileLock:
    """One process a database: the lock goes away with the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise Locked(f"{path.name}: another Wirephoto is running on this data folder") from None

    def release(self) -> None:
        os.close(self._file)


class _Looker:
    """A `Reader` over aiosqlite: a hop to its thread for each statement."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def one(self, sql: str, values: Values) -> Row | None:
        return next(iter(await self.all(sql, values)), None)

    async def all(self, sql: str, values: Values) -> Sequence[Row]:
        return list(await self._connection.execute_fetchall(sql, dict(values)))  # type: ignore[arg-type]  # as above


@contextlib.asynccontextmanager
async def looking(path: Path) -> AsyncIterator[Reader]:
    """A consistent view of a file, without its lock: whoever works on it is not disturbed. For commands, not for speed.

    Raises NotAStore, and StoreUnavailable where it can't be read.
    """
    # A database without a write-ahead log is open nowhere; read as immutable, it stays without one.
    resting = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if resting else 'mode=ro'}"
    try:
        async with aiosqlite.connect(uri, uri=True, isolation_level=None) as connection:
            connection.row_factory = row_as_dict  # type: ignore[assignment]  # aiosqlite names only sqlite3.Row
            await connection.execute("PRAGMA busy_timeout=10000")
            await connection.execute("BEGIN")
            yield _Looker(connection)
    except sqlite3.Error as error:
        if "no such table" in str(error):
            raise NotAStore("nothing of a Wirephoto is in this file") from None
        raise StoreUnavailable(f"can't be read: {error}") from None


class Sqlite:
    """One SQLite file, for one process. `open` it, and `close` it always: the file is locked until then."""

    dialect: Final = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.committed: Committed = unheard
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock: FileLock | None = None
        self._readers: Readers | None = None
        self._closing = False
        self._wal_bound = WAL_BYTES

    async def open(self) -> None:
        """Take the file lock and start the writer. Raises Locked."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        try:
            writer = await asyncio.to_thread(self._connect_writer)
        except BaseException:
            self._lock.release()
            self._lock = None
            raise
        self._thread = threading.Thread(target=self._write_loop, args=(writer,), name="sqlite-writer", daemon=True)
        self._thread.start()
        self._readers = await asyncio.to_thread(Readers, self.path, READERS)

    def _connect_writer(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, cached_statements=512, check_same_thread=False)
        self.path.chmod(0o600)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.row_factory = row_as_dict
        return connection

    async def close(self) -> None:
        """Finish what was handed in, then let go of the file."""
        self._closing = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        if self._readers is not None:
            await asyncio.to_thread(self._readers.close)
            self._readers = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing or self._thread is None:
            raise StoreUnavailable("the database is closed")
        work = work_of(unit, *args, **kwargs)
        self._queue.put(work)
        result: T = await work.future
        return result

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing or self._readers is None:
            raise StoreUnavailable("the database is closed")
        work = work_of(query, *args, **kwargs)
        self._readers.put(work)
        result: T = await work.future
        return result

    def _write_loop(self, connection: sqlite3.Connection) -> None:
        tx = DirectTx(connection)
        with contextlib.closing(connection):
            stopping = False
            while not stopping:
                batch: list[Work] = []
                work = self._queue.get()
                while True:
                    if work is None:
                        stopping = True
                        break
                    batch.append(work)
                    if len(batch) >= MAX_BATCH:
                        break
                    try:
                        work = self._queue.get_nowait()
                    except queue.Empty:
                        break
                if batch:
                    self._commit(connection, tx, batch)
                    self._bound_wal(connection)
            # The write-ahead log is folded into the file, so that a copy of the file alone is whole.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _commit(self, connection: sqlite3.Connection, tx: DirectTx, batch: list[Work]) -> None:
        began = time.perf_counter()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work in batch:
                self._run_in_savepoint(connection, tx, work)
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - a full disk fails everyone in the batch, and the writer lives on
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            for work in batch:
                work.error = work.error or StoreUnavailable(f"the commit failed: {error}")
        else:
            self.committed(len(batch), time.perf_counter() - began)
        self._answer(batch)

    def _bound_wal(self, connection: sqlite3.Connection) -> None:
        """Who begins to read while this waits reads from the file, so only those who read already are waited for."""
        with contextlib.suppress(OSError, sqlite3.Error):
            size = self.path.with_name(self.path.name + "-wal").stat().st_size
            if size < self._wal_bound:
                return
            connection.execute(f"PRAGMA busy_timeout={WAL_PATIENCE_MS}")
            try:
                blocked = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()["busy"]
            finally:
                connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            # A read that takes minutes must not stop the writer again and again.
            self._wal_bound = 2 * size if blocked else WAL_BYTES

    def _run_in_savepoint(self, connection: sqlite3.Connection, tx: DirectTx, work: Work) -> None:
        connection.execute("SAVEPOINT unit")
        try:
            work.result = drive(work, tx)
        except BaseException as error:  # handed to the caller
            work.error = fault_of(error)
            if not connection.in_transaction:
                # A full disk may have ended the transaction of the whole batch.
                raise
            connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")

    def _answer(self, batch: list[Work]) -> None:
        answer(batch)


def snapshot(source: Path, target: Path, given_up: Callable[[], bool] = lambda: False) -> None:
    """Copy a database as it is at one instant into the new file `target`, whoever has it open meanwhile. Blocking.

    Needs no lock and holds nobody up: in WAL a reader sees one state, and the writer goes on beside it. Raises
    sqlite3.Error; soon, once `given_up` says so.
    """
    # `mode=ro`: a typing error in a path must not make a database.
    with contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA busy_timeout=10000")
        connection.set_progress_handler(given_up, 1000)
        connection.execute("VACUUM INTO ?", (os.fspath(target),))


@contextlib.contextmanager
def alone(path: Path) -> Iterator[DirectTx]:
    """A file that nobody else has open: all that is done to it is one transaction, rolled back by an exception."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.row_factory = row_as_dict
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("BEGIN")
        yield DirectTx(connection)
        connection.execute("COMMIT")
