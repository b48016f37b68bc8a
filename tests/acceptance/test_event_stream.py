"""The log as Server-Sent Events: whoever reads on from a cursor misses nothing and is shown nothing twice."""

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from schemas.event import EventType
from service.pipeline.core import Announced
from service.store import deliveries, events
from service.store.database import Tx
from service.web import cursor, following, sse
from tests.acceptance.made import fields, queue
from tests.acceptance.sse import Stream, stream
from tests.acceptance.test_api_tenants import tenant
from tests.clock import ManualClock
from tests.harness import PATIENCE, Stand, stand

pytestmark = pytest.mark.anyio

# SQLite is one process's alone.
POSTGRES = pytest.mark.parametrize("everywhere", [pytest.param("postgres", marks=pytest.mark.again)], indirect=True)

LOG = "/v1/events/stream"


async def _write(tx: Tx, it: Stand, kind: EventType, padding: int) -> Announced:
    event = await events.add(tx, 1, kind, {"padding": "x" * padding}, it.wirephoto.core.clock.now())
    return Announced(event, await deliveries.fan_out(tx, event, it.wirephoto.core.node))


async def happen(it: Stand, count: int = 1, kind: EventType = EventType.JOB_QUEUED, padding: int = 10) -> None:
    """Events by this node: after each commit its bells ring."""
    for _ in range(count):
        await it.wirephoto.core.commit(_write, it, kind, padding)


async def happen_together(it: Stand, *kinds: EventType) -> None:
    """Events of one commit: they are read at once."""

    async def unit(tx: Tx) -> Announced:
        return [await _write(tx, it, kind, 10) for kind in kinds][-1]

    await it.wirephoto.core.commit(unit)


async def happen_elsewhere(it: Stand, count: int = 1) -> None:
    """Events by another node on the same database: nobody here is told."""
    for _ in range(count):
        await it.wirephoto.core.db.write(_write, it, EventType.JOB_QUEUED, 10)


async def until(it: Stand, true: Callable[[], bool]) -> None:
    """Looked at again after each of the service's answers."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await it.client.call("GET", "/healthz")


async def sequences(it: Stream, count: int) -> list[int]:
    return [int(message.id) for message in await it.some(count)]


async def test_a_message_is_the_event_as_it_is_signed(it: Stand) -> None:
    async with stream(it.client, LOG) as log:
        job = await queue(it)
        message = await log.next()
    (event,) = (entry for entry in await it.client.events(job["id"]) if entry["type"] == "job.queued")
    assert (message.kind, message.id, message.json) == ("job.queued", str(event["sequence"]), event)
    stored = await it.wirephoto.core.db.read(events.after, 1, 0, None, 1)
    assert message.data == stored[0].payload, "byte for byte"
    assert log.retry == sse.RETRY_MS


async def test_without_a_cursor_it_begins_now_and_says_where_that_is(it: Stand) -> None:
    await happen(it, 3)
    async with stream(it.client, LOG) as log:
        assert log.last_id == "3", "who heard nothing before it was cut off comes back to the right place"
        await happen(it)
        assert await sequences(log, 1) == [4]


async def test_it_begins_after_the_cursor_and_the_newer_cursor_wins(it: Stand) -> None:
    await happen(it, 4)
    async with stream(it.client, LOG, after=0) as log:
        assert await sequences(log, 4) == [1, 2, 3, 4]
    async with stream(it.client, LOG, after=1) as log:
        assert await sequences(log, 3) == [2, 3, 4]
    # As a browser does it that comes back: the address is the old one.
    async with stream(it.client, LOG, {"Last-Event-ID": "3"}, after=1) as log:
        assert await sequences(log, 1) == [4]
    async with stream(it.client, LOG, {"Last-Event-ID": ""}, after=3) as log:
        assert await sequences(log, 1) == [4]


async def test_one_type_alone_is_told_and_the_cursor_moves_past_the_others(tmp_path: Path) -> None:
    clock = ManualClock()
    async with stand(tmp_path, clock=clock) as it:
        await happen(it, 2)
        await happen(it, 1, EventType.JOB_FAILED)
        async with stream(it.client, LOG, after=0, type="job.failed") as log:
            assert await sequences(log, 1) == [3]
            await happen(it, 70)
            await happen(it, 1, EventType.JOB_FAILED)
            await happen(it, 2)
            assert await sequences(log, 1) == [74]
            async with asyncio.timeout(PATIENCE):
                while log.last_id != "76":
                    await clock.advance(sse.HEARTBEAT_MS)
                    assert await log.block() is None


async def test_the_cursor_moves_past_what_came_together_with_the_last_that_was_wanted(tmp_path: Path) -> None:
    clock = ManualClock()
    async with stand(tmp_path, clock=clock) as it:
        await happen(it, 1, EventType.JOB_FAILED)
        async with stream(it.client, LOG, after=0, type="job.failed") as log:
            assert await sequences(log, 1) == [1]
            await happen_together(it, EventType.JOB_FAILED, EventType.JOB_QUEUED, EventType.JOB_QUEUED)
            assert await sequences(log, 1) == [2]
            await clock.advance(sse.HEARTBEAT_MS)
            assert await log.block() is None
            assert log.last_id == "4"


async def test_a_stream_ends_with_the_key_that_opened_it(it: Stand) -> None:
    _, made = await it.client.call("POST", "/v1/keys", json={"role": "write", "name": "leaked"})
    leaked = replace(it.client, key=made["api_key"])
    _, endpoint = await it.client.call("POST", "/v1/endpoints", json={"kind": "stream", "events": ["job.queued"]})
    mine = f"/v1/endpoints/{endpoint['id']}/stream"
    async with stream(it.client, LOG) as own, stream(leaked, LOG) as log, stream(leaked, mine) as handed:
        assert (await it.client.call("DELETE", f"/v1/keys/{made['id']}"))[0] == 204
        await happen(it)
        for ended in (log, handed):
            with pytest.raises(EOFError):
                await ended.next()
        assert await sequences(own, 1) == [1], "other keys' streams go on"
        await until(it, lambda: it.wirephoto.site.places.open == 1)


@pytest.mark.parametrize("given", ["-1", "x", "1.5", "9" * 20, "٣"])
async def test_a_cursor_that_is_none_is_refused(it: Stand, given: str) -> None:
    status, problem = await it.client.call("GET", LOG, params={"after": given})
    assert (status, fields(problem)) == (422, {"after"})
    if given.isascii():
        status, problem = await it.client.call("GET", LOG, headers={"Last-Event-ID": given})
        assert (status, fields(problem)) == (422, {"Last-Event-ID"})


async def _cut_off(tx: Tx, first: int, last: int) -> None:
    for event in await events.after(tx, 1, first - 1, None, last - first + 1):
        assert await events.remove(tx, event.row, event.created_at)


async def test_where_a_gap_would_be_passed_over_the_reader_is_told(it: Stand) -> None:
    await happen(it, 5)
    await it.wirephoto.core.db.write(_cut_off, 1, 3)
    for headers, query in (({"Last-Event-ID": "2"}, ""), ({}, "?after=1")):
        status, problem = await it.client.call("GET", LOG + query, headers=headers)
        assert (status, problem["type"], problem["oldest"]) == (410, "urn:wirephoto:problem:events_gone", 4)
    for after in (0, 3):
        async with stream(it.client, LOG, after=after) as log:
            assert await sequences(log, 2) == [4, 5]


async def test_a_quiet_stream_has_a_heartbeat_every_fifteen_seconds(tmp_path: Path) -> None:
    clock = ManualClock()
    async with stand(tmp_path, clock=clock) as it, stream(it.client, LOG) as log:
        for beats in (1, 2):
            await until(it, lambda: it.wirephoto.core.bells.waiting == 1)
            await clock.advance(sse.HEARTBEAT_MS)
            async with asyncio.timeout(PATIENCE):
                assert await log.block() is None
            assert log.comments.count("heartbeat") == beats
        assert sse.HEARTBEAT_MS == 15_000


async def test_nothing_is_skipped_or_shown_out_of_order_whatever_is_written_meanwhile(it: Stand) -> None:
    """Writers side by side, readers that come and go at any moment, each with the cursor it had."""
    writers, each = 8, 25
    count = writers * each
    dice = random.Random(7)

    async def follow(kind: str | None) -> list[int]:
        seen, wanted = list[int](), count if kind is None else count // 2
        place = {"Last-Event-ID": "0"}
        while len(seen) < wanted:
            async with stream(it.client, LOG, place, **({} if kind is None else {"type": kind})) as log:
                seen += await sequences(log, min(dice.randint(1, 60), wanted - len(seen)))
                place = {"Last-Event-ID": log.last_id}
        return seen

    async def write(writer: int) -> None:
        kind = EventType.JOB_FAILED if writer % 2 else EventType.JOB_QUEUED
        for number in range(each):
            # Some of them tell nobody, as another node's would not.
            elsewhere = it.wirephoto.core.db.dialect == "postgres" and number % 5 == 0
            run = it.wirephoto.core.db.write if elsewhere else it.wirephoto.core.commit
            await run(_write, it, kind, 10)

    async with asyncio.timeout(PATIENCE):
        readers = [asyncio.create_task(follow(kind)) for kind in (None, None, "job.failed", None)]
        await asyncio.gather(*(write(writer) for writer in range(writers)))
        found = await asyncio.gather(*readers)
    every = list(range(1, count + 1))
    assert [found[0], found[1], found[3]] == [every] * 3
    log = await it.wirephoto.core.db.read(events.after, 1, 0, "job.failed", count)
    assert found[2] == [event.sequence for event in log]


async def test_what_is_written_while_a_reader_catches_up_is_not_lost_between_its_page_and_the_log(it: Stand) -> None:
    """The page is read, and before it can be shown the log goes on without this reader."""
    await happen(it, 3)
    database, read_it, go_on = it.wirephoto.core.db, asyncio.Event(), asyncio.Event()
    plain = database.read

    async def held(query: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        found = await plain(query, *args, **kwargs)
        if query is cursor.read_log:
            read_it.set()
            await go_on.wait()
        return found

    async with stream(it.client, LOG) as ahead:
        database.read = held  # type: ignore[method-assign]
        async with stream(it.client, LOG, after=1) as behind, asyncio.timeout(PATIENCE):
            await read_it.wait()
            await happen(it, 4)
            assert await sequences(ahead, 4) == [4, 5, 6, 7], "all of them were handed out"
            go_on.set()
            assert await sequences(behind, 6) == [2, 3, 4, 5, 6, 7]
            await happen(it)
            assert await sequences(behind, 1) == await sequences(ahead, 1) == [8]


@POSTGRES
async def test_events_of_another_node_on_the_same_database_come_too(it: Stand) -> None:
    async with stream(it.client, LOG) as log:
        await happen_elsewhere(it, 3)
        assert await sequences(log, 3) == [1, 2, 3]
        await happen(it)
        await happen_elsewhere(it)
        assert await sequences(log, 2) == [4, 5]


async def test_a_hundred_followers_cost_one_reading_of_the_log(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, AsyncExitStack() as stack:
        it.client.http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        logs = [await stack.enter_async_context(stream(it.client, LOG)) for _ in range(100)]
        reads = 0
        database = it.wirephoto.core.db
        plain = database.read

        async def counted(query: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            nonlocal reads
            reads += 1
            return await plain(query, *args, **kwargs)

        database.read = counted  # type: ignore[method-assign]
        await happen(it, 5)
        for log in logs:
            assert await sequences(log, 5) == [1, 2, 3, 4, 5]
        # One for each event, and a last that finds nothing.
        assert reads <= 12


async def silent(it: Stand, after: int = 0) -> socket.socket:
    """A client that has asked and reads nothing of the answer."""
    host, _, port = it.client.url.removeprefix("http://").partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (host, int(port)))
    request = f"GET {LOG}?after={after} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {it.client.key}\r\n\r\n"
    await loop.sock_sendall(sock, request.encode())
    return sock


async def test_a_slow_client_misses_nothing_and_takes_no_memory(tmp_path: Path) -> None:
    """It reads nothing while far more is written than any buffer holds; another hears of each event meanwhile."""
    count, padding = 120, 64_000
    async with stand(tmp_path) as it, stream(it.client, LOG, after=0) as quick:
        with await silent(it) as sock:
            await until(it, lambda: it.wirephoto.site.places.open == 2)
            (log,) = it.wirephoto.site.following._logs.values()
            fell_behind = False
            for number in range(count):
                await happen(it, padding=padding)
                assert await sequences(quick, 1) == [number + 1]
                kept = sum(len(frame) for follower in log.followers for _, frame in follower.queue)
                assert kept <= following.QUEUED_BYTES + following.PAGE * (padding + 1000)
                fell_behind |= any(not follower.live for follower in log.followers)
            assert fell_behind
            heard = bytearray()
            async with asyncio.timeout(PATIENCE):
                while heard.count(b"\nid: ") < count + 1:
                    heard += await asyncio.get_running_loop().sock_recv(sock, 1 << 20)
        ids = [int(line[4:]) for line in bytes(heard).split(b"\n") if line.startswith(b"id: ")]
        assert ids == list(range(count + 1)), "0 is where it began"


async def test_a_client_that_reads_nothing_is_dropped_after_a_while(tmp_path: Path) -> None:
    clock = ManualClock()
    async with stand(tmp_path, clock=clock) as it:
        await happen(it, 120, padding=64_000)
        with await silent(it) as sock:
            await until(it, lambda: it.wirephoto.site.places.open == 1)
            (log,) = it.wirephoto.site.following._logs.values()
            (follower,) = log.followers
            await until(it, lambda: follower.line.writing_since is not None and bool(follower.queue))
            async with asyncio.timeout(PATIENCE):
                while it.wirephoto.site.places.open:
                    await clock.advance(1_000)
            assert clock.now() - ManualClock().now() >= 30_000
            heard = 0
            with suppress(ConnectionResetError):
                while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                    heard += len(piece)
            assert heard < 120 * 64_000, "what was on its way to it is given up"


async def test_a_client_that_goes_away_is_forgotten(it: Stand) -> None:
    core, open_streams = it.wirephoto.core, it.wirephoto.site.places
    for query in ({}, {"after": 0}, {"type": "job.failed"}):
        async with stream(it.client, LOG, **query):
            await until(it, lambda: open_streams.open == 1)
        await until(it, lambda: open_streams.open == 0 and core.bells.waiting == 0)


async def test_the_end_of_the_service_ends_the_stream_and_the_cursor_goes_on(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        async with stream(it.client, LOG, after=0) as log:
            await happen(it, 2)
            assert await sequences(log, 2) == [1, 2]
            it.wirephoto.core.bells.close()
            assert await log.rest() == []
        async with stream(it.client, LOG) as late:
            assert await late.rest() == [], "nobody begins to wait"
    async with stand(tmp_path) as it:
        await happen(it, 2)
        async with stream(it.client, LOG, {"Last-Event-ID": log.last_id}) as log:
            assert await sequences(log, 2) == [3, 4]


async def test_another_projects_events_are_not_told(it: Stand) -> None:
    stranger = await tenant(it)
    async with stream(stranger.client, LOG, after=0) as theirs, stream(it.client, LOG, after=0) as ours:
        await happen(it, 3)
        job = await queue(stranger)
        first = await theirs.next()
        assert (first.id, first.json["data"]["id"]) == ("1", job["id"])
        assert await sequences(ours, 3) == [1, 2, 3]


async def test_a_head_request_is_answered_and_holds_nothing(it: Stand) -> None:
    assert (await it.client.call("HEAD", LOG))[0] == 200
    await until(it, lambda: it.wirephoto.site.places.open == 0)
