"""One address of a vendor: its requests wait here until the pacer lets them go, counted in the store before that."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from handlers.vendors.contract import Purpose
from service.clock import Clock
from service.pacing.pacer import Pacer
from service.pacing.waits import Admission, Tracked, Wait
from service.pacing.windows import COUNTED_WITHIN_MS, Sent, Windows
from service.store import vendor_requests
from service.store.database import Database, StoreUnavailable

log = structlog.get_logger()

PAUSE_AFTER_FAULT_SECONDS = 1.0


class TaskEnded(Exception):
    """Who waited to ask a task need not: its job has ended."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One counted request: its entries in the windows, and its row in the store."""

    entries: Sequence[tuple[Windows, Sent]]
    row: int
    at: int


class Host:
    """One address, with all accounts there: what is counted per IP is counted once. `open` it before its first use."""

    def __init__(self, db: Database, clock: Clock, name: str) -> None:
        self.name = name
        self.db = db
        self.clock = clock
        self.pacer = Pacer()
        self._wake = asyncio.Event()
        self._futures: dict[Wait, asyncio.Future[Sending | Admission]] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False
        self._closing = False

    def open(self) -> None:
        self._pump = asyncio.create_task(self._run(), name=f"turns at {self.name}")

    def cut(self, *, all_but_kept: bool = False) -> None:
        """The service stops: whoever waits is cut off, and their rows tell the next start what they wanted.

        `all_but_kept`: who asks a task that dies unasked still has turns, while others finish what they hold.
        """
        self._closing, self._closed = True, not all_but_kept
        for wait, future in self._futures.items():
            if self._cuts(wait):
                future.cancel()

    def _cuts(self, wait: Wait) -> bool:
        kept = wait.task is not None and wait.member.pace.keep_alive is not None
        return self._closed or (self._closing and not kept)

    async def close(self) -> None:
        self.cut()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await asyncio.gather(*self._finishing, return_exceptions=True)

    def changed(self) -> None:
        self.pacer.changed()
        self._wake.set()

    async def take(self, wait: Wait) -> Sending:
        """Until the request is counted and may go."""
        sending = await self._await(wait)
        assert isinstance(sending, Sending), "a request is sent"
        return sending

    async def admission(self, wait: Wait) -> Admission:
        admission = await self._await(wait)
        assert isinstance(admission, Admission), "a job is admitted"
        return admission

    def drop(self, task: Tracked) -> None:
        """Nobody need wait to ask it any longer."""
        for wait, future in self._futures.items():
            if wait.task is task and not future.done():
                future.set_exception(TaskEnded())
        self.changed()

    def ended(self, sending: Sending, purpose: Purpose | None) -> None:
        """`purpose`: of a request that was answered; None where no answer came, or a no: that tells nothing of ways."""
        now = self.clock.monotonic()
        for _, entry in sending.entries:
            entry.finished_at = now
        if purpose is None:
            self.pacer.changed()
        else:
            self.pacer.arrived(purpose, now - sending.at)
        self._wake.set()
        # Beside the way: nobody's answer waits for it, or is lost with it.
        self._beside(sending.row)

    def _beside(self, row: int) -> None:
        task = asyncio.create_task(self._finish(row, self.clock.now()))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _finish(self, row: int, now: int) -> None:
        """Only for the next start: were it lost, the request would count as ended at that start."""
        with suppress(StoreUnavailable):
            await self.db.write(vendor_requests.finish, row, now)

    async def _await(self, wait: Wait) -> Sending | Admission:
        future: asyncio.Future[Sending | Admission] = asyncio.get_running_loop().create_future()
        if self._cuts(wait):
            raise asyncio.CancelledError
        self._futures[wait] = future
        self.pacer.line_up(wait)
        self._wake.set()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._unused(wait, future.result())
            raise
        finally:
            self._futures.pop(wait, None)
            if wait in self.pacer.waiting:
                self.pacer.waiting.remove(wait)
            self._wake.set()

    def _unused(self, wait: Wait, given: Sending | Admission) -> None:
        """Whoever waited is gone: what was counted for them is never sent."""
        if isinstance(given, Admission):
            self.pacer.dismiss(wait.member, given)
        else:
            self.pacer.unsend(wait, given.entries)
            self._beside(given.row)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                self._wake.clear()
                now = self.clock.monotonic()
                wait, again_at = self.pacer.choose(now)
                if wait is None:
                    await self.clock.wait(self._wake, None if again_at is None else self.clock.now() + again_at - now)
                else:
                    await self._let_go(wait, now)
            except Exception:
                log.exception("turns.fault", host=self.name)
                await self.clock.sleep(PAUSE_AFTER_FAULT_SECONDS)

    async def _let_go(self, wait: Wait, now: int) -> None:
        future = self._futures[wait]
        if wait.purpose is None:
            admission = self.pacer.admit(wait)
            if future.done():
                self.pacer.dismiss(wait.member, admission)
            else:
                future.set_result(admission)
            return
        entries, at = self.pacer.send(wait, now), self.clock.now()
        try:
            account = None if wait.purpose is Purpose.AUTH else wait.member.account
            forget_before = at - COUNTED_WITHIN_MS - self.pacer.longest_ms
            row = await self.db.write(vendor_requests.start, wait.member.name, self.name, account, at, forget_before)
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            self.pacer.unsend(wait, entries)
            if not future.done():
                future.set_exception(error)
            return
        sending = Sending(entries, row, now)
        if future.done():
            self._unused(wait, sending)
        else:
            future.set_result(sending)
