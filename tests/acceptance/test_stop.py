"""The end of the HTTP server: what is under way ends well, and nothing keeps it for longer than its grace."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.app import running
from service.server import listen, serving
from tests.harness import API_KEY, PATIENCE, settings_for

pytestmark = pytest.mark.anyio

HEAD = f"POST /v1/assets HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: image/jpeg\r\n"


@dataclass
class Door:
    """A running server, the end of which is up to the test, and a client that has sent half a picture."""

    end: asyncio.Event
    ended: asyncio.Task[None]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rest: bytes


@asynccontextmanager
async def half_sent(folder: Path, photo: bytes, **options: Any) -> AsyncIterator[Door]:
    settings, end, up = settings_for(folder), asyncio.Event(), asyncio.Event()
    with listen(settings) as sock:
        address = sock.getsockname()

        async def serve() -> None:
            async with running(settings) as wirephoto, serving(wirephoto, sock, **options):
                up.set()
                await end.wait()

        ended = asyncio.create_task(serve())
        async with asyncio.timeout(PATIENCE):
            await up.wait()
            reader, writer = await asyncio.open_connection(*address)
            # That the server asks for the body tells that the request has begun.
            head = f"{HEAD}Content-Length: {len(photo)}\r\nExpect: 100-continue\r\n\r\n"
            writer.write(head.encode())
            assert b" 100 " in await reader.readline()
            await reader.readline()
            writer.write(photo[:1000])
            await writer.drain()
            try:
                yield Door(end, ended, reader, writer, photo[1000:])
                await ended
            finally:
                writer.close()


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
        door.end.set()
        await door.ended  # or the test's patience ends first
    gc.collect()  # what was half taken in would complain of not having been closed
