"""The one outbound HTTP client: every request to a vendor, a subscriber, a shop or a picture's link leaves here.

One call is at most one request on the wire. Nothing is retried and no cookie, proxy or netrc file of the environment is
used; a redirect is followed only by a streamed GET that allows it, and each hop is judged like a first request.
"""

import asyncio
import math
import os
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.payload import Payload

# The parts of this module's interface that live below it are named twice: callers know only `handlers.http`.
from handlers.bodies import Part as Part
from handlers.bodies import payload, pieces, urlencoded
from handlers.connections import KEEPALIVE, Connector, Trip, current_trip
from handlers.connections import AddressRefused as AddressRefused
from handlers.connections import AddrInfo as AddrInfo
from handlers.connections import SocketJudge as SocketJudge
from handlers.links import loose_url, origin_of, parse_url
from handlers.names import Resolver
from handlers.transport import Answer as Answer
from handlers.transport import Target, transport_error
from handlers.transport import TransportError as TransportError

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What may follow a redirect to another origin: an allow-list, for vendors put keys into headers of any name.
_CARRIED = frozenset({"accept", "accept-language", "range", "user-agent"})
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
# Parsed URLs, so that a receiver's is not parsed again with each delivery. A result link is asked for once, and leaves.
TARGETS_IN_MEMORY = 4096


# The first that fits names the kind.
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.InvalidURL, "bad_url"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    (UnicodeError, "dns"),  # a label of more than 63 characters fails before any question is asked
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ClientConnectorError, "connect"),
    (TimeoutError, "timeout"),
    (Exception, "broken"),
)
_FAULTS = (aiohttp.ClientError, OSError, ValueError, zlib.error)


def _explain(fault: Exception, target: Target, sent: bool) -> TransportError:
    inner = fault.__cause__ or fault
    if isinstance(inner, AddressRefused):
        return transport_error("refused_address", target, sent=sent)
    kind = next(kind for of, kind in _KINDS if isinstance(fault, of))
    why = None
    # The system's and OpenSSL's own words. asyncio's would tell the address behind a name.
    if kind == "connect" and isinstance(inner, OSError) and inner.errno:
        why = os.strerror(inner.errno)
    elif kind == "tls":
        why = getattr(inner, "verify_message", None) or getattr(inner, "reason", None)
    return transport_error(kind, target, sent=sent, why=why)


class Stream:
    """An answer whose body is read piece by piece."""

    def __init__(self, response: aiohttp.ClientResponse, target: Target, end: float, max_bytes: int) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._target = target
        self._end = end
        self._max_bytes = max_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """The decoded body, once. Raises TransportError: too_large past max_bytes, timeout at the deadline, broken."""
        if (self._response.content_length or 0) > self._max_bytes:
            raise self._too_large()
        size = 0
        try:
            async with aclosing(pieces(self._response, self._end)) as body:
                async for piece in body:
                    size += len(piece)
                    if size > self._max_bytes:
                        raise self._too_large()
                    yield piece
        except _FAULTS as fault:
            # No cause is kept: aiohttp's errors hold the whole URL.
            raise _explain(fault, self._target, sent=True) from None

    def _too_large(self) -> TransportError:
        return transport_error("too_large", self._target, sent=True, limit=self._max_bytes)


class Http:
    """The client. Made anywhere, used in one event loop, closed at the end.

    `judge` makes the socket for each address, or raises AddressRefused; None: the operator's own addresses, no guard.
    `judge_url` raises ValueError for a URL whose address can be refused without a look-up; it must be pure.
    `trusted_origins` are the operator's too: URLs of these origins are not judged, over connections of their own.
    `ca_file` holds roots beside the system's. `limit`: connections at once, judged and trusted apart; 0 for no limit.
    """

    def __init__(
        self,
        *,
        judge: SocketJudge | None = None,
        judge_url: Callable[[str], None] | None = None,
        trusted_origins: frozenset[str] = frozenset(),
        ca_file: Path | None = None,
        limit: int = 100,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._judge = judge
        self._judge_url = judge_url
        self._trusted = frozenset(origin(url) for url in trusted_origins)
        self._limit = limit
        self._resolver = resolver or Resolver()
        self._ssl: ssl.SSLContext | bool = True
        if ca_file is not None:
            self._ssl = ssl.create_default_context()
            self._ssl.load_verify_locations(ca_file)
            self._ssl.set_alpn_protocols(["http/1.1"])
        # One per policy: a pooled connection was vetted by the policy that it is used under.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._closed = False
        # A busy endpoint's URL is parsed and judged once, not for each delivery.
        self._target = lru_cache(maxsize=TARGETS_IN_MEMORY)(self._find_target)

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
        """One request, its whole answer of any status; redirects are not followed. Raises TransportError.

        At most one of `body`, `form` (urlencoded) and `parts` (multipart with a known length). A `Path` as `body` is a
        file, streamed with its length; no Content-Type but the caller's goes with it, for uploads are signed.
        `deadline` (seconds) covers everything to the body's last byte, `connect` name, TCP and TLS. A body of more than
        `keep` decoded bytes is too_large; with `cut` it is truncated to that and the connection closed.
        """
        started = time.monotonic()
        end = asyncio.get_running_loop().time() + deadline
        target = self._target(url)
        with ExitStack() as files:
            data = payload(body, form, parts, files)
            bare = isinstance(body, Path)
            response = await self._send(method, target, headers, data, connect, end, bare=bare)
            try:
                if not cut and method != "HEAD" and (response.content_length or 0) > keep:
                    raise transport_error("too_large", target, sent=True, limit=keep)
                held, truncated = await _read(response, end, keep, cut)
                if truncated and not cut:
                    raise transport_error("too_large", target, sent=True, limit=keep)
            except _FAULTS as fault:
                raise _explain(fault, target, sent=True) from None
            finally:
                # Gives the connection back, or closes it where the body was not read to its end.
                response.release()
        return Answer(response.status, response.headers, held, truncated, round((time.monotonic() - started) * 1000))

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Sequence[tuple[str, str]] | None,
        end: float,
        connect: float,
        max_bytes: int,
        redirects: int,
    ) -> AsyncIterator[Stream]:
        target = self._target(url)
        data = None if form is None else urlencoded(form)
        hops = 0
        while True:
            response = await self._send(method, target, headers, data, connect, end, follows=hops > 0)
            try:
                location = response.headers.get("Location")
                if method != "GET" or not redirects or response.status not in _REDIRECTS or not location:
                    yield Stream(response, target, end, max_bytes)
                    return
            finally:
                response.release()
            if hops == redirects:
                raise transport_error("too_many_redirects", target, sent=True, limit=redirects)
            hops += 1
            before, target = target, self._next_target(target, location)
            if target.origin != before.origin:
                headers = {name: value for name, value in headers.items() if name.lower() in _CARRIED}

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        form: Sequence[tuple[str, str]] | None = None,
        deadline: float,
        connect: float = 5.0,
        max_bytes: int,
        redirects: int = 0,
    ) -> AbstractAsyncContextManager[Stream]:
        """An answer of any status, its body read by `chunks`. Raises TransportError on entering and while reading.

        `deadline` (seconds) runs from this call, over all hops, to the last byte, the caller's own pauses included.
        With `redirects`, a GET follows that many hops, each judged anew; else a 3xx is an answer like any other.
        """
        end = asyncio.get_running_loop().time() + deadline
        return self._stream(method, url, headers, form, end, connect, max_bytes, redirects)

    async def close(self) -> None:
        """Ends all connections. A request after this is a bug, and a RuntimeError."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        await self._resolver.close()

    async def _send(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        data: bytes | Payload | None,
        connect: float,
        end: float,
        *,
        follows: bool = False,
        bare: bool = False,
    ) -> aiohttp.ClientResponse:
        trip = Trip()
        token = current_trip.set(trip)
        try:
            async with asyncio.timeout_at(end):
                return await self._session(target.trusted).request(
                    method,
                    target.url,
                    headers=headers,
                    data=data,
                    allow_redirects=False,
                    skip_auto_headers=("Content-Type",) if bare else None,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, ceil_threshold=math.inf),
                )
        except _FAULTS as fault:
            raise _explain(fault, target, sent=follows or trip.sent) from None
        finally:
            current_trip.reset(token)

    def _session(self, trusted: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(trusted)
        if session is None:
            if self._closed:
                raise RuntimeError("the client is closed")
            session = aiohttp.ClientSession(
                connector=Connector(
                    limit=self._limit,
                    keepalive_timeout=KEEPALIVE,
                    ssl=self._ssl,
                    socket_factory=None if trusted else self._judge,
                    resolver=self._resolver,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": "Wirephoto", "Accept-Encoding": "identity"},
            )
            # Found in aiohttp 3.14: GET, HEAD, PUT and DELETE are sent a second time, unasked, when the server hangs up
            # before it answers, even on a fresh connection (a POST never is). Each vendor request is counted in its
            # rate window before it leaves, so none may be doubled. There is no public switch for this.
            session._retry_connection = False
            self._sessions[trusted] = session
        return session

    def _find_target(self, url: str) -> Target:
        try:
            parsed = parse_url(url)
        except ValueError as reason:
            raise TransportError("bad_url", str(reason), sent=False) from None
        where = origin_of(parsed)
        trusted = where in self._trusted
        target = Target(parsed, where, trusted)
        if not trusted and self._judge_url is not None:
            try:
                self._judge_url(url)
            except ValueError:
                raise transport_error("refused_address", target, sent=False) from None
        return target

    def _next_target(self, before: Target, location: str) -> Target:
        try:
            return self._target(str(before.url.join(loose_url(location))))
        except ValueError:
            raise transport_error("bad_url", before, sent=True, why="it redirects to nonsense") from None
        except TransportError as error:
            raise TransportError(error.kind, f"{before.origin} redirects: {error}", sent=True) from None


async def _read(response: aiohttp.ClientResponse, end: float, keep: int, cut: bool) -> tuple[bytes, bool]:
    """The body up to `keep` bytes, and whether there is more."""
    held = bytearray()
    try:
        async with aclosing(pieces(response, end)) as body:
            async for piece in body:
                held += piece
                if len(held) > keep:
                    return bytes(held[:keep]), True
    except (ValueError, zlib.error):
        if not cut:
            raise
        # Who only wants the head of a body learns the status, whatever strange encoding follows.
        return bytes(held), True
    return bytes(held), False


def origin(url: str) -> str:
    """`scheme://host:port` in lower case, the port always written. Raises ValueError like `parse_url`."""
    return origin_of(parse_url(url))


def retry_after(headers: Mapping[str, str], now: int) -> float | None:
    """Seconds from `now` (ms since 1970) until the answer's Retry-After, in either form; None for nonsense.

    Never negative, and not capped: how long is too long is for the caller to say.
    """
    value = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    if _SECONDS.fullmatch(value):
        seconds = float(value)
        return seconds if math.isfinite(seconds) else None
    try:
        when = parsedate_to_datetime(value)
        # HTTP dates are GMT, also in the old form that does not say so.
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - now / 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
