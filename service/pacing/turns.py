"""Waiting for one's turn at a vendor: every request is counted in the store before it is sent."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.clock import Clock
from service.pacing.windows import Sent, Windows
from service.store import vendor_requests
from service.store.database import Database


class Turns:
    """One account's turns, first come first served. `load` it once before its first use."""

    def __init__(self, db: Database, clock: Clock, vendor: str, windows: Windows) -> None:
        self._db = db
        self._clock = clock
        self._vendor = vendor
        self._windows = windows
        self._queue = asyncio.Lock()
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """Take up what was counted before a restart; what was under way then has ended by now."""
        if not self._windows.limits:
            return
        now = self._clock.now()
        since = now - self._windows.longest_ms
        earlier = await self._db.read(vendor_requests.since, self._vendor, since)
        self._windows.sent = deque(
            Sent(started, finished if finished is not None else now) for started, finished in earlier
        )

    @asynccontextmanager
    async def __call__(self, purpose: str) -> AsyncIterator[None]:  # noqa: ARG002 - all purposes have one queue
        if not self._windows.limits:
            yield
            return
        entry, row = await self._take()
        try:
            yield
        finally:
            entry.finished_at = self._clock.now()
            self._changed.set()
            # Only for the next start: were it lost, the request would count as ended at that start.
            await asyncio.shield(self._db.write(vendor_requests.finish, row, entry.finished_at))

    async def _take(self) -> tuple[Sent, int]:
        async with self._queue:
            while True:
                self._changed.clear()
                now = self._clock.now()
                free_at = self._windows.free_at(now)
                if free_at <= now:
                    break
                await self._clock.wait(self._changed, free_at)
            entry = self._windows.send(now)
            try:
                row = await self._db.write(vendor_requests.start, self._vendor, now, now - 2 * self._windows.longest_ms)
            except BaseException:
                # Never sent, so never counted.
                entry.finished_at = now - self._windows.longest_ms
                self._changed.set()
                raise
            return entry, row
