"""Time, injected: the only place that reads the system's clock."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Milliseconds since 1970, UTC."""

    def monotonic(self) -> int:
        """Milliseconds since some instant; never set back or forward, for what must not trust the wall clock."""

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        """Sleep until `wake` is set or `until` (milliseconds; None: for ever) has come. True if woken."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> int:
        return time.monotonic_ns() // 1_000_000

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        if until is None:
            await wake.wait()
            return True
        # Long sleeps are cut, so that a stepped system clock is noticed within a minute.
        left = min((until - self.now()) / 1000, 60.0)
        if left <= 0:
            # Let others run even when there is always something due.
            await asyncio.sleep(0)
            return wake.is_set()
        try:
            async with asyncio.timeout(left):
                await wake.wait()
        except TimeoutError:
            return False
        return True

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
