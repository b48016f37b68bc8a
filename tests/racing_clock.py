"""Time that leaps to the next alarm whenever nobody has anything to do: a day passes as fast as its work is done.

Everything of a test lives in one event loop, so its sockets are quiet when the loop has nothing ready; what other
threads do is counted: `Watched` for the store, the loop's executors for the rest.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from service.store.database import Database, Query, Unit
from tests.stores import Passing

P = ParamSpec("P")
T = TypeVar("T")

# So many rounds in which the loop found nothing ready, its sockets asked each time.
QUIET_ROUNDS = 4


class Busy:
    """What goes on in other threads."""

    def __init__(self) -> None:
        self._count = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        self._count += 1
        self.idle.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self.idle.set()


class Watched(Passing):
    """A database of which is known whether somebody waits for it."""

    def __init__(self, inner: Database, busy: Busy) -> None:
        super().__init__(inner)
        self._busy = busy

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._busy:
            return await super().write(unit, *args, **kwargs)

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._busy:
            return await super().read(query, *args, **kwargs)


class _Alarm:
    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task: asyncio.Task[Any] | None = task
        self.rung = False

    def ring(self) -> None:
        if self._task is not None:
            self.rung = True
            self._task.cancel()

    def forget(self) -> None:
        self._task = None


class RacingClock:
    """Begins at `now` (milliseconds since 1970); `race` lets it run."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._alarms: list[tuple[int, int, _Alarm]] = []
        self._order = itertools.count()
        self.busy = Busy()

    def now(self) -> int:
        return self._now

    def monotonic(self) -> int:
        return self._now

    def seconds(self) -> float:
        """For the sandboxes: the same time."""
        return self._now / 1000

    async def wait(self, wake: asyncio.Event, until: int | None) -> bool:
        if until is None:
            return await wake.wait()
        if until <= self._now or wake.is_set():
            await asyncio.sleep(0)
            return wake.is_set()
        task = asyncio.current_task()
        assert task is not None
        alarm = _Alarm(task)
        heapq.heappush(self._alarms, (until, next(self._order), alarm))
        try:
            return await wake.wait()
        except asyncio.CancelledError:
            # As asyncio.timeout does it: one cancellation was ours, another one is not.
            if alarm.rung and not task.uncancel():
                return wake.is_set()
            raise
        finally:
            alarm.forget()

    async def sleep(self, seconds: float) -> None:
        await self.wait(asyncio.Event(), self._now + round(seconds * 1000))

    async def race(self, until: int) -> None:
        """Let time pass until `until`: every alarm on the way rings, and what it starts is done before the next."""
        with self._threads_counted():
            await self._quiet()
            while self._alarms and self._alarms[0][0] <= until:
                at, _, alarm = heapq.heappop(self._alarms)
                self._now = max(self._now, at)
                alarm.ring()
                await self._quiet()
            self._now = max(self._now, until)

    async def _quiet(self) -> None:
        # asyncio's own loop: nothing else tells whether there is anything left to run.
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        rounds = 0
        while rounds < QUIET_ROUNDS:
            await self.busy.idle.wait()
            await asyncio.sleep(0)
            rounds = 0 if ready or not self.busy.idle.is_set() else rounds + 1

    def _threads_counted(self) -> "_Counted":
        return _Counted(asyncio.get_running_loop(), self.busy)


class _Counted:
    """While it is open, work that the loop hands to an executor counts as going on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: Busy) -> None:
        self._loop = loop
        self._busy = busy

    def __enter__(self) -> None:
        plain = self._loop.run_in_executor

        def counted(executor: Executor | None, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            future = plain(executor, work, *args)
            self._busy.__enter__()
            future.add_done_callback(self._busy.__exit__)
            return future

        self._loop.run_in_executor = counted  # type: ignore[method-assign,assignment]

    def __exit__(self, *_: object) -> None:
        del self._loop.run_in_executor
