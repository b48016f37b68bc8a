"""An account at a vendor: its turns, its tasks in flight, and what is known of how long they live."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial

from handlers.vendors.contract import Pace, Purpose, Turn, VendorError
from service.metrics import Count
from service.pacing.host import Host
from service.pacing.lives import Lives
from service.pacing.waits import Admission, Member, Tracked, Wait
from service.pacing.windows import COUNTED_WITHIN_MS, Sent, WindowState
from service.store import lives, submissions, vendor_requests
from service.store.submissions import Submission
from service.store.vendor_requests import Request

# After a 429 that does not say how long: doubled with each in a row.
REFUSED_MS = 1_000
# A vendor may not know a task at once.
MISSED_MEANS_LOST = 2
# For so long, in seconds, a vendor may not know a task that it has just made; at one with a keep-alive, for as long.
NEWBORN_SECONDS = 10.0
LONGEST_REFUSED_MS = 60_000
# Between two tries to keep a task alive, where the vendor has not counted the first.
AGAIN_MS = 200
# A request that was counted goes out when its row is on the disk: so long after, at most.
SENT_WITHIN_MS = 250


class Turns:
    """One account's turns at its host. `load` it once before its first use.

    An account without windows and without a keep-alive waits for nothing, and is counted nowhere.
    """

    def __init__(self, host: Host, vendor: str, account: str, pace: Pace, requests: Count) -> None:
        self._host = host
        self._clock = host.clock
        self._requests = requests
        self._pace = pace
        self._vendor = vendor
        self._lives: dict[str, Lives] = {}
        self._jobs: dict[int, set[int]] = {}
        self._unasked: set[int] = set()
        self._all_asked = asyncio.Event()
        self._refusals = 0
        self.member = Member(vendor, account, pace)
        host.pacer.join(self.member)

    @property
    def keeps_alive(self) -> bool:
        return self._pace.keep_alive is not None

    @property
    def _paced(self) -> bool:
        return bool(self._pace.windows) or self.keeps_alive

    async def load(self) -> None:
        """Take up what was counted before a restart, which tasks are in flight, and what was learned."""
        db, now = self._host.db, self._clock.now()
        for operation, learned in (await db.read(lives.of_vendor, self._vendor)).items():
            self._lives[operation] = Lives.from_json(learned.weights, learned.seen)
        taken_up = [
            self.track(submission, operation)
            for submission, operation in await db.read(submissions.in_flight, self._vendor)
        ]
        for submission, operation in await db.read(submissions.cut_off, self._vendor):
            self.unanswered(submission, operation)
        since = now - max(self._host.pacer.longest_ms, self.member.least_ms)
        earlier = await db.read(vendor_requests.since, self._vendor, self._host.name, since)
        # The store has times of the wall clock, which may have been set meanwhile: nothing lies in the future. What was
        # under way then has ended by now.
        offset = self._clock.monotonic() - now
        ends = [
            (min(now, entry.started_at + COUNTED_WITHIN_MS if entry.finished_at is None else entry.finished_at), entry)
            for entry in earlier
        ]
        pacer = self._host.pacer
        pacer.ip.sent = deque(
            Sent(end + offset, end + offset) for end, entry in ends if entry.counts_at(self._host.name)
        )
        self.member.windows.sent = deque(
            Sent(end + offset, end + offset) for end, entry in ends if entry.counts_for(self.member.account)
        )
        # The last request may have been a question to any of these, whose answer nobody took down.
        last = max((_sent_by(entry) for entry in earlier if entry.counts_for(self.member.account)), default=0)
        for task in taken_up:
            task.unsure = self.keeps_alive
            if task.unsure:
                self._unasked.add(task.key)
            task.again_at = max(task.kept_at, min(last, now) + offset) + self.member.least_ms
        self._asked()
        self._host.changed()

    async def all_asked(self) -> None:
        """Until each task has been asked once that was in flight at the start, and that dies unasked."""
        await self._all_asked.wait()

    def _asked(self, task: Tracked | None = None) -> None:
        if task is not None:
            self._unasked.discard(task.key)
        if not self._unasked:
            self._all_asked.set()

    def cut(self, *, all_but_kept: bool = False) -> None:
        """The service stops: whoever waits here is cut off; `all_but_kept`: questions go on that keep tasks alive."""
        self._host.cut(all_but_kept=all_but_kept)

    # -- turns -----------------------------------------------------------------------------------------------------

    def __call__(self, purpose: Purpose, *, blocks: bool = False) -> AbstractAsyncContextManager[None]:
        return self._turn(purpose, blocks=blocks)

    def asking(self, task: Tracked) -> Turn:
        """Turns to ask this task. Whoever waits for one gets TaskEnded where its job ends meanwhile."""
        return partial(self._turn, task=task)

    @asynccontextmanager
    async def admitted(self, job: int) -> AsyncIterator[Turn]:
        """Wait until a job may be begun; inside, its requests are promised, and the life of its task."""
        if not self.keeps_alive:
            yield self
            return
        promised = job in self.nameless
        admission = await self._host.admission(Wait(self.member, None, self._clock.monotonic(), promised=promised))
        # What was promised to its earlier submission is now the admission's.
        for task in [task for task in self.member.tasks.values() if task.nameless and task.job == job]:
            self.forget(task)
        try:
            yield partial(self._turn, admission=admission)
        finally:
            self._host.pacer.dismiss(self.member, admission)
            self._host.changed()

    @asynccontextmanager
    async def _turn(
        self,
        purpose: Purpose,
        *,
        blocks: bool = False,
        task: Tracked | None = None,
        admission: Admission | None = None,
    ) -> AsyncIterator[None]:
        async with self._counted(purpose, blocks, task, admission):
            outcome = "cut"
            try:
                yield
                outcome = "answered"
            except VendorError as error:
                outcome = error.error_class
                raise
            finally:
                self._requests.bump(self._vendor, purpose, outcome)

    @asynccontextmanager
    async def _counted(
        self, purpose: Purpose, blocks: bool, task: Tracked | None, admission: Admission | None
    ) -> AsyncIterator[None]:
        if not self._paced:
            if task is not None:
                task.asking_since = self._clock.monotonic()
            yield
            return
        wait = Wait(self.member, purpose, self._clock.monotonic(), blocks, task, admission)
        sending = await self._host.take(wait)
        told = False
        try:
            yield
            told = True
        finally:
            self._host.ended(sending, purpose if told else None)

    # -- tasks -----------------------------------------------------------------------------------------------------

    def track(self, submission: Submission, operation: str, *, since: int | None = None) -> Tracked:
        """A task that is in flight from now on; as it was, where it is known.

        `since`: when an earlier submission went out, whose task this may be (by the wall clock).
        """
        known = self.member.tasks.get(submission.row)
        if known is not None:
            return known
        offset = self._clock.monotonic() - self._clock.now()
        sent_at = submission.sent_at if since is None else min(since, submission.sent_at)
        asked_at, on_average = max(sent_at, submission.asked_at or 0), self.member.on_average_ms
        task = Tracked(
            key=submission.row,
            lives=self._lives.setdefault(operation, Lives()),
            begun_at=sent_at + offset,
            kept_at=asked_at + offset,
            deadline_at=submission.deadline_at + offset,
            job=submission.job,
            operation=operation,
            questions=(asked_at - sent_at) // on_average if on_average else 0,
        )
        self._jobs.setdefault(submission.job, set()).add(submission.row)
        self._host.pacer.track(self.member, task)
        self._host.changed()
        return task

    def unanswered(self, submission: Submission, operation: str) -> None:
        """A submission had no answer. With a keep-alive there may be a task that dies while its name is found out."""
        if self.keeps_alive:
            self.track(submission, operation).nameless = True

    @property
    def nameless(self) -> Sequence[int]:
        """Jobs whose submission had no answer: the same call again tells the name of a task that is dying meanwhile."""
        return [task.job for task in self.member.tasks.values() if task.nameless]

    def tracked(self, submission: int) -> Tracked | None:
        return self.member.tasks.get(submission)

    def heard(self, task: Tracked, *, wait_ms: int | None = None) -> int:
        """It was asked, and goes on: when it should next be asked, by the wall clock.

        `wait_ms`: the least wait that the vendor asked for.
        """
        self._refusals = task.missed = 0
        self._host.pacer.heard(task, kept=True)
        now = self._clock.monotonic()
        # From the answer on: the question may have come to the vendor right before.
        task.again_at = now + self.member.least_ms
        task.earliest_at = 0 if wait_ms is None else now + wait_ms
        self._asked(task)
        self._host.changed()
        return self.due_at(task)

    def asked_at(self, task: Tracked) -> int:
        """When the question went out that is under way, by the wall clock."""
        return self._wall(task.asking_since or self._clock.monotonic())

    def not_heard(self, task: Tracked, *, arrived: bool = True) -> None:
        """It was asked in vain: that keeps nothing alive. `arrived`: the vendor may have counted the question.

        Its keep-alive is tried again as soon as it may be. Any other question can wait: a vendor that answers nothing
        must not be asked until the windows are full.
        """
        now, asked_at = self._clock.monotonic(), task.asking_since
        again_at = now + (max(self.member.least_ms, AGAIN_MS) if arrived and asked_at is not None else AGAIN_MS)
        if task.kept_at + round(1000 * (self._pace.keep_alive or 0)) <= now:
            # Most likely lost: the windows belong to those that are not.
            again_at = max(again_at, (asked_at or now) + round(1000 * self._pace.interval))
        task.again_at = max(task.again_at, again_at)
        self._host.pacer.heard(task, kept=False)
        task.earliest_at = max(task.earliest_at, now + round(1000 * self._pace.interval))
        self._asked(task)
        self._host.changed()

    def due_at(self, task: Tracked) -> int:
        """When to begin to wait for the turn to ask it, by the wall clock.

        With a keep-alive at once: its turn is decided here, and not in the store, whose wall clock may be set.
        """
        if self.keeps_alive:
            return self._clock.now()
        return self._wall(max(self._host.pacer.worth_at(self.member, task), self._clock.monotonic()))

    def missing(self, task: Tracked) -> bool:
        """The vendor did not know it. Whether that means that it is lost: told twice, and not just after its making."""
        task.missed += 1
        age_ms = self._clock.monotonic() - task.begun_at
        return task.missed >= MISSED_MEANS_LOST and age_ms > 1000 * (self._pace.keep_alive or NEWBORN_SECONDS)

    def finished(self, task: Tracked) -> tuple[str, Lives]:
        """It was found finished at the question that is under way: its operation, and what is now known of it."""
        self._refusals = 0
        found_at = task.asking_since or self._clock.monotonic()
        alive, ended = task.kept_at - task.begun_at, found_at - task.begun_at
        task.lives.learn(max(alive, 0) / 1000, max(ended, 0) / 1000)
        return task.operation, task.lives

    def forget(self, task: Tracked) -> None:
        """It has ended, or is somebody else's."""
        self._host.pacer.forget(self.member, task.key)
        self._asked(task)
        siblings = self._jobs.get(task.job, set())
        siblings.discard(task.key)
        if not siblings:
            self._jobs.pop(task.job, None)
        self._host.drop(task)

    def job_ended(self, job: int) -> None:
        """Whatever tasks it had, nobody asks them any more."""
        for row in list(self._jobs.get(job, ())):
            task = self.member.tasks.get(row)
            if task is not None:
                self.forget(task)

    # -- how things stand ------------------------------------------------------------------------------------------

    def refused(self, retry_after: float | None) -> None:
        """A 429: the account waits as long as it says, or longer with each in a row."""
        wait_ms = min(REFUSED_MS * 2**self._refusals, LONGEST_REFUSED_MS)
        self._refusals += 1
        now = self._clock.monotonic()
        if retry_after is None:
            self.member.refused_until = max(self.member.refused_until, now + wait_ms)
        else:
            told = now + round(1000 * retry_after)
            self.member.refused_until = max(self.member.refused_until, told)
            self.member.banned_until = max(self.member.banned_until, told)
        self._host.changed()

    def room(self, most: int) -> int:
        """How many more jobs may be begun now, up to `most`."""
        return self._host.pacer.room(self.member, self._clock.monotonic(), most) if self._paced else most

    def next_room_at(self) -> int:
        """When there may be more room although no task has ended, by the wall clock."""
        return self._wall(self._host.pacer.next_room_at(self.member, self._clock.monotonic()))

    def hungry(self, yes: bool) -> None:
        """Jobs wait in the store for room: then no question is asked that is not the last, or owed."""
        if self.member.hungry != yes:
            self.member.hungry = yes
            self._host.changed()

    def state(self) -> Sequence[WindowState]:
        """Each window now, with `free_at` by the wall clock."""
        now = self._clock.monotonic()
        by_window = {
            entry.window: entry
            for windows in (self._host.pacer.ip, self.member.windows)
            for entry in windows.state(now)
        }
        return [
            entry if entry.free_at is None else replace(entry, free_at=self._wall(entry.free_at))
            for window in self._pace.windows
            if (entry := by_window.get(window)) is not None
        ]

    def next_keep_alive_at(self) -> int | None:
        """When the next task has to be asked, by the wall clock; None where none has."""
        due = [at for key in self.member.tasks if (at := self._host.pacer.due_at(key)) is not None]
        return self._wall(min(due)) if due else None

    @property
    def waiting(self) -> int:
        """How many wait for a turn now."""
        return sum(1 for wait in self._host.pacer.waiting if wait.member is self.member)

    def _wall(self, at: int) -> int:
        return at - self._clock.monotonic() + self._clock.now()


def _sent_by(entry: Request) -> int:
    """When the vendor has most likely got it at the latest, by the wall clock."""
    return entry.started_at + SENT_WITHIN_MS if entry.finished_at is None else entry.finished_at
