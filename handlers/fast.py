"""The outbound client for many small requests: what `Http` promises, for a third of the work.

Deliveries are most of what a busy service does, and most of a delivery was aiohttp's work. Here a request is one write,
and its answer a few callbacks. What has a form, parts or a file, and what is streamed, still goes out through aiohttp.
"""

import asyncio
import os
import resource
import ssl
import time
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aiohttp.abc import AbstractResolver

from handlers.bodies import Part
from handlers.connections import KEEPALIVE, AddressRefused, SocketJudge
from handlers.dial import Dialer, DnsError
from handlers.http import NO_HEADERS, Answer, Http
from handlers.transport import Target, TransportError, transport_error
from handlers.wire import Connection, TooLarge

_ALWAYS = {"user-agent": "Wirephoto", "accept": "*/*", "accept-encoding": "identity"}
_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})
# The parser does not know what was asked: the answer to a HEAD has a length and no body.
_NEVER_HERE = frozenset({"HEAD", "CONNECT"})

MOST_RESTING = 4096

_Pool = tuple[str, bool]


class FastHttp(Http):
    """See `Http`. A `limit` of connections at once is kept by aiohttp's pool, which then takes all requests."""

    def __init__(
        self,
        *,
        judge: SocketJudge | None = None,
        judge_url: Callable[[str], None] | None = None,
        trusted_origins: frozenset[str] = frozenset(),
        ca_file: Path | None = None,
        limit: int = 0,
        resolver: AbstractResolver | None = None,
    ) -> None:
        super().__init__(
            judge=judge,
            judge_url=judge_url,
            trusted_origins=trusted_origins,
            ca_file=ca_file,
            limit=limit,
            resolver=resolver,
        )
        self._dialer = Dialer(self._resolver, judge)
        # One per origin and policy; the last that was used is the first to be used again.
        self._idle: defaultdict[_Pool, list[Connection]] = defaultdict(list)
        # All of them, by when they came to rest. With many receivers they would be all the files we may open.
        self._resting: OrderedDict[Connection, _Pool] = OrderedDict()
        self._most_resting = max(16, min(MOST_RESTING, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 5))
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | Path | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        parts: Sequence[Part] | None = None,
        deadline: float = 15.0,
        connect: float = 5.0,
        keep: int = 1 << 20,
        cut: bool = False,
    ) -> Answer:
        """See `Http.request`."""
        streamed = form is not None or parts is not None
        if isinstance(body, Path) or streamed or self._limit or method in _NEVER_HERE:
            return await super().request(
                method,
                url,
                headers=headers,
                body=body,
                form=form,
                parts=parts,
                deadline=deadline,
                connect=connect,
                keep=keep,
                cut=cut,
            )
        if self._closed:
            raise RuntimeError("the client is closed")
        started = time.monotonic()
        end = asyncio.get_running_loop().time() + deadline
        target = self._target(url)
        request = _request(method, target, headers, body)
        connection = self._take(target) or await self._connect(target, connect, end)
        try:
            await connection.exchange(request, end, keep, cut=cut)
        except TooLarge:
            raise transport_error("too_large", target, sent=True, limit=keep) from None
        except TimeoutError:
            raise transport_error("timeout", target, sent=True) from None
        except (OSError, ValueError, zlib.error):
            raise transport_error("broken", target, sent=True) from None
        finally:
            self._give_back(target, connection)
        return Answer(
            connection.status,
            connection.headers,
            bytes(connection.body),
            connection.truncated,
            round((time.monotonic() - started) * 1000),
        )

    async def close(self) -> None:
        """See `Http.close`."""
        await super().close()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.close()
        await self._dialer.close()

    # --- connections ---------------------------------------------------------------------------------------------

    def _take(self, target: Target) -> Connection | None:
        """An idle connection that is certainly still there, so that no request is lost on one that is not."""
        idle = self._idle.get((target.origin, target.trusted))
        latest = time.monotonic() - KEEPALIVE
        while idle:
            connection = idle.pop()
            del self._resting[connection]
            if connection.idle_since > latest and connection.alive():
                return connection
            self._drop(connection)
        return None

    def _give_back(self, target: Target, connection: Connection) -> None:
        if self._closed or not connection.reusable:
            self._drop(connection)
            return
        connection.idle_since = time.monotonic()
        pool = target.origin, target.trusted
        self._idle[pool].append(connection)
        self._resting[connection] = pool
        if len(self._resting) > self._most_resting:
            self._close_the_oldest()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(KEEPALIVE, self._close_the_idle)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.close()

    def _close_the_idle(self) -> None:
        self._sweep = None
        latest = time.monotonic() - KEEPALIVE
        while self._resting and next(iter(self._resting)).idle_since <= latest:
            self._close_the_oldest()
        if self._resting:
            self._sweep = asyncio.get_running_loop().call_later(KEEPALIVE, self._close_the_idle)

    def _close_the_oldest(self) -> None:
        connection, pool = self._resting.popitem(last=False)
        # The first to come to rest in its pool too.
        del self._idle[pool][0]
        if not self._idle[pool]:
            del self._idle[pool]
        self._drop(connection)

    async def _connect(self, target: Target, connect: float, end: float) -> Connection:
        """A fresh connection; nothing has been sent on it. Raises TransportError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(end, loop.time() + connect)):
                return await self._open_to(target)
        except (DnsError, OSError) as fault:
            raise _explain(fault, target) from None

    async def _open_to(self, target: Target) -> Connection:
        host, port = target.url.raw_host, target.url.port
        assert host is not None
        assert port is not None, "parse_url refuses what has none"
        sock = await self._dialer.dial(host, port, judged=not target.trusted)
        secure = target.url.scheme == "https"
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection,
                sock=sock,
                ssl=self._tls() if secure else None,
                server_hostname=host.rstrip(".") if secure else None,
            )
        except BaseException:
            sock.close()
            raise
        self._open.add(connection)
        return connection

    def _tls(self) -> ssl.SSLContext:
        if not isinstance(self._ssl, ssl.SSLContext):
            self._ssl = ssl.create_default_context()
            self._ssl.set_alpn_protocols(["http/1.1"])
        return self._ssl


def _explain(fault: Exception, target: Target) -> TransportError:
    """Why there is no connection, in the system's or OpenSSL's own words."""
    if isinstance(fault, DnsError):
        return transport_error("dns", target, sent=False)
    if isinstance(fault, AddressRefused):
        return transport_error("refused_address", target, sent=False)
    if isinstance(fault, TimeoutError) and not fault.errno:
        return transport_error("timeout", target, sent=False)
    if isinstance(fault, ssl.SSLError):
        why = getattr(fault, "verify_message", None) or fault.reason
        return transport_error("tls", target, sent=False, why=why)
    errno = getattr(fault, "errno", None)
    return transport_error("connect", target, sent=False, why=os.strerror(errno) if errno else None)


def _request(method: str, target: Target, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request as it goes out, in one piece. Raises TransportError where a header would become two."""
    own = {name.lower(): value for name, value in headers.items()}
    fields = {"host": target.url.host_port_subcomponent, **_ALWAYS, **own}
    if body is not None:
        fields.setdefault("content-type", "application/octet-stream")
    if body is not None or method in _WITH_LENGTH:
        fields["content-length"] = str(len(body or b""))
    head = "\r\n".join([f"{name}: {value}" for name, value in fields.items()])
    # Each field ends one line and the request has one more end than fields.
    if head.count("\n") != len(fields) - 1 or head.count("\r") != len(fields) - 1 or "\x00" in head:
        raise transport_error("broken", target, sent=False)
    return b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (
        method.encode(),
        target.url.raw_path_qs.encode(),
        head.encode("utf-8", "surrogateescape"),
        body or b"",
    )
