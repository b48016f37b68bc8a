"""What SQLite's threads share: a unit or a query on its way through a thread and back to its loop.

Neither waits for anything but its own connection, so a thread drives it to its end with one `send(None)`.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from service.store.database import Query, Row, StoreUnavailable, Unit, Values

P = ParamSpec("P")
T = TypeVar("T")

# The machine's faults, not the unit's: the same unit may go through later.
_OUTSIDE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}
)


@dataclass(slots=True)
class Work:
    name: str
    run: Callable[[Any], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


def work_of(unit: Unit[P, T] | Query[P, T], *args: P.args, **kwargs: P.kwargs) -> Work:
    """For the loop that asks: await its `future`."""
    loop = asyncio.get_running_loop()
    name = getattr(unit, "__name__", "a unit")
    return Work(name, lambda tx: unit(tx, *args, **kwargs), loop.create_future(), loop)


def row_as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


class ThreadReader:
    """The `Reader` of a query, on the thread that owns the connection."""

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


def drive(work: Work, tx: object) -> Any:
    """Run it to its end, on this thread."""
    coroutine = work.run(tx)
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    raise RuntimeError(f"{work.name} awaited something else than its tx")


def fault_of(error: BaseException) -> BaseException:
    """What the caller of a failed unit is told."""
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE:
        return StoreUnavailable(f"the database can't be used: {error}")
    return error


def answer(batch: Sequence[Work]) -> None:
    """Tell each loop what became of its work, with one call for all that is its."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Work]] = {}
    for work in batch:
        by_loop.setdefault(work.loop, []).append(work)
    for loop, done in by_loop.items():
        # The loop may be closed already: what was committed stands, nobody waits for the answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, done)


def _resolve(batch: Sequence[Work]) -> None:
    for work in batch:
        if work.future.done():
            continue
        if work.error is not None:
            work.future.set_exception(work.error)
        else:
            work.future.set_result(work.result)
