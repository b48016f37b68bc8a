"""Which database a test's service gets, and a store that passes everything on, for tests that watch or disturb one."""

import asyncio
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from service.store.database import Committed, Database, Query, Unit
from service.store.postgres import Postgres
from service.store.sqlite import Sqlite
from tests.postgres import Server

P = ParamSpec("P")
T = TypeVar("T")

# Where databases are made, one for each data folder; None: SQLite inside of it. Set by the fixture `everywhere`.
_server: Server | None = None


def use(server: Server | None) -> None:
    global _server
    _server = server


def in_use() -> Server:
    assert _server is not None
    return _server


def url_for(data_dir: Path) -> str | None:
    return None if _server is None else _server.url_of_folder(data_dir)


def store_for(data_dir: Path) -> Database:
    """Not opened yet; the one that a service with this data folder has."""
    url = url_for(data_dir)
    return Sqlite(data_dir / "wirephoto.sqlite3") if url is None else Postgres(url)


def stolen(data_dir: Path) -> bytes:
    """The database as a thief gets it, without the secret key and the pictures."""
    if _server is not None:
        return _server.dump(_server.url_of_folder(data_dir)).encode()
    return b"".join(path.read_bytes() for path in data_dir.glob("wirephoto.sqlite3*"))


class Passing:
    """Passes everything on."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner

    @property
    def committed(self) -> Committed:
        return self.inner.committed

    @committed.setter
    def committed(self, told: Committed) -> None:
        self.inner.committed = told

    @property
    def dialect(self) -> Literal["sqlite", "postgres"]:
        return self.inner.dialect

    async def open(self) -> None:
        await self.inner.open()

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.inner.write(unit, *args, **kwargs)

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.inner.read(query, *args, **kwargs)

    async def close(self) -> None:
        await self.inner.close()


class SlowLook(Passing):
    """A store in which the answer to one question is long on its way: it was asked before a change."""

    def __init__(self, inner: Database, slow: Query[..., Any]) -> None:
        super().__init__(inner)
        self._slow = slow
        self.looked, self.go_on = asyncio.Event(), asyncio.Event()

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        found = await super().read(query, *args, **kwargs)
        if query is self._slow and not self.go_on.is_set():
            self.looked.set()
            await self.go_on.wait()
        return found
