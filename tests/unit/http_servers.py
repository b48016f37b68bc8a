"""Real servers on loopback that keep no promise at all, and what the tests of the outbound client ask of it."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from handlers.http import Answer, Http, Stream, TransportError
from service.security.egress import Guard

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A real server; gives `http://host:port`, or `https://localhost:port`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=tls)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"https://localhost:{port}" if tls else f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """A server that says byte for byte what the test wants, to its end or the test's."""
    tasks: set[asyncio.Task[None]] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(hold(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await server.wait_closed()


class Kind:
    """Which client the tests are run with; see the fixture `each_client`."""

    now: type[Http] = Http


def new(**options: Any) -> Http:
    return Kind.now(**options)


@asynccontextmanager
async def client(http: Http | None = None) -> AsyncIterator[Http]:
    http = http or new()
    try:
        yield http
    finally:
        await http.close()


def guarded(*allow: str, resolver: AbstractResolver | None = None, trusted: frozenset[str] = frozenset()) -> Http:
    guard = Guard([ip_network(network) for network in allow])
    return new(judge=guard.socket, judge_url=guard.judge_url, resolver=resolver, trusted_origins=trusted)


class Names(AbstractResolver):
    """A resolver whose names lead where the test says."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.names[host]
        ]

    async def close(self) -> None: ...


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {"method": request.method, "headers": dict(request.headers), "body": (await request.read()).decode()}
    )


def answers(body: bytes, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    return handler


async def fails(call: Awaitable[Answer], kind: str) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await call
    assert caught.value.kind == kind, caught.value
    return caught.value


async def drains(stream: AbstractAsyncContextManager[Stream], kind: str) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await read(stream)
    assert caught.value.kind == kind, caught.value
    return caught.value


async def read(stream: AbstractAsyncContextManager[Stream]) -> bytes:
    async with stream as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


def redirects(to: str, status: int = 302) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": to})

    return handler
