"""The process: a listening socket, the HTTP server over the service, and what ends them."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

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


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn would raise them again before we have put anything away."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(settings: Settings) -> socket.socket:
    """The listening socket; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    # asyncio does this only for sockets that it made itself. Without it the body of each answer, sent after its head,
    # waits for the client's delayed ACK: 40 ms. Accepted connections inherit it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@asynccontextmanager
async def serving(wirephoto: Wirephoto, sock: socket.socket) -> AsyncIterator[_Server]:
    """The HTTP server over a running service. `should_exit` ends it."""
    config = uvicorn.Config(
        wirephoto.asgi(),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(GRACE_SECONDS),
    )
    server = _Server(config)
    # The socket listens already: what comes before the server is up waits in its backlog.
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield server
    finally:
        server.should_exit = True
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
