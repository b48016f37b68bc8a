"""A real store that has a bad moment where a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from service.store.database import Database, Query, StoreUnavailable, Unit
from tests.stores import Passing, store_for

P = ParamSpec("P")
T = TypeVar("T")

FOR_EVER = 1_000_000


def away() -> Exception:
    return StoreUnavailable("the store is away, as the test says")


def bug() -> Exception:
    return RuntimeError("a fault of ours, as the test says")


@dataclass
class _Trouble:
    fault: Callable[[], Exception]
    times: int
    after: int


@dataclass
class Struck:
    """How often a unit has been refused."""

    count: int = 0
    bell: asyncio.Event = field(default_factory=asyncio.Event)


class FaultyStore(Passing):
    """The store as it is, but that it refuses some units by name, `module.function`, before they are run."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner)
        self._troubles: dict[str, _Trouble] = {}
        self.struck: dict[str, Struck] = {}

    def fails(self, unit: str, times: int = 1, *, after: int = 0, fault: Callable[[], Exception] = away) -> Struck:
        """Refuse the next `times` runs of `unit`, once `after` of them have gone well."""
        self._troubles[unit] = _Trouble(fault, times, after)
        self.struck[unit] = Struck()
        return self.struck[unit]

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        name = f"{unit.__module__.rpartition('.')[2]}.{unit.__name__}"
        trouble = self._troubles.get(name)
        if trouble is not None and trouble.after > 0:
            trouble.after -= 1
        elif trouble is not None and trouble.times > 0:
            trouble.times -= 1
            self.struck[name].count += 1
            self.struck[name].bell.set()
            raise trouble.fault()
        return await super().write(unit, *args, **kwargs)


@asynccontextmanager
async def faulty_store(folder: Path) -> AsyncIterator[FaultyStore]:
    """Open, in a data folder."""
    store = FaultyStore(store_for(folder))
    try:
        await store.open()
        yield store
    finally:
        await store.close()


class TroubledStore(Passing):
    """The store as it is, but that all of it fails while `trouble` says how."""

    trouble: Callable[[], Exception] | None = None

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.trouble is not None:
            raise self.trouble()
        return await super().read(query, *args, **kwargs)

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.trouble is not None:
            raise self.trouble()
        return await super().write(unit, *args, **kwargs)


@asynccontextmanager
async def troubled_store(folder: Path) -> AsyncIterator[TroubledStore]:
    """Open, in a data folder; its trouble is the test's to begin and to end."""
    store = TroubledStore(store_for(folder))
    try:
        await store.open()
        yield store
    finally:
        await store.close()
