"""A vendor and the service before it, in virtual time: how the pacer is proved and measured.

The turns, the host with its pump, and the workers are the service's own. What `submit` and `poll` do around them is told
here again in a few lines, on a store that is a handful of dicts and outlives a kill.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from handlers.vendors.contract import Accepted, Pace, Purpose, Turn, VendorError
from schemas.job import ErrorClass
from service.metrics import Metrics
from service.pacing.host import Host, TaskEnded
from service.pacing.pacer import Pacer
from service.pacing.turns import Turns
from service.pacing.waits import Tracked, Wait
from service.pipeline import retry
from service.pipeline.crew import ASKED_AT_ONCE
from service.pipeline.worker import Worker
from service.store import lives, submissions, vendor_requests
from service.store.database import Database, StoreUnavailable
from service.store.lives import Learned
from service.store.submissions import Submission
from service.store.vendor_requests import Request
from tests.pacing_vendor import Said, StrictVendor
from tests.virtual_time import VirtualClock

HOST = "http://vendor.test"
QUESTION_SECONDS = 8.0


@dataclass(frozen=True)
class Ways:
    """How a request travels, in milliseconds, and what goes wrong with how many of a thousand.

    `lost`: it is counted, and its answer never comes. `refused`: a 429 out of the blue; `told`: with a Retry-After of so
    many seconds. `slow`: the answer takes so many milliseconds longer.
    """

    there_and_back: tuple[float, float] = (50, 150)
    upload: tuple[float, float] = (100, 300)
    store: tuple[float, float] = (0, 5)
    lost: int = 0
    refused: int = 0
    told: int = 0
    retry_after: float = 2.0
    slow: int = 0
    slower_by: float = 2_000


@dataclass
class Job:
    """`life` in seconds. It ends once: `ended` is succeeded, lost, timeout or canceled."""

    number: int
    life: float
    operation: str = "op"
    project: int = 1
    account: str = "first"
    state: str = "queued"  # held, sending, running
    due_at: int = 0
    tries: int = 0
    ended: str | None = None
    ended_at: float = 0
    faulted: bool = False

    @property
    def lane(self) -> tuple[int, str]:
        return (self.project, self.operation)


@dataclass
class Row:
    """A submission as the store has it."""

    it: Submission
    job: Job
    due_at: int
    held: bool = False


@dataclass
class Store:
    """What outlives a kill."""

    jobs: list[Job] = field(default_factory=list)
    rows: dict[int, Row] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    learned: dict[tuple[str, str], Learned] = field(default_factory=dict)


class CountingPacer(Pacer):
    def __init__(self) -> None:
        super().__init__()
        self.choices = 0

    def choose(self, now: int) -> tuple[Wait | None, int | None]:
        self.choices += 1
        return super().choose(now)


class World:
    """One host with its accounts, each of which has a pace. `run` it on a VirtualLoop."""

    def __init__(self, seed: int, paces: dict[str, Pace], ways: Ways | None = None, *, shared: int = 0) -> None:
        self.random = random.Random(seed)
        self.paces, self.ways, self.shared = paces, ways or Ways(), shared
        pace = next(iter(paces.values()))
        self.vendor = StrictVendor(pace.windows, pace.keep_alive)
        self.store = Store()
        self.clock = VirtualClock()
        self.sent: Counter[Purpose] = Counter()
        self.looked: list[float] = []
        self.all_ended = asyncio.Event()
        self.node = Node(self)

    def add(self, job: Job) -> None:
        job.due_at = self.clock.now()
        self.store.jobs.append(job)
        self.node.branches[job.account].submits.wake()

    async def start(self) -> None:
        await self.node.start()

    async def killed_and_started(self, after: float = 0.0) -> None:
        await self.node.kill()
        await asyncio.sleep(after)
        for job in self.store.jobs:
            # A call that was under way is made again, at once: the vendor knows it by its number.
            if job.state in ("held", "sending"):
                job.state, job.due_at = "queued", self.clock.now()
        for row in self.store.rows.values():
            row.held = False
        self.node = Node(self)
        await self.node.start()

    def end(self, job: Job, how: str) -> None:
        assert job.ended is None, "a job ends once"
        job.ended, job.state, job.ended_at = how, "ended", self.clock.ms
        for key in [key for key, row in self.store.rows.items() if row.job is job]:
            del self.store.rows[key]
        branch = self.node.branches[job.account]
        branch.turns.job_ended(job.number)
        branch.submits.wake()
        if all(each.ended for each in self.store.jobs):
            self.all_ended.set()

    async def exchange(self, account: str, purpose: Purpose, act: Callable[[float], Any], job: Job | None = None) -> Any:
        """A request and its answer. It arrives at some instant between, whatever becomes of us meanwhile."""
        self.sent[purpose] += 1
        ways, loop = self.ways, asyncio.get_running_loop()
        takes = self.random.uniform(*ways.there_and_back)
        wrong = self.random.randrange(1000) if job is not None or purpose is Purpose.LOOK else 1000
        lost, refused = wrong < ways.lost, ways.lost <= wrong < ways.lost + ways.refused + ways.told
        if ways.lost + ways.refused + ways.told <= wrong < ways.lost + ways.refused + ways.told + ways.slow:
            takes += ways.slower_by
        if job is not None and wrong < ways.lost + ways.refused + ways.told + ways.slow:
            job.faulted = True
        said: list[Any] = []

        def arrive() -> None:
            at = self.clock.ms
            if not self.vendor.takes(None if purpose is Purpose.AUTH else account, at) or refused:
                told = wrong >= ways.lost + ways.refused
                said.append(VendorError("429", ErrorClass.RATE_LIMIT, retry_after=ways.retry_after if told else None))
            else:
                said.append(act(at))

        loop.call_later(takes * self.random.random() / 1000, arrive)
        seconds = QUESTION_SECONDS if purpose is Purpose.POLL else self.paces[account].call
        await asyncio.sleep(min(seconds, takes / 1000) if not lost else seconds)
        if lost or takes / 1000 > seconds:
            raise VendorError("no answer", ErrorClass.TIMEOUT, accepted=Accepted.UNKNOWN)
        if isinstance(said[0], VendorError):
            raise said[0]
        return said[0]


class Node:
    """The running process, until it is killed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False
        self.host = Host(cast(Database, self), world.clock, HOST)
        self.pacer = CountingPacer()
        self.host.pacer = self.pacer
        self.branches = {name: Branch(self, name, pace) for name, pace in world.paces.items()}
        self._looks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        for branch in self.branches.values():
            await branch.turns.load()
        self.host.open()
        for branch in self.branches.values():
            branch.submits.start()
            branch.polls.start()

    async def kill(self) -> None:
        """Nothing that is on its way in the process reaches the store any more."""
        self.dead = True
        await asyncio.gather(*(each.stop(0) for branch in self.branches.values() for each in branch.workers))
        await self.host.close()

    def look(self, account: str) -> None:
        """Somebody wants to see the styles."""
        task = asyncio.create_task(self.branches[account].look())
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def write(self, unit: Any, *args: Any) -> Any:
        await asyncio.sleep(self.world.random.uniform(*self.world.ways.store) / 1000)
        if self.dead:
            raise StoreUnavailable
        requests = self.world.store.requests
        if unit is vendor_requests.start:
            _, host, account, at, _ = args
            requests.append(Request(host, account, at, None))
            return len(requests) - 1
        assert unit is vendor_requests.finish
        requests[args[0]] = replace(requests[args[0]], finished_at=args[1])
        return None

    async def read(self, query: Any, vendor: str, *args: Any) -> Any:
        store = self.world.store
        if query is lives.of_vendor:
            return {operation: known for (account, operation), known in store.learned.items() if account == vendor}
        if query is submissions.in_flight:
            rows = [row for row in store.rows.values() if row.it.state == "running" and row.job.account == vendor]
            return [(row.it, row.job.operation) for row in rows]
        assert query is vendor_requests.since
        return [entry for entry in store.requests if entry.finished_at is None or entry.finished_at > args[1]]


class Branch:
    """One account: `submit` and `poll` in a few lines."""

    def __init__(self, node: Node, name: str, pace: Pace) -> None:
        self.world, self.name, self.pace = node.world, name, pace
        self.node = node
        self.turns = Turns(node.host, name, name, pace, Metrics().vendor_requests)
        self._last: tuple[int, str] | None = None
        self._slots: Counter[str] = Counter()
        self._shelf = asyncio.Lock()
        self.submits = Worker[Job](
            "submit",
            self.world.clock,
            claim=self._claim,
            next_due=self._next_due,
            work=self._submit,
            broken=_broken,
            limit=pace.max_concurrent,
        )
        self.polls = Worker[Row](
            "poll",
            self.world.clock,
            claim=self._claim_rows,
            next_due=self._next_row,
            work=self._poll,
            broken=_broken,
            limit=ASKED_AT_ONCE if self.turns.keeps_alive else pace.max_concurrent,
        )
        self.workers: Sequence[Worker[Job] | Worker[Row]] = (self.submits, self.polls)

    # -- submit ----------------------------------------------------------------------------------------------------

    def _mine(self, *states: str) -> list[Job]:
        return [job for job in self.world.store.jobs if job.account == self.name and job.state in states]

    async def _claim(self, room: int) -> Sequence[Job]:
        room = min(self.turns.room(room), self.pace.max_concurrent - len(self._mine("held", "sending", "running")))
        claimed: list[Job] = []
        while len(claimed) < room:
            now = self.world.clock.now()
            due = {job.lane: job for job in reversed(self._mine("queued")) if job.due_at <= now}
            if not due:
                break
            # One of each lane in turn, as in store/lanes.py.
            self._last = min(due, key=lambda lane: (self._last is not None and lane <= self._last, lane))
            due[self._last].state = "held"
            claimed.append(due[self._last])
        return claimed

    async def _next_due(self) -> int | None:
        full = len(self._mine("held", "sending", "running")) >= self.pace.max_concurrent
        due_at = None if full else min((job.due_at for job in self._mine("queued")), default=None)
        waiting = due_at is not None and due_at <= self.world.clock.now()
        hungry = waiting and not self.turns.room(1)
        self.turns.hungry(hungry)
        return self.turns.next_room_at() if hungry else due_at

    async def _submit(self, job: Job) -> None:
        row: Row | None = None
        try:
            async with self.turns.admitted() as turn:
                with self._heard():
                    if self.turns.keeps_alive:
                        await self._upload(job, turn)
                    async with turn(Purpose.SUBMIT):
                        row = self._opened(job)
                        act = lambda at: self.world.vendor.submitted(str(job.number), job.life, at)  # noqa: E731
                        task = await self.world.exchange(self.name, Purpose.SUBMIT, act, job)
                if job.ended is None:
                    row.it = replace(row.it, state="running", task=task)
                    job.state, row.due_at = "running", self.turns.due_at(self.turns.track(row.it, job.operation))
        except VendorError as error:
            if job.ended is None:
                job.tries += 1
                job.due_at = self.world.clock.now() + max(retry.backoff(job.tries), round(1000 * (error.retry_after or 0)))
                if error.accepted is Accepted.UNKNOWN and row is not None:
                    job.due_at = self.world.clock.now()
                job.state = "queued"
                if row is not None:
                    self.world.store.rows.pop(row.it.row)
        self.polls.wake()
        self.submits.wake()

    async def _upload(self, job: Job, turn: Turn) -> None:
        """One file call opens the slots of all who wait behind, where they are shared."""
        async with self._shelf:
            if not self._slots[job.operation]:
                async with turn(Purpose.UPLOAD):
                    await self.world.exchange(self.name, Purpose.UPLOAD, lambda at: None, job)
                behind = sum(1 for each in self._mine("queued") if each.lane == job.lane)
                self._slots[job.operation] = 1 + min(self.world.shared, behind)
            self._slots[job.operation] -= 1
        await asyncio.sleep(self.world.random.uniform(*self.world.ways.upload) / 1000)

    def _opened(self, job: Job) -> Row:
        now, rows = self.world.clock.now(), self.world.store.rows
        row = max(rows, default=0) + 1
        deadline_at = now + round(1000 * self.pace.deadline)
        it = Submission(row, job.number, job.project, self.name, 1, "sending", {}, None, now, now, deadline_at, 0, None)
        rows[row], job.state = Row(it, job, now), "sending"
        return rows[row]

    # -- poll ------------------------------------------------------------------------------------------------------

    def _rows(self) -> list[Row]:
        rows = self.world.store.rows.values()
        return [row for row in rows if row.it.state == "running" and row.job.account == self.name and not row.held]

    async def _claim_rows(self, room: int) -> Sequence[Row]:
        now = self.world.clock.now()
        due = sorted((row for row in self._rows() if row.due_at <= now), key=lambda row: row.due_at)[:room]
        for row in due:
            row.held = True
        return due

    async def _next_row(self) -> int | None:
        return min((row.due_at for row in self._rows()), default=None)

    async def _poll(self, row: Row) -> None:
        tracked = self.turns.tracked(row.it.row) or self.turns.track(row.it, row.job.operation)
        asked_at = self.world.clock.now()
        try:
            with self._heard():
                async with self.turns.asking(tracked)(Purpose.POLL):
                    said = await self._asked(row.job)
        except TaskEnded:
            return
        except VendorError as error:
            self.turns.not_heard(tracked)
            self._let_go(row, self._due_after(error, row, tracked))
        else:
            if row.job.ended is None:
                self._told(row, tracked, said, asked_at)

    async def _asked(self, job: Job) -> Said:
        least = self.turns.member.least_ms
        act = lambda at: self.world.vendor.asked(str(job.number), at, least=least - self.world.ways.there_and_back[1])  # noqa: E731
        return cast(Said, await self.world.exchange(self.name, Purpose.POLL, act, job))

    def _due_after(self, error: VendorError, row: Row, tracked: Tracked) -> int:
        if self.turns.keeps_alive:
            return self.turns.due_at(tracked)
        return self.world.clock.now() + round(1000 * max(self.pace.interval, error.retry_after or 0))

    def _told(self, row: Row, tracked: Tracked, said: Said, asked_at: int) -> None:
        now = self.world.clock.now()
        if said is Said.FINISHED:
            operation, known = self.turns.finished(tracked)
            self.world.store.learned[self.name, operation] = Learned(known.as_json(), known.seen)
            self.turns.forget(tracked)
            self.world.end(row.job, "succeeded")
        elif said is Said.UNKNOWN and self.turns.missing(tracked):
            self.turns.forget(tracked)
            self.world.end(row.job, "lost")
        else:
            row.it = replace(row.it, asked_at=asked_at)
            due_at = self.turns.heard(tracked)
            if now >= row.it.deadline_at:
                self.world.end(row.job, "timeout")
            else:
                self._let_go(row, min(due_at, max(row.it.deadline_at, now + 1)))

    def _let_go(self, row: Row, due_at: int) -> None:
        if row.job.ended is None and self.world.clock.now() >= row.it.deadline_at:
            self.world.end(row.job, "timeout")
        row.due_at, row.held = due_at, False

    # -- what both need --------------------------------------------------------------------------------------------

    async def look(self) -> None:
        since = self.world.clock.ms
        with self._heard():
            async with self.turns(Purpose.LOOK):
                await self.world.exchange(self.name, Purpose.LOOK, lambda at: None)
        self.world.looked.append(self.world.clock.ms - since)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except VendorError as error:
            if error.error_class is ErrorClass.RATE_LIMIT:
                self.turns.refused(error.retry_after)
            raise


async def _broken(piece: Job | Row, fault: Exception) -> None:
    raise AssertionError(f"a fault of ours at {piece}") from fault


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """Until the block is left: then everything is stopped, and what broke is told."""
    await world.start()
    try:
        yield world
    finally:
        await world.node.kill()


async def until_all_ended(world: World, most: float, meanwhile: Awaitable[None] | None = None) -> None:
    """`most`: seconds of virtual time. Raises TimeoutError."""
    async with asyncio.timeout(most):
        if meanwhile is not None:
            await meanwhile
        await world.all_ended.wait()
