"""Time that costs nothing: an event loop that leaps to whatever is next, so that hours are seconds.

All that runs on it is the real thing, workers and pumps included; only threads, sockets and files have no place here.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# The wall clock at the beginning; far from the monotonic one, so that whoever mixes them up is found out.
WALL = 1_765_000_000_000
MONOTONIC = 1_000_000


class NothingLeft(Exception):
    """Somebody waits for what will never come."""


class _Leaping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeft
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0 seconds. Raises NothingLeft where all wait and nothing is planned."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


class VirtualClock:
    """The service's clock on a VirtualLoop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    @property
    def ms(self) -> float:
        """Since the beginning, with the part below a millisecond that the service's clock cuts off."""
        return self._loop.time() * 1000

    def now(self) -> int:
        return WALL + int(self.ms + 1e-6)

    def monotonic(self) -> int:
        return MONOTONIC + int(self.ms + 1e-6)

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        if until is None:
            await wake.wait()
            return True
        left = until - WALL - self.ms
        if left <= 0 or wake.is_set():
            await asyncio.sleep(0)
            return wake.is_set()
        # Whoever waits here clears the event before looking around: so it may be rung for the alarm too.
        alarm = self._loop.call_later(left / 1000, wake.set)
        try:
            await wake.wait()
        finally:
            alarm.cancel()
        return self.now() < until

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(story: Callable[[], Awaitable[T]]) -> T:
    """From beginning to end, on a loop of its own."""

    async def told() -> T:
        return await story()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(told())
