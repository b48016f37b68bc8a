"""The session that holds a PostgreSQL for one service: whatever becomes of it is noticed, and its keeper never dies."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from service.store import postgres as postgres_store
from service.store import postgres_guard
from service.store.database import StoreUnavailable
from service.store.migrate import migrate
from tests.postgres import Server
from tests.store.test_postgres import opened, put, until_written, write_for_ever

pytestmark = pytest.mark.anyio


class Firewall:
    """Wires to the server, the first of which it forgets: the server's end is closed, ours hears nothing of it."""

    def __init__(self, server_socket: str) -> None:
        self._server_socket = server_socket
        self._ends: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._forgotten = False

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._connected(reader, writer, first=not self._tasks)))

    async def _connected(self, ours: asyncio.StreamReader, back: asyncio.StreamWriter, *, first: bool) -> None:
        there, away = await asyncio.open_unix_connection(self._server_socket)
        self._ends += [back, away]
        answers = asyncio.create_task(self._pass(there, back, first=first))
        while said := await ours.read(65536):
            if not (first and self._forgotten):
                away.write(said)
        away.close()
        await answers
        back.close()

    async def _pass(self, there: asyncio.StreamReader, back: asyncio.StreamWriter, *, first: bool) -> None:
        while said := await there.read(65536):
            back.write(said)
        if not (first and self._forgotten):
            back.close()

    def forget_the_first(self) -> None:
        self._forgotten = True
        self._ends[1].close()

    async def ended(self) -> None:
        await asyncio.gather(*self._tasks)
        for end in self._ends:
            await asyncio.gather(end.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def behind_a_firewall(postgres: Server) -> AsyncIterator[tuple[str, Firewall]]:
    database, _, folder = postgres.new_database(postgres.template).partition("?host=")
    wall = Firewall(f"{folder}/.s.PGSQL.5432")
    with tempfile.TemporaryDirectory() as near:
        async with await asyncio.start_unix_server(wall.connect, f"{near}/.s.PGSQL.5432"):
            yield f"{database}?host={near}", wall
            await wall.ended()


async def test_a_guard_that_a_firewall_forgot_is_noticed_and_taken_again(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_guard, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(postgres_guard, "ANSWER_SECONDS", 0.2)
    async with behind_a_firewall(postgres) as (url, wall), opened(url) as db:
        await db.write(put, "before")
        wall.forget_the_first()
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnavailable, match="is lost"):
                await write_for_ever(db)
            await until_written(db, "after")


async def test_the_keeper_of_the_guard_outlives_a_fault_of_ours(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = []

    class Broken:
        """A connection of which nobody has thought."""

        async def fetchval(self, *_: object) -> bool:
            faults.append(1)
            raise RuntimeError("as the test says")

        def terminate(self) -> None:
            monkeypatch.undo()

    async def connect(*_: object, **__: object) -> Broken:
        return Broken()

    url = postgres.new_database(postgres.template)
    async with opened(url) as db:
        monkeypatch.setattr(asyncpg, "connect", connect)
        admin = postgres.sql(url.partition("///")[2] or url.split("@/")[1].partition("?")[0], END_ALL)
        assert admin
        await until_written(db, "after")
        assert faults


END_ALL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'wirephoto guard'
"""


async def test_a_commit_that_a_new_server_never_heard_of_was_not_done(postgres: Server) -> None:
    async with opened(postgres.new_database(postgres.template)) as db:
        assert await db._was_committed(10**9) is False


async def test_a_migration_takes_as_long_as_the_tables_are_large(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "STATEMENT_SECONDS", 0.3)
    migration = tmp_path / "0001_slow.sql"
    migration.write_text("CREATE TABLE grown (id BIGINT); SELECT pg_sleep(0.6);", encoding="utf-8")
    async with opened(postgres.new_database()) as db:
        assert await migrate(db, 0, folder=tmp_path) == 1
