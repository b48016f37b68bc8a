"""What PostgreSQL adds: units side by side, and a server that goes away and comes back."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from service.store import postgres_guard
from service.store.database import Locked, Reader, StoreUnavailable, Tx
from service.store.postgres import Postgres
from service.store.postgres_sql import compiled
from tests.postgres import Server, server, taken_from_its_service

pytestmark = pytest.mark.anyio

PUT = "INSERT INTO meta (name, value) VALUES (:name, :value)"
FOUND = "SELECT name, value FROM meta ORDER BY name"


async def put(tx: Tx, name: str, value: str = "1") -> str:
    await tx.run(PUT, {"name": name, "value": value})
    return name


async def names(reader: Reader) -> list[str]:
    return [row["name"] for row in await reader.all(FOUND, {})]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Postgres]:
    db = Postgres(url)
    try:
        await db.open()
        yield db
    finally:
        await db.close()


@pytest.fixture
async def db(postgres: Server) -> AsyncIterator[Postgres]:
    async with opened(postgres.new_database(postgres.template)) as it:
        yield it


@pytest.fixture(scope="module")
def fragile() -> Iterator[Server]:
    """A server of this module's own, to be stopped and killed. With fsync, as in life."""
    with server(fast=False) as it:
        yield it


def test_names_become_numbers_and_texts_and_casts_stay_as_they_are() -> None:
    sql = "SELECT ':no', a::text /*postgres FOR UPDATE */ /* :no */ -- :no\n WHERE b = :b AND c = :c AND d = :b"
    it = compiled(sql)
    assert it.names == ("b", "c")
    assert (
        it.text.replace("  ", " ")
        == "SELECT ':no', a::text FOR UPDATE /* :no */ -- :no\n WHERE b = $1 AND c = $2 AND d = $1"
    )


async def test_units_run_side_by_side(db: Postgres) -> None:
    first_in, second_in = asyncio.Event(), asyncio.Event()

    async def meets(tx: Tx, name: str, mine: asyncio.Event, other: asyncio.Event) -> None:
        await put(tx, name)
        mine.set()
        await other.wait()

    async with asyncio.timeout(10):
        await asyncio.gather(db.write(meets, "a", first_in, second_in), db.write(meets, "b", second_in, first_in))
    assert await db.read(names) == ["a", "b"]


async def test_two_units_that_wait_for_each_other_both_come_through(db: Postgres) -> None:
    await db.write(put, "a")
    await db.write(put, "b")
    holds = {"a": asyncio.Event(), "b": asyncio.Event()}
    runs = []

    async def cross(tx: Tx, mine: str, other: str) -> None:
        runs.append(mine)
        change = "UPDATE meta SET value = value || :by WHERE name = :name"
        await tx.run(change, {"name": mine, "by": mine})
        holds[mine].set()
        await holds[other].wait()
        await tx.run(change, {"name": other, "by": mine})

    async with asyncio.timeout(20):
        await asyncio.gather(db.write(cross, "a", "b"), db.write(cross, "b", "a"))
    assert len(runs) >= 3, "the server ended one of them, and it was run again"

    async def values(reader: Reader) -> set[str]:
        return {"".join(sorted(row["value"])) for row in await reader.all(FOUND, {})}

    assert await db.read(values) == {"1ab"}


async def test_who_comes_second_with_the_same_key_finds_the_first(db: Postgres) -> None:
    both = asyncio.Barrier(2)

    async def take_in(tx: Tx, value: str) -> str:
        found = await tx.one("SELECT value FROM meta WHERE name = 'key'", {})
        if found is not None:
            return str(found["value"])
        await both.wait()
        await put(tx, "key", value)
        return value

    async with asyncio.timeout(10):
        one, other = await asyncio.gather(db.write(take_in, "one"), db.write(take_in, "other"))
    assert one == other


async def test_a_text_that_it_cannot_hold_is_stored_with_a_sign_in_its_place(db: Postgres) -> None:
    await db.write(put, "a\0b")
    assert await db.read(names) == ["a\ufffdb"]


async def test_a_second_service_is_refused_and_the_first_goes_on(db: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_guard, "LOCKED_PATIENCE_SECONDS", 0)
    with pytest.raises(Locked, match="another Wirephoto"):
        async with opened(db._url):
            pass
    await db.write(put, "a")
    assert await db.read(names) == ["a"]


async def test_the_next_service_waits_for_one_that_is_just_ending(db: Postgres) -> None:
    async with opened_later(db._url) as second:
        await db.close()
        it = await second()
        await it.write(put, "a")


@asynccontextmanager
async def opened_later(url: str) -> AsyncIterator[Callable[[], Awaitable[Postgres]]]:
    db = Postgres(url)
    opening = asyncio.create_task(db.open())

    async def ready() -> Postgres:
        async with asyncio.timeout(20):
            await opening
        return db

    try:
        yield ready
    finally:
        await asyncio.gather(opening, return_exceptions=True)
        await db.close()


@pytest.mark.parametrize(
    "fault", ["postgresql://nobody-here@/postgres?host={}", "postgresql://postgres@/nowhere?host={}"]
)
async def test_what_waiting_cannot_mend_is_told_at_once(postgres: Server, fault: str) -> None:
    url = fault.format(postgres.url("").partition("host=")[2])
    with pytest.raises(StoreUnavailable, match=r"nobody-here|nowhere"):
        async with asyncio.timeout(10), opened(url):
            pass


async def until_written(db: Postgres, name: str) -> None:
    """As every worker does: again, while the store is away."""
    async with asyncio.timeout(30):
        while True:
            try:
                await db.write(put, name)
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
async def test_a_server_that_went_away_is_used_again_when_it_is_back(
    fragile: Server, end: Callable[[Server], None]
) -> None:
    async with opened(fragile.new_database(fragile.template)) as db:
        await db.write(put, "before")
        await asyncio.to_thread(end, fragile)
        try:
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await db.write(put, "meanwhile")
                with pytest.raises(StoreUnavailable):
                    await db.read(names)
        finally:
            await asyncio.to_thread(fragile.start)
        await until_written(db, "after")
        assert await db.read(names) == ["after", "before"]


async def test_a_unit_under_way_when_the_server_dies_changes_nothing(fragile: Server) -> None:
    async with opened(fragile.new_database(fragile.template)) as db:
        inside, dead = asyncio.Event(), asyncio.Event()

        async def caught(tx: Tx) -> None:
            await put(tx, "half")
            inside.set()
            await dead.wait()
            await put(tx, "whole")

        writing = asyncio.create_task(db.write(caught))
        await inside.wait()
        await asyncio.to_thread(fragile.kill)
        dead.set()
        with pytest.raises(StoreUnavailable):
            await writing
        await asyncio.to_thread(fragile.start)
        await until_written(db, "after")
        assert await db.read(names) == ["after"]


# What only the server can know: whether a COMMIT whose answer was lost has been done.


class Line:
    """A wire to the server that is cut at the next COMMIT: before the server hears of it, or before we hear back."""

    def __init__(self, server_socket: str) -> None:
        self._server_socket = server_socket
        self.cut: Literal["before", "after"] | None = None
        self.cuts = 0
        self._ends: set[asyncio.Task[None]] = set()

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(asyncio.create_task(self._connected(reader, writer)))

    async def ended(self) -> None:
        await asyncio.gather(*self._ends)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_unix_connection(self._server_socket)
        answers = asyncio.create_task(self._pass(there, writer))
        while asked := await reader.read(65536):
            if self.cut is not None and b"COMMIT" in asked:
                if self.cut == "after":
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                    away.write(asked)
                    assert b"COMMIT" in await there.read(65536)
                self.cut = None
                self.cuts += 1
                break
            away.write(asked)
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        for end in (writer, away):
            end.close()
            await asyncio.gather(end.wait_closed(), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(65536):
            writer.write(said)
        writer.close()


@asynccontextmanager
async def over_a_line(postgres: Server) -> AsyncIterator[tuple[Postgres, Line]]:
    database, _, folder = postgres.new_database(postgres.template).partition("?host=")
    line = Line(f"{folder}/.s.PGSQL.5432")
    with tempfile.TemporaryDirectory() as near:
        wire = await asyncio.start_unix_server(line.connect, f"{near}/.s.PGSQL.5432")
        async with wire:
            async with opened(f"{database}?host={near}") as db:
                yield db, line
            await line.ended()


async def test_a_commit_that_was_done_unheard_is_told_as_done_and_not_done_twice(postgres: Server) -> None:
    runs = []

    async def once(tx: Tx) -> str:
        runs.append(1)
        return await put(tx, "paid")

    async with over_a_line(postgres) as (db, line):
        line.cut = "after"
        assert await db.write(once) == "paid"
        assert (line.cuts, runs) == (1, [1])
        assert await db.read(names) == ["paid"]


async def test_a_commit_that_never_came_to_the_server_is_told_as_not_done(postgres: Server) -> None:
    async with over_a_line(postgres) as (db, line):
        line.cut = "before"
        with pytest.raises(StoreUnavailable):
            await db.write(put, "paid")
        assert line.cuts == 1
        await db.write(put, "paid")
        assert await db.read(names) == ["paid"]


async def write_for_ever(db: Postgres) -> None:
    for number in itertools.count():
        await db.write(put, f"until it knows {number}")


async def test_a_service_that_lost_the_database_to_another_writes_no_more(postgres: Server) -> None:
    url = postgres.new_database(postgres.template)
    async with opened(url) as first:
        await first.write(put, "a")
        async with taken_from_its_service(url), asyncio.timeout(20):
            with pytest.raises(StoreUnavailable, match="is lost"):
                await write_for_ever(first)
        await until_written(first, "ours again")
