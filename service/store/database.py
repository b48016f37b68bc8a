"""What the rest of the service may ask of a database. A unit is one transaction's worth of work.

A unit is `async def unit(tx, …)` and awaits nothing but `tx`: on SQLite the writer's thread runs it to its end
without an event loop. `await db.write(finish_job, job, update)` answers only after the commit is durable. A query is
the same for reading. A unit that is crossed by another on PostgreSQL is run again, so it changes nothing but `tx`.

SQLite runs units one after the other. PostgreSQL runs them side by side at READ COMMITTED, where each statement sees
what was committed before it. So a unit that reads something and then decides by it takes a row's lock first, always in
this order: the job's (`jobs.locked`), then the project's (`projects.lock`; the event counter is the same row).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Row = Mapping[str, Any]
Values = Mapping[str, Any]


class StoreUnavailable(Exception):
    """The database can't be reached or is shutting down. Worth trying again."""


class Locked(Exception):
    """Another process holds this database."""


class NotAStore(Exception):
    """There is no database, or nothing of ours in it."""


class Reader(Protocol):
    """A consistent view of the database."""

    async def one(self, sql: str, values: Values) -> Row | None: ...

    async def all(self, sql: str, values: Values) -> Sequence[Row]: ...


class Tx(Reader, Protocol):
    """The inside of a unit."""

    async def run(self, sql: str, values: Values) -> int:
        """How many rows were changed."""

    async def run_many(self, sql: str, values: Iterable[Values]) -> None: ...


# Told of each commit: how many units were in it, and how many seconds it took.
Committed = Callable[[int, float], None]
Unit = Callable[Concatenate[Tx, P], Awaitable[T]]
Query = Callable[Concatenate[Reader, P], Awaitable[T]]


def unheard(units: int, seconds: float) -> None:
    """For whom nobody counts."""


class Database(Protocol):
    # Always called by the same thread; on SQLite it is the writer's own.
    committed: Committed

    @property
    def dialect(self) -> Literal["sqlite", "postgres"]: ...

    async def open(self) -> None:
        """Take the database for this process alone. Raises Locked, StoreUnavailable."""

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a unit in a transaction; the answer comes after the commit. Its exception rolls back it alone."""

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query on a consistent view that sees all that was committed before the call."""

    async def close(self) -> None: ...
