"""Who follows a project's log: it is read once, and each client is handed the same bytes.

A client is *live* while it is where the log's one reader is: what comes is put into its queue. A client that begins
further back, or whose queue has run full because it reads slowly, reads the log by itself from its own cursor until it
has caught up. So nothing is skipped, nobody holds up anybody, and a slow client costs a page of memory and no more.

Sequence numbers have no gaps and are committed in their order, so the next number after a cursor is the next event.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from resource import RLIMIT_NOFILE, getrlimit

import structlog

from schemas.event import Event
from schemas.problem import Problem
from service.pipeline.core import Core, log_topic
from service.pipeline.presence import STUCK_MS
from service.store import events
from service.store.database import StoreUnavailable
from service.store.keys import Principal
from service.web import sse
from service.web.cursor import read_log
from service.web.sse import Line

log = structlog.get_logger()

# Streams at once: each is a file, and of those others need some, too.
MOST_PER_PROJECT = 2_000
MOST = 8_000
PAGE = 50
# What a live client may leave unread before it is left to read by itself.
MOST_QUEUED = 64
QUEUED_BYTES = 256 * 1024
# Bytes that are written at once.
PIECE_BYTES = 32 * 1024
# On PostgreSQL another node's commit rings no bell here.
LOOK_MS = 1_000
PAUSE_SECONDS = 1.0
_RETRY_AFTER = {"Retry-After": "5"}

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
    """All logs that are followed, and how many streams of any kind are open."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._logs: dict[int, Log] = {}
        self._places: Counter[int] = Counter()
        # By the key that opened them; and the keys that were revoked since the start.
        self._lines: defaultdict[str, set[Line]] = defaultdict(set)
        self._revoked: set[str] = set()
        self._most = min(MOST, getrlimit(RLIMIT_NOFILE)[0] * 2 // 5)

    @property
    def open(self) -> int:
        return self._places.total()

    def refuse_if_full(self, project: int) -> None:
        """Raises Problem 429 or 503."""
        if self._places[project] >= MOST_PER_PROJECT:
            detail = f"{MOST_PER_PROJECT} streams of this project are open already; close one, or come back later."
            raise Problem(429, "too_many_streams", detail, headers=_RETRY_AFTER)
        if self.open >= self._most:
            raise Problem(503, "too_many_streams", "Too many streams are open already.", headers=_RETRY_AFTER)

    def revoked(self, key: str) -> None:
        """A key is believed no more: what was opened with it ends, as no request of it would ever be refused."""
        self._revoked.add(key)
        for line in self._lines.get(key, ()):
            line.hang_up()
            # Who reads nothing would keep it open.
            line.drop_if_stuck(self._core.clock.now(), 0)

    @contextmanager
    def place(self, who: Principal, line: Line) -> Iterator[None]:
        """One of the streams that may be open at once."""
        self._places[who.project] += 1
        self._lines[who.key].add(line)
        if who.key in self._revoked:
            line.hang_up()
        try:
            yield
        finally:
            self._lines[who.key].discard(line)
            if not self._lines[who.key]:
                del self._lines[who.key]
            self._places[who.project] -= 1
            if not self._places[who.project]:
                del self._places[who.project]

    async def follow(
        self, line: Line, who: Principal, cursor: int, last: int, chosen: str | None
    ) -> AsyncGenerator[bytes, None]:
        """The log after `cursor`, for ever. `last`: where it ended just now."""
        if self._core.bells.closed:
            yield sse.opening(cursor)
            return
        follower, project = Follower(line, cursor, chosen), who.project
        followed = self._logs.get(project)
        if followed is None:
            followed = self._logs[project] = Log(self._core, project, last)
        follower.live = cursor >= followed.cursor
        followed.followers.add(follower)
        try:
            with self.place(who, line):
                async for piece in followed.pieces(follower):
                    yield piece
        finally:
            followed.followers.discard(follower)
            if not followed.followers and self._logs.get(project) is followed:
                del self._logs[project]
                await followed.close()
