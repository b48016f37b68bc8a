"""Time as a test wants it."""

import asyncio
import heapq
import itertools

SETTLE_ROUNDS = 50


class ManualClock:
    """Stands still until it is advanced; whoever sleeps is woken in order of time."""

    def __init__(self, now: int = 1_765_000_000_000) -> None:
        self._now = now
        self._sleepers: list[tuple[int, int, asyncio.Event]] = []
        self._order = itertools.count()

    def now(self) -> int:
        return self._now

    def monotonic(self) -> int:
        return self._now

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        if until is None:
            await wake.wait()
            return True
        if until <= self._now:
            await asyncio.sleep(0)
            return wake.is_set()
        alarm = asyncio.Event()
        heapq.heappush(self._sleepers, (until, next(self._order), alarm))
        rung = asyncio.create_task(alarm.wait())
        woken = asyncio.create_task(wake.wait())
        try:
            await asyncio.wait({rung, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (rung, woken):
                task.cancel()
            await asyncio.gather(rung, woken, return_exceptions=True)
        return wake.is_set()

    async def sleep(self, seconds: float) -> None:
        await self.wait(asyncio.Event(), self._now + round(seconds * 1000))

    async def advance(self, ms: int) -> None:
        """Let `ms` pass, stopping at each alarm on the way so that what it starts can run."""
        end = self._now + ms
        while self._sleepers and self._sleepers[0][0] <= end:
            until, _, alarm = heapq.heappop(self._sleepers)
            self._now = max(self._now, until)
            alarm.set()
            await self.settle()
        self._now = end
        await self.settle()

    def leap(self, ms: int) -> None:
        """Let `ms` pass in one instant: for days, in which a heart would beat too often to wait for each."""
        self._now += ms
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()

    async def settle(self) -> None:
        """Give the loop some rounds; what waits for a thread or a socket must be awaited by its own signal."""
        for _ in range(SETTLE_ROUNDS):
            await asyncio.sleep(0)
