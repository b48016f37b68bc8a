"""Who follows a project's log: it is read once, and each client is handed the same bytes.

A client is *live* while it is where the log's one reader is: what comes is put into its queue. A client that begins
further back, or whose queue has run full because it reads slowly, reads the log by itself from its own cursor until it
has caught up. So nothing is skipped, nobody holds up anybody, and a slow client costs a page of memory and no more.

Sequence numbers have no gaps and are committed in their order, so the next number after a cursor is the next event.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

import structlog

from schemas.event import Event
from schemas.problem import Problem
from service.pipeline.core import Core, log_topic
from service.pipeline.presence import STUCK_MS
from service.store import events
from service.store.database import StoreUnavailable
from service.web import sse
from service.web.cursor import read_log
from service.web.sse import Line

log = structlog.get_logger()

PAGE = 50
# What a live client may leave unread before it is left to read by itself.
MOST_QUEUED = 64
QUEUED_BYTES = 256 * 1024
# Bytes that are written at once.
PIECE_BYTES = 32 * 1024
# On PostgreSQL another node's commit rings no bell here.
LOOK_MS = 1_000
PAUSE_SECONDS = 1.0

Frame = tuple[int, bytes]


class Follower:
    """One client. Everything up to `cursor` has been written to it, or was not for it."""

    __slots__ = ("_bytes", "_handed", "beats", "chosen", "cursor", "ended", "line", "live", "queue")

    def __init__(self, line: Line, cursor: int, chosen: str | None) -> None:
        self.line = line
        self.cursor = cursor
        self.chosen = chosen
        self.live = False
        self.ended = False
        self.beats = False
        self.queue: deque[Frame] = deque()
        self._bytes = 0
        # Up to where the queue holds all that was for it.
        self._handed = 0

    @property
    def over(self) -> bool:
        return self.ended or self.line.gone

    def hand(self, events: Sequence[Event], frames: Sequence[bytes]) -> None:
        """What has come after all that it was handed before."""
        for event, frame in zip(events, frames, strict=True):
            if self.chosen in (None, event.type) and event.sequence > self.cursor:
                self.queue.append((event.sequence, frame))
                self._bytes += len(frame)
        self._handed = events[-1].sequence
        self._pass_over()
        if len(self.queue) > MOST_QUEUED or self._bytes > QUEUED_BYTES:
            self.live = False
            self.drop_queue()
        if self.queue or not self.live:
            self.line.wake.set()

    def take(self) -> bytes:
        """As much of its queue as is written at once."""
        taken = bytearray()
        while self.queue and (not taken or len(taken) + len(self.queue[0][1]) <= PIECE_BYTES):
            self.cursor, frame = self.queue.popleft()
            taken += frame
            self._bytes -= len(frame)
        self._pass_over()
        return bytes(taken)

    def _pass_over(self) -> None:
        """What was not for it is behind it, where nothing waits before that."""
        if not self.queue:
            self.cursor = max(self.cursor, self._handed)

    def drop_queue(self) -> None:
        self.queue.clear()
        self._bytes = self._handed = 0

    def end(self) -> None:
        self.ended = True
        self.line.wake.set()


def _frame(event: Event) -> bytes:
    return sse.message(event.type, event.payload, event.sequence)


class Log:
    """One project's log and its one reader, which has read up to `cursor`. It lives as long as somebody follows."""

    def __init__(self, core: Core, project: int, cursor: int) -> None:
        self._core = core
        self._project = project
        self.cursor = cursor
        self.followers: set[Follower] = set()
        self._bell = core.bells.listen(log_topic(project, None))
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._core.bells.forget(log_topic(self._project, None), self._bell)

    async def pieces(self, follower: Follower) -> AsyncGenerator[bytes, None]:
        """What is written to a client, for as long as it is to be written to."""
        wake = follower.line.wake
        yield sse.opening(follower.cursor)
        while not follower.over:
            wake.clear()
            if not follower.live:
                async for piece in self._catching_up(follower):
                    yield piece
            elif follower.queue:
                yield follower.take()
            elif follower.beats:
                follower.beats = False
                yield sse.heartbeat(follower.cursor)
            elif not follower.over:
                await wake.wait()

    async def _catching_up(self, follower: Follower) -> AsyncGenerator[bytes, None]:
        """A page of the log, read for this client alone."""
        try:
            page = await self._core.db.read(read_log, self._project, follower.cursor, follower.chosen, PAGE)
        except StoreUnavailable:
            await self._core.clock.sleep(PAUSE_SECONDS)
            return
        except Problem:
            # What it wanted next is no longer kept. It is told so when it comes back.
            follower.end()
            return
        for event in page.events:
            follower.queue.append((event.sequence, _frame(event)))
        while follower.queue and not follower.over:
            yield follower.take()
        follower.drop_queue()
        if len(page.events) < PAGE:
            follower.cursor = max(follower.cursor, page.last)
            # Nothing is awaited between this look and the next hand-over.
            follower.live = follower.cursor >= self.cursor

    async def _read(self) -> None:
        core = self._core
        beat_at = core.clock.now() + sse.HEARTBEAT_MS
        while not core.bells.closed:
            self._bell.clear()
            found: Sequence[Event] = ()
            try:
                # Listen first, then look: what is committed from here on rings.
                found = await core.db.read(events.after, self._project, self.cursor, None, PAGE)
                self._hand(found)
            except StoreUnavailable as error:
                log.warning("stream.store_unavailable", error=str(error))
                await core.clock.sleep(PAUSE_SECONDS)
            except Exception:
                log.exception("stream.fault", project_row=self._project)
                await core.clock.sleep(PAUSE_SECONDS)
            now = core.clock.now()
            if now >= beat_at:
                beat_at = now + sse.HEARTBEAT_MS
                self._beat(now)
            if len(found) < PAGE and not core.bells.closed:
                look_at = now + LOOK_MS if core.db.dialect == "postgres" else beat_at
                await core.clock.wait(self._bell, min(beat_at, look_at))
        for follower in self.followers:
            follower.end()
            # Who reads nothing would keep the service from its end.
            follower.line.drop_if_stuck(core.clock.now(), 0)

    def _hand(self, found: Sequence[Event]) -> None:
        if not found:
            return
        frames = [_frame(event) for event in found]
        self.cursor = found[-1].sequence
        for follower in self.followers:
            if follower.live:
                follower.hand(found, frames)

    def _beat(self, now: int) -> None:
        for follower in self.followers:
            follower.line.drop_if_stuck(now, STUCK_MS)
            follower.beats = True
            follower.line.wake.set()


class Following:
    """All logs that are followed."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._logs: dict[int, Log] = {}

    async def follow(
        self, line: Line, project: int, cursor: int, last: int, chosen: str | None
    ) -> AsyncGenerator[bytes, None]:
        """The log after `cursor`, for ever. `last`: where it ended just now."""
        if self._core.bells.closed:
            yield sse.opening(cursor)
            return
        follower = Follower(line, cursor, chosen)
        followed = self._logs.get(project)
        if followed is None:
            followed = self._logs[project] = Log(self._core, project, last)
        follower.live = cursor >= followed.cursor
        followed.followers.add(follower)
        try:
            async for piece in followed.pieces(follower):
                yield piece
        finally:
            followed.followers.discard(follower)
            if not followed.followers and self._logs.get(project) is followed:
                del self._logs[project]
                await followed.close()
