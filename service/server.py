"""The process: a listening socket, the HTTP server over the service, and what ends them."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from pydantic import SecretStr

from service import log as log_module
from service.app import Wirephoto, running
from service.config import Settings, section
from service.vendor_settings import VendorSettings

if TYPE_CHECKING:
    from service.sandboxes import SandboxVendor

log = structlog.get_logger()

GRACE_SECONDS = 10.0

# Longer than clients keep an idle connection: whoever sends a request just as we close it has lost it.
KEEP_ALIVE_SECONDS = 75

# For what is cut off, to put away what it holds.
_PUT_AWAY_SECONDS = 1.0
# Of the loop: one to begin with the connection, one to make its transport, one to tell its protocol.
_ROUNDS_UNTIL_KNOWN = 3


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn would raise them again before we have put anything away.

    And a stop takes no longer than what is under way: uvicorn looks every tenth of a second whether it should stop, and
    gives connections another one to close. Tasks at a vendor die meanwhile.
    """

    def __init__(self, config: uvicorn.Config, grace_seconds: float) -> None:
        super().__init__(config)
        self._grace_seconds = grace_seconds
        self.stopping = asyncio.Event()
        self.left = asyncio.Event()  # a connection is gone

    def stop(self) -> None:
        self.should_exit = True
        self.stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Each second the Date that answers carry is set anew."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  # closed by its owner
        """Take no more, and let what is under way end within the grace."""
        await self._accept_no_more()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self._grace_seconds):
                while state.tasks:
                    await asyncio.wait(state.tasks)
                while state.connections:
                    self.left.clear()
                    await self.left.wait()
        except TimeoutError:
            log.warning("http.cut_off", requests=len(state.tasks), connections=len(state.connections))
            cut_off = list(state.tasks)
            for task in cut_off:
                task.cancel()
            if cut_off:
                await asyncio.wait(cut_off, timeout=_PUT_AWAY_SECONDS)
            for connection in list(state.connections):
                connection.transport.abort()
        else:
            log.debug("http.closed")

    async def _accept_no_more(self) -> None:
        """What was accepted a moment ago is made known before its server closes: asyncio would forget it, and open."""
        loop = asyncio.get_running_loop()
        for listener in [listener for server in self.servers for listener in server.sockets]:
            loop.remove_reader(listener)
        for _ in range(_ROUNDS_UNTIL_KNOWN):
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()


def _cuttable(base: type[Any], stopping: asyncio.Event, left: asyncio.Event) -> type[asyncio.Protocol]:
    """uvicorn's own protocol, but that a request may cut its connection off: `scope["state"]["cut"]`. `left` is set
    when a connection is gone; one that is made known while we are `stopping` goes at once.

    To close one, asyncio waits until its client has read what was written, and a client that reads nothing has it wait
    for ever.
    """

    class Cuttable(base):  # type: ignore[misc]  # which one it is depends on what is installed
        def __init__(self, config: uvicorn.Config, server_state: Any, app_state: dict[str, Any], **more: Any) -> None:
            super().__init__(config, server_state, {**app_state, "cut": self._cut}, **more)

        def _cut(self) -> None:
            if self.transport is not None:
                self.transport.abort()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if stopping.is_set():  # uvloop accepts until its server closes, and makes known afterwards
                self.shutdown()

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            left.set()

    return Cuttable


def listen(settings: Settings) -> socket.socket:
    """The listening socket; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    # asyncio does this only for sockets that it made itself. Without it the body of each answer, sent after its head,
    # waits for the client's delayed ACK: 40 ms. Accepted connections inherit it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@asynccontextmanager
async def serving(
    wirephoto: Wirephoto, sock: socket.socket, *, grace_seconds: float = GRACE_SECONDS
) -> AsyncIterator[_Server]:
    """The HTTP server over a running service, until the context's end."""
    config = uvicorn.Config(
        wirephoto.asgi(),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    server = _Server(config, grace_seconds)
    config.http_protocol_class = _cuttable(config.http_protocol_class, server.stopping, server.left)
    # The socket listens already: what comes before the server is up waits in its backlog.
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield server
    finally:
        server.stop()
        wirephoto.core.bells.close()
        await task


class TakenOver(Exception):
    """Another Wirephoto has taken this one's work over, while it could not reach their database."""


async def serve(settings: Settings, *, sandbox: bool = False) -> None:
    """Run until SIGTERM or SIGINT. Raises what `running` raises, TakenOver, OSError (the port is taken)."""
    log_module.configure(
        json=settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        sock = listen(settings)
        stack.callback(sock.close)
        settings = settings.model_copy(update={"port": sock.getsockname()[1]})
        if sandbox:
            settings = await with_sandboxes(settings, stack)
        wirephoto = await stack.enter_async_context(running(settings, sandbox=sandbox, show_key=_show_key))
        await stack.enter_async_context(serving(wirephoto, sock))
        _greet(wirephoto, sandbox=sandbox)
        ends = [asyncio.create_task(event.wait()) for event in (stop, wirephoto.lost)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        log.info("service.stopping")
    if wirephoto.lost.is_set():
        raise TakenOver("another Wirephoto has taken over this one's work: only one may run on a database")


async def with_sandboxes(settings: Settings, stack: AsyncExitStack) -> Settings:
    """The vendors' stand-ins on loopback, which is allowed, for there one tries; and settings that point at them."""
    from service.sandboxes import Sandboxes  # a service with real vendors loads none of this

    sandboxes = Sandboxes()
    await sandboxes.start()
    stack.push_async_callback(sandboxes.stop)
    loopback = ["127.0.0.0/8", "::1/128"]
    return settings.model_copy(
        update={
            "public_url": settings.link_base,
            "allow_networks": [*settings.allow_networks, *loopback],
            "allow_source_networks": [*settings.allow_source_networks, *loopback],
            **{name: _played(settings, name, vendor) for name, vendor in sandboxes.vendors.items()},
        }
    )


def _played(settings: Settings, name: str, vendor: "SandboxVendor") -> VendorSettings:
    """The vendor's own settings, with its stand-in in its place."""
    credentials = {part: SecretStr(value) for part, value in vendor.credentials.items()}
    return section(settings, name).model_copy(update={"base_url": vendor.base_url, **credentials})


def _show_key(key: str) -> None:
    sys.stdout.write(f"API key, shown only now: {key}\n")
    sys.stdout.flush()


def _greet(wirephoto: Wirephoto, *, sandbox: bool) -> None:
    """On standard output, for people: where it is, and what to try."""
    url = wirephoto.settings.link_base
    lines = [f"Wirephoto is ready on {url}  (API: {url}/docs)"]
    if sandbox:
        lines += [
            "The vendors are sandboxes on this machine. Try:",
            f"  export WIREPHOTO_URL={url} WIREPHOTO_KEY={wirephoto.made_key or 'wp_…'}",
            "  .venv/bin/wirephoto submit photo.jpg --operation vanceai/enlarge3 --param scale=2 --wait -o big.jpg",
            "  .venv/bin/wirephoto submit photo.jpg --operation picwish/self-face-cutout --wait -o face.png",
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    log.info("service.ready", url=url, vendors=[contracted.name for contracted in wirephoto.site.vendors])
