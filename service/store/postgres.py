"""PostgreSQL: each unit in a transaction of a pooled connection, and one service at a time on a database.

Units run side by side at READ COMMITTED. Three things make that safe:

- A unit that reads a row and then decides takes the row's lock first (`jobs.locked`, `projects.lock`).
- One that a deadlock or another's insert has stopped is run again, as if it had come later: it touches nothing but tx.
- When the connection is lost during COMMIT, the server is asked what became of the transaction, however long it is
  away. To guess would be to do a thing twice, or never.

The server may go away and come back at any time: meanwhile everybody is told StoreUnavailable, and nothing is lost.
"""

from __future__ import annotations  # asyncpg's own classes are generic for the type checker alone

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, ParamSpec, TypeVar, cast

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from service.store.database import (
    Committed,
    NotAStore,
    Query,
    Reader,
    Row,
    StoreUnavailable,
    Unit,
    Values,
    unheard,
)
from service.store.postgres_guard import CONNECT_SECONDS, OUTSIDE, PAUSE_SECONDS, Guard, told
from service.store.postgres_sql import compiled

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

CONNECTIONS = 16
# Long lists must not keep the heart from beating.
READERS = 8
# No statement of ours takes a second; a server that was cut off from the network answers never.
STATEMENT_SECONDS = 30.0
# An index on a large table, or a long look beside the service, takes as long as it takes.
PATIENT_SECONDS = 24 * 3600.0
MOST_RUNS = 10
# An answer is a promise: a server that is set otherwise may lose the last commits at a power cut.
_SETTINGS = {"synchronous_commit": "on", "application_name": "wirephoto"}
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
# A unit that another one has crossed. One that inserted the same key is met as a row when the unit runs again.
_CROSSED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError)


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        # Nothing of ours outlives its transaction: no settings, cursors or locks. It would cost a round trip each time.
        return ""


class _Tx:
    def __init__(self, connection: PoolConnectionProxy[Any] | asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def one(self, sql: str, values: Values) -> Row | None:
        it = compiled(sql)
        row = await self._connection.fetchrow(it.text, *it.arguments(values))
        return None if row is None else dict(row)

    async def all(self, sql: str, values: Values) -> Sequence[Row]:
        it = compiled(sql)
        return [dict(row) for row in await self._connection.fetch(it.text, *it.arguments(values))]

    async def run(self, sql: str, values: Values) -> int:
        it = compiled(sql)
        # What has no parameters changes the schema.
        patience = None if it.names else PATIENT_SECONDS
        status = await self._connection.execute(it.text, *it.arguments(values), timeout=patience)
        # "UPDATE 3", "INSERT 0 1"; statements that change no rows name none.
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def run_many(self, sql: str, values: Iterable[Values]) -> None:
        it = compiled(sql)
        await self._connection.executemany(it.text, [it.arguments(entry) for entry in values])


class _UnknownOutcomeError(Exception):
    """The connection was lost during COMMIT."""

    def __init__(self, transaction: int, result: Any) -> None:
        super().__init__(str(transaction))
        self.transaction = transaction
        self.result = result


class Postgres:
    """One database, for one service. `url` as libpq writes it: `postgresql://user:password@host:5432/name`."""

    dialect: Final = "postgres"

    def __init__(self, url: str) -> None:
        self._url = url
        self.committed: Committed = unheard
        self._pool: asyncpg.Pool[Any] | None = None
        self._guard = Guard(url)
        self._units: set[asyncio.Task[Any]] = set()
        self._reading = asyncio.Semaphore(READERS)
        self._closing = False

    async def open(self) -> None:
        """Connect and take the database for ourselves. Raises Locked, StoreUnavailable.

        A server that is just starting is waited for up to 30 s, a service that is just ending up to 10 s.
        """
        await self._guard.open()
        try:
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=CONNECTIONS,
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                statement_cache_size=512,
                connection_class=_Connection,
                server_settings=_SETTINGS,
            )
        except (*OUTSIDE, asyncpg.PostgresError) as error:
            raise StoreUnavailable(told(error)) from None

    async def close(self) -> None:
        """Finish what was handed in, then let go of the database."""
        self._closing = True
        if self._units:
            await asyncio.wait(set(self._units))
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), CONNECT_SECONDS)
            except OUTSIDE:
                self._pool.terminate()
        await self._guard.close()

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing or self._pool is None:
            raise StoreUnavailable("the database is closed")
        # A unit that was handed in runs to its end, whatever becomes of who waits for it.
        task: asyncio.Task[T] = asyncio.create_task(self._run(unit, *args, **kwargs))
        self._units.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._units.discard(task)
        if not task.cancelled():
            task.exception()

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing:
            raise StoreUnavailable("the database is closed")
        async with (
            self._reading,
            self._connected() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await query(_Tx(connection), *args, **kwargs)

    # --- units ---------------------------------------------------------------------------------------------------

    async def _run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        name = getattr(unit, "__name__", "a unit")
        for left in reversed(range(MOST_RUNS)):
            try:
                return await self._run_once(unit, *args, **kwargs)
            except _CROSSED as error:
                if not left:
                    raise
                log.debug("store.unit_again", unit=name, reason=type(error).__name__)
            except _UnknownOutcomeError as unknown:
                log.warning("store.commit_unanswered", unit=name)
                if await self._was_committed(unknown.transaction):
                    return cast(T, unknown.result)
                raise StoreUnavailable("the commit failed") from None
        raise AssertionError("the last run returns or raises")

    async def _run_once(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._guard.lost.is_set():
            raise StoreUnavailable("the connection that holds the database for us is lost")
        async with self._connected() as connection:
            began = time.perf_counter()
            await connection.execute("BEGIN")
            try:
                result = await unit(_Tx(connection), *args, **kwargs)
                transaction = await connection.fetchval("SELECT pg_current_xact_id_if_assigned()")
            except BaseException as error:
                with suppress(*OUTSIDE):
                    await connection.execute("ROLLBACK")
                if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                    # A standby that is about to become the server, or the server that has just become a standby.
                    raise StoreUnavailable(told(error)) from None
                raise
            try:
                await connection.execute("COMMIT")
            except OUTSIDE:
                _drop(connection)
                if transaction is None:
                    return result
                raise _UnknownOutcomeError(transaction, result) from None
            self.committed(1, time.perf_counter() - began)
            return result

    async def _was_committed(self, transaction: int) -> bool:
        """What the server knows of a transaction whose COMMIT had no answer. Raises StoreUnavailable when we close."""
        while not self._closing:
            try:
                async with self._connected() as connection:
                    status = await connection.fetchval("SELECT pg_xact_status($1)", transaction)
            except asyncpg.InvalidParameterValueError:
                # A server that has never heard of it: one that took over from ours, and was behind.
                return False
            except StoreUnavailable:
                status = "in progress"
            if status != "in progress":
                # None: so long ago that the server has forgotten it. A unit that is run again finds what it did.
                return bool(status == "committed")
            # The server is away, or has not noticed yet that its client is gone.
            await asyncio.sleep(PAUSE_SECONDS)
        raise StoreUnavailable("nobody knows whether the last unit was committed")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[PoolConnectionProxy[Any]]:
        """A connection of the pool. What the outside world breaks meanwhile is raised as StoreUnavailable."""
        assert self._pool is not None, "open it first"
        try:
            connection = await self._pool.acquire(timeout=CONNECT_SECONDS)
            try:
                yield connection
            except OUTSIDE as error:
                if not isinstance(error, asyncpg.InsufficientResourcesError):
                    _drop(connection)
                raise
            finally:
                await self._give_back(connection)
        except asyncpg.InterfaceError as error:
            if isinstance(error, ValueError):
                raise  # arguments of ours that the server can't take
            raise StoreUnavailable(told(error)) from None
        except OUTSIDE as error:
            raise StoreUnavailable(told(error)) from None

    async def _give_back(self, connection: PoolConnectionProxy[Any]) -> None:
        assert self._pool is not None, "it came from there"
        try:
            await self._pool.release(connection, timeout=CONNECT_SECONDS)
        except OUTSIDE:
            # It broke meanwhile. What the unit came to is not changed by it.
            _drop(connection)


def _drop(connection: PoolConnectionProxy[Any]) -> None:
    """Whatever state it is in, it is of no use any more. The pool may know already."""
    with suppress(asyncpg.InterfaceError, asyncpg.InternalClientError):
        connection.terminate()


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Reader]:
    """One consistent view on a connection of its own, beside whoever works on the database.

    Raises StoreUnavailable, NotAStore.
    """
    async with _beside(url) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        if await connection.fetchval("SELECT to_regclass('migrations') IS NULL"):
            raise NotAStore("nothing of a Wirephoto is in this database")
        yield _Tx(connection)


async def promises(url: str) -> Mapping[str, str]:
    """The server's version and its DURABLE settings, as a connection like ours has them. Raises StoreUnavailable."""
    async with _beside(url) as connection:
        return {name: await connection.fetchval(f"SHOW {name}") for name in ("server_version", *DURABLE)}


@asynccontextmanager
async def _beside(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    try:
        connection = await asyncpg.connect(
            url, timeout=CONNECT_SECONDS, command_timeout=PATIENT_SECONDS, server_settings=_SETTINGS
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_SECONDS)
    except (*OUTSIDE, asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise StoreUnavailable(told(error)) from None
