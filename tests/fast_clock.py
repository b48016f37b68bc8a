"""Time that runs faster than the wall's: real waits and real races, only shorter."""

import asyncio
import time


class FastClock:
    """One second of the wall is `speed` seconds here; `jump` skips some at once.

    The sandboxes take `seconds` as their `clock` and `monotonic`, so that a vendor's limit is judged by the same time.
    """

    def __init__(self, speed: float = 20.0) -> None:
        self._speed = speed
        self._zero = time.monotonic()
        self._skipped = 0.0
        self._start = time.time()
        self._jumped = asyncio.Event()

    def seconds(self) -> float:
        return self._start + self._skipped + (time.monotonic() - self._zero) * self._speed

    def now(self) -> int:
        return int(self.seconds() * 1000)

    def monotonic(self) -> int:
        return self.now()

    def jump(self, seconds: float) -> None:
        """Let time pass in an instant; who sleeps wakes if its hour has come."""
        self._skipped += seconds
        jumped, self._jumped = self._jumped, asyncio.Event()
        jumped.set()

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        while not wake.is_set():
            left = None if until is None else until / 1000 - self.seconds()
            if left is not None and left <= 0:
                # Others may run even where there is always something due.
                await asyncio.sleep(0)
                return wake.is_set()
            await self._first_of(wake, None if left is None else left / self._speed)
        return True

    async def sleep(self, seconds: float) -> None:
        await self.wait(asyncio.Event(), self.now() + round(seconds * 1000))

    async def _first_of(self, wake: asyncio.Event, timeout: float | None) -> None:
        waiting = [asyncio.create_task(event.wait()) for event in (wake, self._jumped)]
        try:
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
