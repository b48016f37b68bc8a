"""The end of the HTTP server: what is under way ends well, and nothing keeps it for longer than its grace."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.app import running
from service.server import listen, serving
from tests.harness import API_KEY, PATIENCE, settings_for

pytestmark = pytest.mark.anyio

HEAD = f"POST /v1/assets HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: image/jpeg\r\n"


@dataclass
class Door:
    """A running server, the end of which is up to the test, and a client that has sent half a picture."""

    address: tuple[str, int]
    end: asyncio.Event
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rest: bytes


@asynccontextmanager
async def started(folder: Path, **options: Any) -> AsyncIterator[tuple[tuple[str, int], asyncio.Event]]:
    """A server's address, and what ends it; it has ended with the context."""
    settings, end, up = settings_for(folder), asyncio.Event(), asyncio.Event()
    with listen(settings) as sock:

        async def serve() -> None:
            async with running(settings) as wirephoto, serving(wirephoto, sock, **options):
                up.set()
                await end.wait()

        serve_task = asyncio.create_task(serve())
        async with asyncio.timeout(PATIENCE):
            await up.wait()
            yield sock.getsockname(), end
            await serve_task


@asynccontextmanager
async def half_sent(folder: Path, photo: bytes, **options: Any) -> AsyncIterator[Door]:
    async with started(folder, **options) as (address, end):
        reader, writer = await asyncio.open_connection(*address)
        # That the server asks for the body tells that the request has begun.
        head = f"{HEAD}Content-Length: {len(photo)}\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head.encode())
        assert b" 100 " in await reader.readline()
        await reader.readline()
        writer.write(photo[:1000])
        await writer.drain()
        with closing(writer):
            yield Door(address, end, reader, writer, photo[1000:])


async def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path, photos: Path) -> None:
    async with half_sent(tmp_path, (photos / "cat.jpg").read_bytes()) as door:
        door.end.set()
        await asyncio.sleep(0)
        door.writer.write(door.rest)
        answer = await door.reader.read()
        assert answer.startswith(b"HTTP/1.1 201 "), answer


async def test_a_request_that_never_comes_to_its_end_holds_up_nothing_for_longer_than_the_grace(
    tmp_path: Path, photos: Path
) -> None:
    async with half_sent(tmp_path, (photos / "cat.jpg").read_bytes(), grace_seconds=0.05) as door:
        door.end.set()  # the test's patience is far longer
    gc.collect()  # what was half taken in would complain of not having been closed


# With uvloop, which the service takes where it is installed, several come to be known in one round.
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": fast}) for fast in (False, True)])
@pytest.mark.parametrize("clients", [1, 20])
@pytest.mark.parametrize("rounds", range(5))
async def test_whoever_comes_at_the_very_end_holds_up_nothing(
    tmp_path: Path, photos: Path, rounds: int, clients: int
) -> None:
    """So many rounds of the loop before the stop begins: its connection may have been accepted and not be known yet."""
    with ExitStack() as opened, capture_logs() as said:
        async with half_sent(tmp_path, (photos / "cat.jpg").read_bytes(), grace_seconds=2) as door:
            for _ in range(clients):
                opened.enter_context(socket.create_connection(door.address))
            for _ in range(rounds):
                await asyncio.sleep(0)
            door.end.set()
            for _ in range(10):
                await asyncio.sleep(0)
            door.writer.write(door.rest)
            assert (await door.reader.read()).startswith(b"HTTP/1.1 201 ")
    assert [line["event"] for line in said if line["event"].startswith("http.")] == ["http.closed"]
    gc.collect()  # nor is one forgotten that is still open
