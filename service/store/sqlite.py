"""SQLite: all writes through one group-commit writer, reads through aiosqlite.

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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar

import aiosqlite

from service.store.database import (
    Committed,
    Locked,
    NotAStore,
    Query,
    Reader,
    Row,
    StoreUnavailable,
    Tx,
    Unit,
    Values,
    unheard,
)

P = ParamSpec("P")
T = TypeVar("T")

MAX_BATCH = 256
READERS = 4
# The machine's faults, not the unit's: the same unit may go through later.
_OUTSIDE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}
)
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # an answer is a promise: WAL with NORMAL may lose the last commits at a power cut
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=10000",
    "PRAGMA cache_size=-16384",
    "PRAGMA temp_store=MEMORY",
)


def row_as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


class DirectTx:
    """A `tx` on a connection of its own, whose methods never really wait: of a unit on the writer's thread, or of
    whoever copies a file that nobody else has open.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def one(self, sql: str, values: Values) -> Row | None:
        cursor = self._connection.execute(sql, values)
        row: Row | None = cursor.fetchone()
        # RETURNING: the statement is only complete once all its rows were taken.
        cursor.close()
        return row

    async def all(self, sql: str, values: Values) -> Sequence[Row]:
        return self._connection.execute(sql, values).fetchall()

    async def run(self, sql: str, values: Values) -> int:
        return self._connection.execute(sql, values).rowcount

    async def run_many(self, sql: str, values: Iterable[Values]) -> None:
        self._connection.executemany(sql, values)


class _ReaderTx:
    """A consistent view over aiosqlite."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def one(self, sql: str, values: Values) -> Row | None:
        rows = await self._connection.execute_fetchall(sql, dict(values))
        return next(iter(rows), None)  # type: ignore[return-value]  # the row factory makes dicts

    async def all(self, sql: str, values: Values) -> Sequence[Row]:
        return list(await self._connection.execute_fetchall(sql, dict(values)))  # type: ignore[arg-type]  # as above


@dataclass(slots=True)
class _Work:
    name: str
    run: Callable[[Tx], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


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


@contextlib.asynccontextmanager
async def looking(path: Path) -> AsyncIterator[Reader]:
    """A consistent view of a file, without its lock: whoever works on it is not disturbed.

    Raises NotAStore, and StoreUnavailable where it can't be read.
    """
    # A database without a write-ahead log is open nowhere; read as immutable, it stays without one.
    resting = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if resting else 'mode=ro'}"
    try:
        async with aiosqlite.connect(uri, uri=True, isolation_level=None) as connection:
            connection.row_factory = row_as_dict  # type: ignore[assignment]  # aiosqlite names only sqlite3.Row
            await connection.execute("PRAGMA busy_timeout=10000")
            async with _Snapshot(connection) as view:
                yield view
    except sqlite3.Error as error:
        if "no such table" in str(error):
            raise NotAStore("nothing of a Wirephoto is in this file") from None
        raise StoreUnavailable(f"can't be read: {error}") from None


def _drive(work: _Work, tx: Tx) -> Any:
    coroutine = work.run(tx)
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    raise RuntimeError(f"{work.name} awaited something else than its tx")


def _fault_of(error: BaseException) -> BaseException:
    """What the caller of a failed unit is told."""
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE:
        return StoreUnavailable(f"the database can't write: {error}")
    return error


class Sqlite:
    """One SQLite file, for one process. `open` it, and `close` it always: aiosqlite's threads outlive their loop."""

    dialect: Final = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.committed: Committed = unheard
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock: FileLock | None = None
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._all_readers: list[aiosqlite.Connection] = []
        self._closing = False

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
        for _ in range(READERS):
            reader = await aiosqlite.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
            reader.row_factory = row_as_dict  # type: ignore[assignment]  # aiosqlite names only sqlite3.Row
            await reader.execute("PRAGMA busy_timeout=10000")
            self._all_readers.append(reader)
            self._readers.put_nowait(reader)

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
        for _ in self._all_readers:
            # Whoever still reads gives its reader back, and the next in the line takes it before we do.
            await self._readers.get()
        for reader in self._all_readers:
            await reader.close()
        self._all_readers.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing or self._thread is None:
            raise StoreUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        name = getattr(unit, "__name__", "a unit")
        self._queue.put(_Work(name, lambda tx: unit(tx, *args, **kwargs), future, loop))
        return await future

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing:
            raise StoreUnavailable("the database is closed")
        reader = await self._readers.get()
        try:
            async with _Snapshot(reader) as view:
                return await query(view, *args, **kwargs)
        finally:
            self._readers.put_nowait(reader)

    def _write_loop(self, connection: sqlite3.Connection) -> None:
        tx = DirectTx(connection)
        with contextlib.closing(connection):
            stopping = False
            while not stopping:
                batch: list[_Work] = []
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
            # The write-ahead log is folded into the file, so that a copy of the file alone is whole.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _commit(self, connection: sqlite3.Connection, tx: DirectTx, batch: list[_Work]) -> None:
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

    def _run_in_savepoint(self, connection: sqlite3.Connection, tx: DirectTx, work: _Work) -> None:
        connection.execute("SAVEPOINT unit")
        try:
            work.result = _drive(work, tx)
        except BaseException as error:  # handed to the caller
            work.error = _fault_of(error)
            if not connection.in_transaction:
                # A full disk may have ended the transaction of the whole batch.
                raise
            connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")

    def _answer(self, batch: list[_Work]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Work]] = {}
        for work in batch:
            by_loop.setdefault(work.loop, []).append(work)
        for loop, done in by_loop.items():
            # The loop may be closed already: the commit stands, nobody waits for the answer.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, done)


def _resolve(batch: list[_Work]) -> None:
    for work in batch:
        if work.future.done():
            continue
        if work.error is not None:
            work.future.set_exception(work.error)
        else:
            work.future.set_result(work.result)


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


class _Snapshot:
    """One read transaction: every statement inside sees the same state."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def __aenter__(self) -> Reader:
        try:
            await self._connection.execute("BEGIN")
        except asyncio.CancelledError:
            # Its thread begins all the same: the reader's next user must not find it begun.
            await asyncio.shield(self._end())
            raise
        return _ReaderTx(self._connection)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self._end())

    async def _end(self) -> None:
        await self._connection.execute("ROLLBACK")
