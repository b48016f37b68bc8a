"""Waiting for one's turn at a vendor: every request is counted in the store before it is sent."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from handlers.vendors.contract import Purpose, VendorError
from service.clock import Clock
from service.metrics import Count
from service.pacing.windows import COUNTED_WITHIN_MS, Sent, Windows, WindowState
from service.store import vendor_requests
from service.store.database import Database, StoreUnavailable


class Turns:
    """One account's turns, first come first served. `load` it once before its first use."""

    def __init__(self, db: Database, clock: Clock, vendor: str, windows: Windows, requests: Count) -> None:
        self._db = db
        self._clock = clock
        self._vendor = vendor
        self._windows = windows
        self._requests = requests
        self._queue = asyncio.Lock()
        self._changed = asyncio.Event()
        self._finishing: set[asyncio.Task[None]] = set()
        self._forget_after_ms = COUNTED_WITHIN_MS + windows.longest_ms

    async def load(self) -> None:
        """Take up what was counted before a restart; what was under way then has ended by now."""
        if not self._windows.limits:
            return
        now = self._clock.now()
        since = now - self._windows.longest_ms
        earlier = await self._db.read(vendor_requests.since, self._vendor, since)
        # The store has times of the wall clock, which may have been set meanwhile: nothing lies in the future.
        offset = self._clock.monotonic() - now
        ends = (
            min(now, started + COUNTED_WITHIN_MS if finished is None else finished) for started, finished in earlier
        )
        self._windows.sent = deque(Sent(end + offset, end + offset) for end in ends)

    def state(self) -> Sequence[WindowState]:
        """Each window now, with `free_at` by the wall clock."""
        now = self._clock.monotonic()
        offset = self._clock.now() - now
        return [
            entry if entry.free_at is None else replace(entry, free_at=entry.free_at + offset)
            for entry in self._windows.state(now)
        ]

    @asynccontextmanager
    async def __call__(self, purpose: Purpose, *, blocks: bool = False) -> AsyncIterator[None]:
        """All purposes have one queue."""
        async with self._turn(blocks=blocks):
            outcome = "cut"
            try:
                yield
                outcome = "answered"
            except VendorError as error:
                outcome = error.error_class
                raise
            finally:
                self._requests.bump(self._vendor, purpose, outcome)

    @asynccontextmanager
    async def _turn(self, *, blocks: bool) -> AsyncIterator[None]:
        if not self._windows.limits:
            yield
            return
        entry, row = await self._take(blocks)
        try:
            yield
        finally:
            entry.finished_at = self._clock.monotonic()
            self._changed.set()
            # Beside the way: nobody's answer waits for it, or is lost with it.
            task = asyncio.create_task(self._finish(row, self._clock.now()))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _finish(self, row: int, now: int) -> None:
        """Only for the next start: were it lost, the request would count as ended at that start."""
        with suppress(StoreUnavailable):
            await self._db.write(vendor_requests.finish, row, now)

    async def _take(self, blocks: bool) -> tuple[Sent, int]:
        async with self._queue:
            while True:
                self._changed.clear()
                now = self._clock.monotonic()
                free_at = self._windows.free_at(now)
                if free_at <= now:
                    break
                await self._clock.wait(self._changed, self._clock.now() + free_at - now)
            entry = self._windows.send(now, blocks=blocks)
            try:
                at = self._clock.now()
                row = await self._db.write(vendor_requests.start, self._vendor, at, at - self._forget_after_ms)
            except BaseException:
                # Never sent, so never counted.
                entry.finished_at = now - self._windows.longest_ms
                self._changed.set()
                raise
            return entry, row
