"""The loop under every step: claim what is due, work on it, sleep until the next due time or a wake-up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from service.clock import Clock
from service.store.database import StoreUnavailable

T = TypeVar("T")

log = structlog.get_logger()

# After a fault of the store or of our own, so that a broken row can't spin the loop.
PAUSE_AFTER_FAULT_MS = 1_000
LONGEST_PAUSE_MS = 60_000


class Worker(Generic[T]):
    """Runs up to `limit` pieces of work at once. `claim(room)` takes rows for this node; `next_due` looks ahead."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        claim: Callable[[int], Awaitable[Sequence[T]]],
        next_due: Callable[[], Awaitable[int | None]],
        work: Callable[[T], Awaitable[None]],
        broken: Callable[[T, Exception], Awaitable[None]],
        limit: int,
        grace: float = 0.0,
    ) -> None:
        self.name = name
        self._clock = clock
        self._claim = claim
        self._next_due = next_due
        self._work = work
        self._broken = broken
        self._limit = limit
        self._grace = grace
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name=f"worker {self.name}")

    def wake(self) -> None:
        self._wake.set()

    @property
    def alive(self) -> bool:
        return self._loop is not None and not self._loop.done()

    async def stop(self, grace: float) -> None:
        """Stop claiming, let what is held finish, then let go of it: its rows tell the rest.

        It has `grace` seconds, or more where the work itself needs them: a paid call that is cut off may be paid twice.
        """
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(grace, self._grace))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                until = await self._claim_and_start()
            except StoreUnavailable as error:
                log.warning("worker.store_unavailable", worker=self.name, error=str(error))
                until = self._clock.now() + PAUSE_AFTER_FAULT_MS
            except Exception:
                log.exception("worker.fault", worker=self.name)
                until = self._clock.now() + PAUSE_AFTER_FAULT_MS
            await self._clock.wait(self._wake, until)

    async def _claim_and_start(self) -> int | None:
        """Start what is due now; when to look again (None: only when woken)."""
        room = self._limit - len(self._tasks)
        if room <= 0:
            return None
        asked_at = self._clock.now()
        claimed = await self._claim(room)
        for piece in claimed:
            task = asyncio.create_task(self._do(piece), name=f"{self.name} {piece!r:.80}")
            self._tasks.add(task)
            task.add_done_callback(self._done)
        if len(claimed) == room:
            return None
        due_at = await self._next_due()
        if due_at is None or claimed or due_at > asked_at:
            return due_at
        # What was due and yet was not to be claimed waits for somebody else: looking again at once would spin.
        return asked_at + PAUSE_AFTER_FAULT_MS

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _do(self, piece: T) -> None:
        try:
            await self._work(piece)
        except StoreUnavailable as error:
            log.warning("worker.store_unavailable", worker=self.name, error=str(error))
            await self._let_go(piece, error)
        except Exception as error:
            log.exception("worker.broken", worker=self.name)
            await self._let_go(piece, error)

    async def _let_go(self, piece: T, fault: Exception) -> None:
        """What is not let go of stays in this node's hands, and nobody else's: so this goes on until it works."""
        pause = PAUSE_AFTER_FAULT_MS
        while True:
            try:
                return await self._broken(piece, fault)
            except Exception:
                log.exception("worker.stuck", worker=self.name)
            await self._clock.sleep(pause / 1000)
            pause = min(2 * pause, LONGEST_PAUSE_MS)
