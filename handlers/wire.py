"""Below `handlers/fast.py`: one HTTP/1.1 connection. A request goes out in one write, its answer comes in by callbacks.

Nothing here waits, retries or knows a URL. It needs httptools (the extra `speed`), which parses as Node.js does.
"""

import asyncio
import select
import zlib
from typing import cast

import httptools
from multidict import CIMultiDict

from handlers.bodies import Inflate

# Of an answer's head, with all that comes before it: what is longer is no webhook's answer.
MOST_HEAD_BYTES = 64 * 1024


class TooLarge(Exception):
    """The answer's body is larger than the caller takes."""


class Connection(asyncio.Protocol):
    """One request at a time: `exchange`, then `reusable` says whether there may be another."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._lost = False
        self._spoilt = False
        self.idle_since = 0.0
        self._begin(0, cut=False)

    def _begin(self, keep: int, *, cut: bool) -> None:
        self._keep, self._cut = keep, cut
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.body = bytearray()
        self.truncated = False
        self._inflate: Inflate | None = None
        self._head_bytes = self._fields_bytes = 0
        self._has_head = False
        self._ends_with_connection = False
        self._complete = False
        self._goes_on = False

    # --- for the client ------------------------------------------------------------------------------------------

    async def exchange(self, request: bytes, end: float, keep: int, *, cut: bool) -> None:
        """Send, and wait for the whole answer, or with `cut` for its first `keep` bytes. `end` is in the loop's time.

        Raises TooLarge, TimeoutError, OSError (it broke off), ValueError and zlib.error (what came makes no sense).
        """
        assert self._transport is not None
        self._begin(keep, cut=cut)
        self._done = self._loop.create_future()
        timer = self._loop.call_at(end, self._late)
        try:
            self._transport.write(request)
            await self._done
        finally:
            timer.cancel()
            self._done = None

    @property
    def reusable(self) -> bool:
        """Whether the last exchange ended as HTTP says, and the peer will hear another."""
        return (
            self._goes_on
            and not self._spoilt
            and not self._lost
            and self._transport is not None
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )

    def alive(self) -> bool:
        """Asked of an idle connection: one that is readable is at its end, even if the loop has not seen that yet."""
        return not self._lost and not self._spoilt and not self._poll.poll(0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- from the loop -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            # Nobody asked, or nobody listens any more.
            self._spoilt = True
            self.close()
            return
        if not self._has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Another protocol, which nobody asked for: its status is the answer.
            self._spoilt = True
            self._finish()
        except httptools.HttpParserError:
            self._spoilt = True
            self._fail(ValueError("this is no HTTP"))
        if not self._has_head and self._head_bytes > MOST_HEAD_BYTES:
            self._fail(ValueError("the head has no end"))

    def connection_lost(self, fault: Exception | None) -> None:
        self._lost = True
        if fault is None and self._has_head and self._ends_with_connection:
            self._end_of_body()
        self._fail(ConnectionResetError("the connection is gone"))

    def _late(self) -> None:
        self._fail(TimeoutError())

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, fault: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(fault)

    # --- from the parser -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            # A second answer to one request.
            self._spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the head these are trailers, which say nothing that is asked for.
        if self._has_head:
            return
        self._fields_bytes += len(name) + len(value)
        if self._fields_bytes <= MOST_HEAD_BYTES:
            self.headers.add(name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            # On its way to the answer.
            self.headers.clear()
            return
        self.status, self._has_head = status, True
        if self._fields_bytes > MOST_HEAD_BYTES:
            self._fail(ValueError("the head is too large"))
        length = self.headers.get("Content-Length")
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        self._ends_with_connection = length is None and not chunked
        if not self._cut and length is not None and length.isdigit() and int(length) > self._keep:
            self._fail(TooLarge())
        coding = self.headers.get("Content-Encoding", "").strip().lower()
        if coding not in ("", "identity"):
            try:
                self._inflate = Inflate(coding)
            except ValueError as fault:
                self._undecodable(fault)

    def on_body(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            return
        if self._inflate is None:
            self._take(data)
            return
        try:
            for piece in self._inflate.feed(data):
                self._take(piece)
                if self._done.done():
                    return
        except (ValueError, zlib.error) as fault:
            self._undecodable(fault)

    def on_message_complete(self) -> None:
        if self._has_head and not self._complete:
            self._complete = True
            # Asked now: the parser forgets what it was told of the length.
            self._goes_on = self._parser.should_keep_alive()
            self._end_of_body()

    def _take(self, data: bytes) -> None:
        self.body += data
        if len(self.body) <= self._keep:
            return
        if not self._cut:
            self._fail(TooLarge())
            return
        del self.body[self._keep :]
        self.truncated = self._spoilt = True
        self._finish()

    def _end_of_body(self) -> None:
        if self._inflate is not None and self._done is not None and not self._done.done():
            try:
                self._inflate.finish()
            except ValueError as fault:
                self._undecodable(fault)
        self._finish()

    def _undecodable(self, fault: Exception) -> None:
        """Who only wants the head of a body learns the status, whatever strange encoding follows."""
        self._spoilt = True
        if not self._cut:
            self._fail(fault)
            return
        self.truncated = True
        self._finish()
