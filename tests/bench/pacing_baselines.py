"""What the pacer is measured beside: the polling that the vendors' documents recommend, and two plain policies.

All of them live in the world of tests/pacing_world.py, before the same strict vendor, on the same ways.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from handlers.vendors.contract import Pace, Purpose, VendorError
from service.pacing.promises import Chain, Ledger, timetable
from service.pacing.windows import Windows
from tests.pacing_vendor import Said
from tests.pacing_world import Job, World

ACCOUNT = "first"
# After a 429, doubled with each in a row.
BACK_OFF_SECONDS, LONGEST_SECONDS = 1.0, 60.0
PLAIN_SECONDS = 9.0
ROUND_SECONDS = 1.0

Arrivals = Sequence[tuple[float, Job]]


async def _all(world: World, jobs: Arrivals, live: Callable[[Job], Awaitable[None]]) -> None:
    living = []
    for pause, job in jobs:
        await asyncio.sleep(pause)
        world.store.jobs.append(job)
        living.append(asyncio.ensure_future(live(job)))
    await asyncio.gather(*living)


async def _insists(world: World, purpose: Purpose, act: Callable[[float], object], job: Job) -> object:
    """Again until it is no longer refused."""
    pause = BACK_OFF_SECONDS
    while True:
        with suppress(VendorError):
            return await world.exchange(ACCOUNT, purpose, act, task=job.name)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_SECONDS)


def _nothing(_: float) -> None:
    """A request of which nothing is kept."""


async def fixed(world: World, jobs: Arrivals, seconds: float, *, uploads: bool) -> None:
    """Each job is handed in at once, and asked for every so many seconds after that."""

    async def live(job: Job) -> None:
        if uploads:
            await _insists(world, Purpose.UPLOAD, _nothing, job)
        await _insists(world, Purpose.SUBMIT, partial(world.vendor.submitted, job.name, job.life), job)
        said: object = Said.RUNNING
        while said is Said.RUNNING:
            await asyncio.sleep(seconds)
            said = await _insists(world, Purpose.POLL, partial(world.vendor.asked, job.name), job)
        world.ended(job, "succeeded" if said is Said.FINISHED else "lost")

    await _all(world, jobs, live)


@dataclass
class _Going:
    """A task in flight. Times in whole milliseconds."""

    job: Job
    begun_at: int
    asked_at: int
    asking: bool = False


@dataclass
class _Counted:
    """Sends no request that a window has no place for."""

    world: World
    pace: Pace
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.windows = Windows(self.pace.windows)
        self.sending: set[asyncio.Task[None]] = set()

    @property
    def now(self) -> int:
        return int(self.world.clock.ms)

    @property
    def free(self) -> bool:
        return self.windows.free_at(self.now) <= self.now

    def send(self, purpose: Purpose, act: Callable[[float], object], job: Job, then: Callable[[object], None]) -> None:
        entry = self.windows.send(self.now)

        async def sent() -> None:
            said = await self.world.exchange(ACCOUNT, purpose, act, task=job.name)
            entry.finished_at = self.now
            then(said)
            self.changed.set()

        task = asyncio.create_task(sent())
        self.sending.add(task)
        task.add_done_callback(self.sending.discard)

    async def pause(self, *until: int) -> None:
        """Until the first of these times, or until a request falls out of a window, or something changes."""
        lengths = [length for _, length in self.windows.lengths()]
        ends = [entry.counted_by + length for entry in self.windows.sent for length in lengths]
        at = min((at for at in (*until, *ends) if at > self.now), default=None)
        with suppress(TimeoutError):
            async with asyncio.timeout(None if at is None else (at - self.world.clock.ms) / 1000):
                await self.changed.wait()
        self.changed.clear()


async def plain(world: World, jobs: Sequence[Job], pace: Pace) -> None:
    """Every task is asked after nine seconds; a job is begun where all could be asked so until their deadlines."""
    line, uploaded, counted = deque(jobs), deque[Job](), _Counted(world, pace)
    going: dict[str, _Going] = {}
    world.store.jobs += jobs

    def fits() -> bool:
        now = counted.now
        ledgers = tuple(
            Ledger(window.requests, length, [min(entry.counted_by, now) for entry in counted.windows.sent])
            for window, length in counted.windows.lengths()
        )
        for ledger in ledgers:
            ledger.take(now)
            ledger.take(now)
        tasks = [*((it.begun_at, it.asked_at) for it in going.values()), (now, now)]
        period = round(1000 * PLAIN_SECONDS)
        chains = [
            Chain(key, asked_at, 0, 0, 1, period, begun_at + round(1000 * pace.deadline), ledgers)
            for key, (begun_at, asked_at) in enumerate(tasks)
        ]
        return timetable(chains, now).kept

    def begin(job: Job) -> None:
        going[job.name] = _Going(job, counted.now, counted.now, asking=True)
        counted.send(Purpose.UPLOAD, _nothing, job, lambda _: uploaded.append(job))

    def submit(job: Job) -> None:
        it = going[job.name]
        it.begun_at = it.asked_at = counted.now
        act = partial(world.vendor.submitted, job.name, job.life)
        counted.send(Purpose.SUBMIT, act, job, lambda _: setattr(it, "asking", False))

    def ask(it: _Going) -> None:
        it.asking, it.asked_at = True, counted.now
        counted.send(Purpose.POLL, partial(world.vendor.asked, it.job.name), it.job, partial(hear, it))

    def hear(it: _Going, said: object) -> None:
        it.asking = False
        if said is not Said.RUNNING:
            del going[it.job.name]
            world.ended(it.job, "succeeded" if said is Said.FINISHED else "lost")

    while line or going:
        due = [it.asked_at + round(1000 * PLAIN_SECONDS) for it in going.values() if not it.asking]
        late = [it for it in going.values() if not it.asking and it.asked_at + 1000 * PLAIN_SECONDS <= counted.now]
        if counted.free and late:
            ask(min(late, key=lambda it: it.asked_at))
        elif counted.free and uploaded:
            submit(uploaded.popleft())
        elif counted.free and line and len(going) < pace.max_concurrent and fits():
            begin(line.popleft())
        else:
            await counted.pause(*due)


async def round_robin(world: World, jobs: Arrivals, pace: Pace) -> None:
    """At the full rate that the windows allow: new jobs first, then whoever was asked longest ago."""
    counted, line, going = _Counted(world, pace), deque[Job](), dict[str, _Going]()

    async def arriving() -> None:
        for pause, job in jobs:
            await asyncio.sleep(pause)
            world.store.jobs.append(job)
            line.append(job)
            counted.changed.set()

    def submitted(job: Job, sent_at: int) -> None:
        going[job.name] = _Going(job, sent_at, sent_at)

    def hear(it: _Going, said: object) -> None:
        it.asking = False
        if said is Said.FINISHED:
            del going[it.job.name]
            world.ended(it.job, "succeeded")

    arrivals = asyncio.create_task(arriving())
    while not arrivals.done() or line or going or counted.sending:
        now, gap = counted.now, round(1000 * ROUND_SECONDS)
        due = [it for it in going.values() if not it.asking and it.asked_at + gap <= now]
        if counted.free and line:
            job = line.popleft()
            act = partial(world.vendor.submitted, job.name, job.life)
            counted.send(Purpose.SUBMIT, act, job, lambda _, job=job, now=now: submitted(job, now))  # type: ignore[misc]
        elif counted.free and due:
            it = min(due, key=lambda it: it.asked_at)
            it.asking, it.asked_at = True, now
            counted.send(Purpose.POLL, partial(world.vendor.asked, it.job.name), it.job, partial(hear, it))
        else:
            await counted.pause(*(it.asked_at + gap for it in going.values() if not it.asking))
