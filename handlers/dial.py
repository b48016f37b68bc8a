"""Below `handlers/fast.py`: from a host's name to a connected socket, its address judged by the guard."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import aiohappyeyeballs
from aiohttp.abc import AbstractResolver

from handlers.connections import AddrInfo, SocketJudge

# RFC 8305: so long one address is tried alone before the next is tried beside it.
_NEXT_ADDRESS_SECONDS = 0.25
# As long as aiohttp keeps them. What a name leads to is judged at each connection all the same.
_NAMES_KEPT_SECONDS = 10.0


class DnsError(Exception):
    """The name can't be resolved."""


class Dialer:
    """One per client. `judge` makes the socket for an address or raises AddressRefused; None: no guard."""

    def __init__(self, resolver: AbstractResolver, judge: SocketJudge | None) -> None:
        self._resolver = resolver
        self._judge = judge
        self._asked: dict[tuple[str, int], asyncio.Task[list[AddrInfo]]] = {}

    async def dial(self, host: str, port: int, *, judged: bool) -> socket.socket:
        """The first of the host's addresses that takes us. Raises DnsError, AddressRefused and OSError."""
        addresses = [_literal(host, port)] if _is_literal(host) else await self._look_up(host, port)
        try:
            return await aiohappyeyeballs.start_connection(
                addresses,
                happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
                socket_factory=self._judge if judged else None,
            )
        except RuntimeError as fault:
            # uvloop's word for some failures of a socket.
            raise OSError(str(fault)) from None

    async def _look_up(self, host: str, port: int) -> Sequence[AddrInfo]:
        """A question that is asked already, or was a moment ago, is not asked again: many connect at once."""
        asked = self._asked.get((host, port))
        if asked is None:
            asked = self._asked[host, port] = asyncio.create_task(self._resolve(host, port))
            asked.add_done_callback(lambda done: self._keep(host, port, done))
        return await asyncio.shield(asked)

    def _keep(self, host: str, port: int, done: asyncio.Task[list[AddrInfo]]) -> None:
        if done.cancelled() or done.exception() is not None:
            del self._asked[host, port]
        else:
            asyncio.get_running_loop().call_later(_NAMES_KEPT_SECONDS, self._asked.pop, (host, port), None)

    async def _resolve(self, host: str, port: int) -> list[AddrInfo]:
        try:
            found = await self._resolver.resolve(host, port, family=socket.AF_UNSPEC)
        except (OSError, UnicodeError):
            raise DnsError from None
        if not found:
            raise DnsError
        return [_literal(entry["host"], entry["port"]) for entry in found]

    async def close(self) -> None:
        for asked in list(self._asked.values()):
            asked.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _literal(address: str, port: int) -> AddrInfo:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)
