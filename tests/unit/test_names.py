"""A name server that says nothing holds up only who asks it."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.http import Http, TransportError
from handlers.names import MOST_LOOKUPS, Resolver
from service.store.files import FileStore
from tests.harness import PATIENCE
from tests.unit.http_servers import serving

pytestmark = pytest.mark.anyio


class DeadNameServer:
    """Every look-up hangs until the test is over."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self.threads: list[str] = []
        self.full = threading.Event()

    def look_up(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.threads.append(threading.current_thread().name)
        if len(self.threads) >= MOST_LOOKUPS:
            self.full.set()
        self._over.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, f"no answer for {host}")

    def end(self) -> None:
        self._over.set()


@pytest.fixture
def dead() -> Iterator[DeadNameServer]:
    it = DeadNameServer()
    yield it
    it.end()


@pytest.fixture
async def hanging(dead: DeadNameServer) -> AsyncIterator[Http]:
    """A client all of whose look-ups hang, and more wait behind them."""
    async with AsyncExitStack() as stack:
        client = Http(judge=None, resolver=Resolver(dead.look_up), limit=0)
        stack.push_async_callback(client.close)
        asking = [
            asyncio.create_task(client.request("GET", f"http://host-{n}.example/", deadline=PATIENCE))
            for n in range(2 * MOST_LOOKUPS)
        ]
        assert await asyncio.to_thread(dead.full.wait, PATIENCE)
        yield client
        dead.end()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(end) for end in ended} == {TransportError}


@pytest.mark.usefixtures("hanging")
async def test_look_ups_that_hang_hold_up_neither_files_nor_the_loops_own_threads(
    dead: DeadNameServer, tmp_path: Path
) -> None:
    assert len(dead.threads) == MOST_LOOKUPS
    assert all(name.startswith("names") for name in dead.threads)
    files = FileStore(tmp_path)
    async with asyncio.timeout(5):
        async with files.incoming(100) as incoming:
            await incoming.write(b"bytes")
            kept = await incoming.keep()
        assert await files.exists(kept)
        assert await asyncio.to_thread(lambda: "done") == "done"


@pytest.mark.usefixtures("hanging")
async def test_look_ups_that_hang_hold_up_no_other_client() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    async with AsyncExitStack() as stack:
        other = Http(judge=None)
        stack.push_async_callback(other.close)
        url = await stack.enter_async_context(serving(answer))
        port = url.rpartition(":")[2]
        async with asyncio.timeout(5):
            found = await other.request("GET", f"http://localhost:{port}/", deadline=5)
    assert found.body == b"here"


async def test_full_threads_of_the_loop_hold_up_neither_files_nor_names(tmp_path: Path) -> None:
    over = threading.Event()
    loop = asyncio.get_running_loop()
    # More than the loop has threads.
    busy = [loop.run_in_executor(None, over.wait, PATIENCE) for _ in range(64)]
    resolver = Resolver()
    try:
        async with asyncio.timeout(5), FileStore(tmp_path).incoming(100) as incoming:
            await incoming.write(b"bytes")
            await incoming.keep()
            assert await resolver.resolve("localhost", 80)
    finally:
        over.set()
        await asyncio.gather(*busy)
        await resolver.close()
