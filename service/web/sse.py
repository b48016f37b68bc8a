"""Server-Sent Events: how messages are written on an answer that does not end, and what becomes of its client.

Source: the HTML standard, "Server-sent events". A block with an id and no data moves the client's cursor and shows it
nothing: so whoever has heard of no event yet reconnects at the right place, too.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

HEARTBEAT_MS = 15_000
# For whoever is to hear why a stream is over, and reads nothing.
LAST_WORDS_SECONDS = 5.0
# When clients should come back after an end, which is mostly a restart.
RETRY_MS = 2_000
# Proxies would collect what is to be passed on at once.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def message(kind: str, data: str, cursor: int | None = None) -> bytes:
    """One message; `data` is on one line, as JSON is when it is written without indents."""
    at = "" if cursor is None else f"id: {cursor}\n"
    return f"{at}event: {kind}\ndata: {data}\n\n".encode()


def message_of(kind: str, data: Any) -> bytes:
    return message(kind, json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def closed(reason: str) -> bytes:
    """The last message of a stream that is ended for a reason. It has no id: the cursor stays where it is."""
    return message_of("closed", {"reason": reason})


def opening(cursor: int | None = None) -> bytes:
    """What every stream begins with: proxies and clients see that it is open."""
    at = "" if cursor is None else f"id: {cursor}\n"
    return f": open\nretry: {RETRY_MS}\n{at}\n".encode()


def heartbeat(cursor: int | None = None) -> bytes:
    """A comment; with a cursor, that nobody reconnects far behind because of events that were not for him."""
    at = "" if cursor is None else f"id: {cursor}\n"
    return f": heartbeat\n{at}\n".encode()


class Line:
    """An open connection, as whoever writes to it sees it. `wake` is set when nothing more is to be written to it: its
    client has gone, or may hear nothing more but, where there is one, the `reason`.

    `told_at`: when it was told something last. `feeds_endpoint`: an endpoint goes when it stays away.
    """

    __slots__ = ("_cut", "feeds_endpoint", "gone", "reason", "told_at", "wake", "writing_since")

    def __init__(self, request: Request, now: int, *, feeds_endpoint: bool = False) -> None:
        self._cut: Callable[[], None] | None = request.scope.get("state", {}).get("cut")
        self.wake = asyncio.Event()
        self.gone = False
        self.reason: str | None = None
        self.told_at = now
        self.feeds_endpoint = feeds_endpoint
        self.writing_since: int | None = None

    @property
    def rank(self) -> tuple[bool, int]:
        """Whose is least can best be spared: a reader of the log comes back and has lost nothing; the idlest first."""
        return self.feeds_endpoint, self.told_at

    def drop_if_stuck(self, now: int, patience: int) -> None:
        """Cut the connection off where its client reads nothing: closing it would wait for that client."""
        if self.writing_since is not None and now - self.writing_since >= patience:
            self.cut()

    def cut(self) -> None:
        if self._cut is not None:
            self._cut()

    def hang_up(self, reason: str | None = None) -> None:
        self.gone, self.reason = True, reason
        self.wake.set()


class EventStream(StreamingResponse):
    """An answer that lasts until `pieces` end or its client goes; then `over()` is called, whatever came of it. One
    task more than the request's own.
    """

    def __init__(
        self, line: Line, pieces: AsyncGenerator[bytes, None], now: Callable[[], int], over: Callable[[], None]
    ) -> None:
        super().__init__(pieces, headers=_HEADERS, media_type="text/event-stream")
        self._line = line
        self._pieces = pieces
        self._now = now
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watching = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async for piece in self._pieces:
                    await self._write(send, piece, more=True)
                    if self._line.gone:
                        break
            try:
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    if self._line.reason is not None:
                        await self._write(send, closed(self._line.reason), more=True)
                    await self._write(send, b"", more=False)
            except TimeoutError:
                # It reads nothing, and nobody else looks after it any more.
                self._line.cut()
        finally:
            self._over()
            await self._pieces.aclose()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _write(self, send: Send, piece: bytes, *, more: bool) -> None:
        self._line.writing_since = now = self._now()
        if not piece.startswith(b":"):  # a comment tells nobody anything
            self._line.told_at = now
        await send({"type": "http.response.body", "body": piece, "more_body": more})
        self._line.writing_since = None

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._line.hang_up()
