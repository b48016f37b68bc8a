"""Below `handlers/http.py`: looking up names in threads of its own.

The system's resolver blocks, and a dead name server makes it block for long. In the loop's default threads a few such
look-ups would stop everything else that runs there.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

from handlers.connections import AddrInfo

# Made one by one as they are needed. A look-up that hangs holds one until the system gives up.
MOST_LOOKUPS = 64


class Resolver(AbstractResolver):
    """One per client, so that names under one policy never wait for those under another.

    `look_up` is called as `socket.getaddrinfo` is, in a thread.
    """

    def __init__(self, look_up: Callable[..., Sequence[AddrInfo]] = socket.getaddrinfo) -> None:
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(MOST_LOOKUPS, "names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of a host. Raises OSError."""
        ask = partial(self._look_up, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
