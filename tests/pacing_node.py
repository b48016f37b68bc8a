"""The service before the vendor of pacing_world, in virtual time.

The turns, the host with its pump, and the workers are the service's own. What `submit` and `poll` do around them is
told here again in a few lines, on a store that is a handful of dicts and outlives a kill.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

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
from tests.pacing_vendor import Said
from tests.pacing_world import Job, Row, World

T = TypeVar("T")

HOST = "http://vendor.test"


class CountingPacer(Pacer):
    def __init__(self) -> None:
        super().__init__()
        self.choices = 0

    def choose(self, now: int) -> tuple[Wait | None, int | None]:
        self.choices += 1
        return super().choose(now)


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
        for look in self._looks:
            look.cancel()
        await asyncio.gather(*(each.stop(0) for branch in self.branches.values() for each in branch.workers))
        await asyncio.gather(*self._looks, return_exceptions=True)
        await self.host.close()

    def add(self, job: Job) -> None:
        job.due_at = self.world.clock.now()
        self.world.store.jobs.append(job)
        self.branches[job.account].submits.wake()

    def look(self, account: str) -> None:
        """Somebody wants to see the styles."""
        task = asyncio.create_task(self.branches[account].look())
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def looked(self) -> None:
        """Until all have seen what they wanted to."""
        await asyncio.gather(*self._looks)

    def end(self, job: Job, how: str) -> None:
        self.world.ended(job, how)
        branch = self.branches[job.account]
        branch.turns.job_ended(job.number)
        branch.submits.wake()

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
        if query in (submissions.in_flight, submissions.cut_off):
            states = ("running",) if query is submissions.in_flight else ("sending", "unanswered")
            last = {row.job.number: row for row in store.rows.values() if row.job.account == vendor}
            return [(row.it, row.job.operation) for row in last.values() if row.it.state in states]
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
        self._shelf, self._lock = asyncio.Lock(), asyncio.Lock()
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
        now = self.world.clock.now()
        nameless = set(self.turns.nameless)
        claimed = [job for job in self._mine("queued") if job.number in nameless and job.due_at <= now][:room]
        for job in claimed:
            job.state = "held"
        room = min(
            self.turns.room(room - len(claimed)),
            self.pace.max_concurrent - len(self._mine("held", "sending", "running")),
        )
        room += len(claimed)
        while len(claimed) < room:
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
            async with self.turns.admitted(job.number) as turn:
                with self._heard():
                    if self.turns.keeps_alive and not job.prepared:
                        await self._upload(job, turn)
                    await self._token()
                    async with turn(Purpose.SUBMIT):
                        if job.ended:
                            return
                        row = self._opened(job)
                        act = partial(self.world.vendor.submitted, job.name, job.life)
                        task = await self.world.exchange(self.name, Purpose.SUBMIT, act, task=job.name)
                if not job.ended:
                    row.it = replace(row.it, state="running", task=task)
                    tracked = self.turns.track(row.it, job.operation, since=job.unanswered_since)
                    job.state, row.due_at = "running", self.turns.due_at(tracked)
        except VendorError as error:
            if not job.ended:
                self._again(job, row, error)
        self.polls.wake()
        self.submits.wake()

    def _again(self, job: Job, row: Row | None, error: VendorError) -> None:
        job.state, job.tries = "queued", job.tries + 1
        job.due_at = self.world.clock.now() + max(retry.backoff(job.tries), round(1000 * (error.retry_after or 0)))
        if row is not None and error.accepted is Accepted.UNKNOWN:
            # Free at such a vendor, and there may be a task that has to be asked.
            self.turns.unanswered(row.it, job.operation)
            job.due_at = self.world.clock.now()
            _cut_off(row)
        elif row is not None:
            del self.world.store.rows[row.it.row]

    async def _token(self) -> None:
        if self.world.token_seconds is None:
            return
        tokens = self.world.store.tokens
        async with self._lock:
            if tokens.get(self.name, 0) <= self.world.clock.now():
                async with self.turns(Purpose.AUTH):
                    await self.world.exchange(self.name, Purpose.AUTH, _seen)
                tokens[self.name] = self.world.clock.now() + round(1000 * self.world.token_seconds)

    async def _upload(self, job: Job, turn: Turn) -> None:
        """One file call opens the slots of all who wait behind, where they are shared."""
        async with self._shelf:
            if not self._slots[job.operation]:
                await self._token()
                async with turn(Purpose.UPLOAD):
                    await self.world.exchange(self.name, Purpose.UPLOAD, _seen, task=job.name)
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
        least = self.turns.member.least_ms
        ask = partial(self.world.vendor.asked, row.job.name, least=least)
        try:
            await self._token()
            with self._heard():
                async with self.turns.asking(tracked)(Purpose.POLL):
                    said = await self.world.exchange(self.name, Purpose.POLL, ask, task=row.job.name)
        except TaskEnded:
            return
        except VendorError as error:
            self.turns.not_heard(tracked, arrived=error.error_class is not ErrorClass.RATE_LIMIT)
            self._let_go(row, self._due_after(error, tracked))
        else:
            if not row.job.ended:
                self._told(row, tracked, said)

    def _due_after(self, error: VendorError, tracked: Tracked) -> int:
        if self.turns.keeps_alive:
            return self.turns.due_at(tracked)
        return self.world.clock.now() + round(1000 * max(self.pace.interval, error.retry_after or 0))

    def _told(self, row: Row, tracked: Tracked, said: Said) -> None:
        now, asked_at = self.world.clock.now(), self.turns.asked_at(tracked)
        if said is Said.FINISHED:
            operation, known = self.turns.finished(tracked)
            self.world.store.learned[self.name, operation] = Learned(known.as_json(), known.seen)
            self.turns.forget(tracked)
            self.node.end(row.job, "succeeded")
        elif said is Said.UNKNOWN and self.turns.missing(tracked):
            self.turns.forget(tracked)
            self.node.end(row.job, "lost")
        elif said is Said.UNKNOWN:
            self.turns.not_heard(tracked)
            self._let_go(row, self.turns.due_at(tracked))
        else:
            row.it = replace(row.it, asked_at=asked_at)
            due_at = self.turns.heard(tracked)
            if now >= row.it.deadline_at:
                self.node.end(row.job, "timeout")
            else:
                self._let_go(row, min(due_at, max(row.it.deadline_at, now + 1)))

    def _let_go(self, row: Row, due_at: int) -> None:
        if not row.job.ended and self.world.clock.now() >= row.it.deadline_at:
            self.node.end(row.job, "timeout")
        row.due_at, row.held = due_at, False

    # -- what both need --------------------------------------------------------------------------------------------

    async def look(self) -> None:
        since = self.world.clock.ms
        with suppress(VendorError), self._heard():
            await self._token()
            async with self.turns(Purpose.LOOK):
                await self.world.exchange(self.name, Purpose.LOOK, _seen)
        self.world.looked.append(self.world.clock.ms - since)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except VendorError as error:
            if error.error_class is ErrorClass.RATE_LIMIT:
                self.turns.refused(error.retry_after)
            raise


def _seen(_: float) -> None:
    """A request of which nothing is kept."""


async def _broken(piece: Job | Row, fault: Exception) -> None:
    raise AssertionError(f"a fault of ours at {piece}") from fault


def _cut_off(row: Row) -> None:
    row.it = replace(row.it, state="unanswered")
    row.job.prepared = True
    row.job.unanswered_since = row.job.unanswered_since or row.it.sent_at


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Node]:
    """Until the block is left."""
    node = Node(world)
    await node.start()
    try:
        yield node
    finally:
        await node.kill()


def taken_up(world: World) -> None:
    """After a kill: what the rows tell the next start."""
    for job in world.store.jobs:
        # A call that was under way is made again, at once: the vendor knows it by its name.
        if job.state in ("held", "sending"):
            job.state, job.due_at = "queued", world.clock.now()
    for row in world.store.rows.values():
        row.held, row.due_at = False, world.clock.now()
        if row.it.state == "sending":
            _cut_off(row)


async def work(node: Node, jobs: Sequence[tuple[float, Job]], *, looks: Sequence[tuple[float, str]] = ()) -> None:
    """Jobs and looks, each after a pause in seconds; until all of them have ended."""

    async def looking() -> None:
        for pause, account in looks:
            await asyncio.sleep(pause)
            node.look(account)

    looker = asyncio.create_task(looking())
    for pause, job in jobs:
        await asyncio.sleep(pause)
        node.add(job)
    await ended(node)
    await looker
    await node.looked()


async def ended(node: Node) -> None:
    node.world.all_added = True
    node.world.look_around()
    await node.world.all_ended.wait()
