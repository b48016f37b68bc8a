"""Below `handlers/http.py`: the sockets, whose address a guard judges, and whether a request can have left by one."""

import asyncio
import errno
import select
import socket
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

AddrInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
SocketJudge = Callable[[AddrInfo], socket.socket]

# Many servers close an idle connection after 5 s. We let go first, so that a request never races the server's FIN.
KEEPALIVE = 4.0


class AddressRefused(OSError):
    """The address guard refuses the address that a socket would have connected to."""

    def __init__(self) -> None:
        # One text for all: where every address of a host is refused, the connector then raises this very type, and not
        # a mixture of messages.
        super().__init__(errno.EACCES, "the address is not public")


@dataclass(slots=True)
class Trip:
    """What one request has come to; the connector writes it, the error's `sent` is read from it."""

    fresh: bool = False
    sent: bool = False


current_trip: ContextVar[Trip] = ContextVar("current_trip")


class Connector(aiohttp.TCPConnector):
    """Knows, for each request, whether it ever had a connection to leave through."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        trip = current_trip.get()
        while True:
            trip.fresh = False
            connection = await super().connect(req, traces, timeout)
            # Found in aiohttp 3.14: a pooled connection is handed out unless the loop has *already* seen the server's
            # FIN. On a busy loop the FIN still waits in the kernel; a POST written then fails as "server disconnected"
            # and nobody knows whether it was received. An idle connection has nothing to say, so one that is readable
            # is at its end: we drop it before a byte has left, and the request stays certainly unsent. (A fresh one may
            # be readable: TLS sends its session tickets unasked.)
            if trip.fresh or not _readable(connection):
                trip.sent = True
                return connection
            connection.close()

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        current_trip.get().fresh = True
        # aiohttp's own limits count either each address anew or the wait for a place in our pool, which is not the
        # receiver's fault. This one is for name, TCP and TLS together.
        async with asyncio.timeout(timeout.sock_connect):
            return await super()._create_connection(req, traces, timeout)


def _readable(connection: Connection) -> bool:
    transport = connection.transport
    if transport is None:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
