"""Fourth step: a submitted task has gone quiet, so we ask, and what we hear is a callback like any other."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from handlers.vendors.contract import Prepared, Task, VendorError
from schemas.callback import Callback, Update, UpdateState
from schemas.job import Charged, ErrorClass, Failure, JobState
from service.pacing.health import Call
from service.pacing.host import TaskEnded
from service.pacing.waits import Tracked
from service.pipeline import announce, receive, retry, trouble
from service.pipeline.core import Announced, Core
from service.store import callbacks, jobs, lives, submissions
from service.store.database import StoreUnavailable, Tx
from service.store.lives import Learned
from service.store.submissions import Submission
from service.vendor_settings import Unconfirmed
from service.vendors import Contracted

log = structlog.get_logger()

STEP = "poll"
# Free resubmissions end too: a vendor that never answers is down.
MOST_FREE_SUBMISSIONS = 3
MOST_PAID_SUBMISSIONS = 2
# Where nobody will call, and the same call again is free: how long to wait, in seconds, before each of these. The first
# is made at once, for a task may have begun that dies unasked; the others outlast a vendor's short trouble.
FREE_AGAIN_SECONDS = (0, 2, 8, 30)


class Poll:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def claim(self, vendor: str, room: int) -> Sequence[Submission]:
        return await self._core.db.write(submissions.claim, vendor, self._core.node, self._core.clock.now(), room)

    async def run(self, submission: Submission, contracted: Contracted) -> None:
        if submission.task is None:
            await self._unconfirmed(submission, contracted)
            return
        turns, task = contracted.turns, Task(submission.task, Prepared(submission.prepared))
        tracked = turns.tracked(submission.row)
        if tracked is None:
            job = await self._core.db.read(jobs.by_row, submission.job)
            tracked = turns.track(submission, job.operation)
        try:
            async with trouble.heard(self._core, contracted, Call.ASK):
                account = replace(contracted.account, turn=turns.asking(tracked))
                answer = await contracted.vendor.ask(account, task)
        except TaskEnded:
            return
        except VendorError as error:
            turns.not_heard(tracked, arrived=error.sent and error.error_class is not ErrorClass.RATE_LIMIT)
            await self._no_answer(submission, contracted, tracked, error)
            return
        update, asked_at = contracted.vendor.read(answer, task), turns.asked_at(tracked)
        if update.state is UpdateState.MISSING and (turns.missing(tracked) or self._is_late(submission, update)):
            await self._lost(submission, contracted, tracked, update)
        elif update.final:
            await self._finished(submission, contracted, tracked, answer, asked_at)
        else:
            await self._still_running(submission, contracted, tracked, update, asked_at)

    async def _finished(
        self, submission: Submission, contracted: Contracted, tracked: Tracked, answer: Callback, asked_at: int
    ) -> None:
        operation, known = contracted.turns.finished(tracked)
        learned = Learned(known.as_json(), known.seen)
        now = self._core.clock.now()
        await self._core.db.write(_found, submission, self._core.node, answer, operation, learned, asked_at, now)
        contracted.turns.forget(tracked)
        self._core.metrics.callbacks.bump(submission.vendor, answer.via)
        self._core.wake(jobs.Step.CONCLUDE, submission.vendor)

    def _is_late(self, submission: Submission, update: Update) -> bool:
        """Of a task that is missing this long, the vendor's own reason says more than the deadline."""
        return update.failure is not None and self._core.clock.now() >= submission.deadline_at

    async def _lost(self, submission: Submission, contracted: Contracted, tracked: Tracked, update: Update) -> None:
        """The vendor has dropped the task: what it may have charged, nobody can tell, and so nothing is sent again."""
        contracted.turns.forget(tracked)
        if update.failure is not None:
            await self._fail(submission, contracted, update.failure)
            return
        message = "the vendor does not know the task any more; a task that is not asked in time is dropped there"
        lost = Failure(ErrorClass.LOST, update.raw_state or "404", message, retryable=True)
        await self._fail(submission, contracted, lost)

    async def broken(self, contracted: Contracted, submission: Submission, fault: Exception) -> None:
        """A fault of ours while asking: asked again, and after the deadline ended in plain words."""
        now = self._core.clock.now()
        if now >= submission.deadline_at and not isinstance(fault, StoreUnavailable):
            await self._fail(submission, contracted, announce.OUR_FAULT)
            return
        # A task that dies unasked does not live to see a long wait's end.
        longest = retry.SECOND if contracted.turns.keeps_alive else retry.MINUTE
        due_at = now + retry.backoff(submission.asks, longest=longest)
        if not await self._core.insist(_release, submission, self._core.node, due_at):
            self._forget(submission, contracted)

    @staticmethod
    def _forget(submission: Submission, contracted: Contracted) -> None:
        """It is no longer ours to ask: its job has ended meanwhile."""
        tracked = contracted.turns.tracked(submission.row)
        if tracked is not None:
            contracted.turns.forget(tracked)

    async def _no_answer(
        self, submission: Submission, contracted: Contracted, tracked: Tracked, error: VendorError
    ) -> None:
        """A vendor that can't be asked now may still be working: only the deadline ends a task."""
        now = self._core.clock.now()
        if now >= submission.deadline_at:
            late = Failure(ErrorClass.TIMEOUT, error.code, error.message, retryable=True)
            # A key that is refused to the end is no matter of time.
            await self._fail(submission, contracted, error.as_failure() if error.permanent else late)
            return
        wait = max(
            round(contracted.vendor.pace.interval * 1000),
            retry.backoff(submission.asks, longest=30 * retry.SECOND),
            round((error.retry_after or 0) * 1000),
        )
        due_at = min(now + wait, max(submission.deadline_at, now + 1))
        if contracted.turns.keeps_alive:
            # It may be asked in vain more often than once before it is lost: when, its turns know.
            due_at = contracted.turns.due_at(tracked)
        if not await self._core.db.write(_release, submission, self._core.node, due_at):
            self._forget(submission, contracted)
        log.warning("task.not_asked", vendor=submission.vendor, code=error.code, due_at=due_at)

    async def _still_running(
        self, submission: Submission, contracted: Contracted, tracked: Tracked, update: Update, asked_at: int
    ) -> None:
        if update.state is UpdateState.MISSING:
            # Who does not know a task may not have counted the question either.
            contracted.turns.not_heard(tracked)
            due_at = contracted.turns.due_at(tracked)
        else:
            due_at = contracted.turns.heard(tracked, wait_ms=update.ask_again_ms)
        now = self._core.clock.now()
        if now >= submission.deadline_at:
            message = f"the vendor's last word after {contracted.vendor.pace.deadline:g} s was {update.raw_state!r}"
            await self._fail(submission, contracted, Failure(ErrorClass.TIMEOUT, "deadline", message, retryable=True))
            return
        due_at = min(due_at, max(submission.deadline_at, now + 1))
        ours, told = await self._core.db.write(_go_on, self._core, submission, update, asked_at, due_at, now)
        if told is not None:
            self._core.tell(told)
        if not ours:
            self._forget(submission, contracted)

    async def _unconfirmed(self, submission: Submission, contracted: Contracted) -> None:
        """The paid call had no answer and no callback came: hand the job in again, or end it and say so."""
        now = self._core.clock.now()
        announced = await self._core.db.write(_unconfirmed, self._core, submission, contracted, now)
        if announced is not None:
            self._core.tell(announced)
        self._core.wake(jobs.Step.SUBMIT, submission.vendor)
        log.warning("job.unconfirmed", vendor=submission.vendor, submission=submission.number)

    async def _fail(self, submission: Submission, contracted: Contracted, failure: Failure) -> None:
        now = self._core.clock.now()
        failed = await self._core.commit(_give_up, self._core, submission, failure, now)
        self._forget(submission, contracted)
        self._core.wake(jobs.Step.SUBMIT, submission.vendor)
        if failed:
            log.info("job.failed", error_class=failure.error_class, code=failure.code, vendor=submission.vendor)


async def _give_up(tx: Tx, core: Core, submission: Submission, failure: Failure, now: int) -> Announced | None:
    job = await jobs.locked(tx, submission.job)
    if not await submissions.is_held(tx, submission.row, core.node):
        return None
    siblings = await submissions.of_job(tx, submission.job)
    others_run = any(other.state == "running" and other.row != submission.row for other in siblings)
    if job.state not in (JobState.SUBMITTING, JobState.RUNNING) or others_run:
        # This task is given up; the job has another one, or what another one made.
        await submissions.close(tx, submission.row)
        return None
    return await announce.fail_job(tx, core, submission.job, failure, Charged.UNKNOWN, now)


async def _found(
    tx: Tx,
    submission: Submission,
    node: int,
    answer: Callback,
    operation: str,
    learned: Learned,
    asked_at: int,
    now: int,
) -> None:
    await receive.store_answer(tx, submission, node, answer, asked_at, now)
    await lives.keep(tx, submission.vendor, operation, learned, now)


async def _release(tx: Tx, submission: Submission, node: int, due_at: int) -> bool:
    return await submissions.release(tx, submission.row, node, due_at, asked=True)


async def _go_on(
    tx: Tx, core: Core, submission: Submission, update: Update, asked_at: int, due_at: int, now: int
) -> tuple[bool, Announced | None]:
    """Whether it is still ours to ask, and what is to be told of its progress."""
    ours = await _replan(tx, submission, core.node, update, asked_at, due_at, now)
    if update.progress is None:
        return ours, None
    return ours, await announce.progressed(tx, core, submission.job, update.progress, now)


async def _replan(
    tx: Tx, submission: Submission, node: int, update: Update, asked_at: int, due_at: int, now: int
) -> bool:
    """False where it is no longer ours to ask. The job's row is locked from here on."""
    await jobs.locked(tx, submission.job)
    # One answer settles all hints that came before the question; a later one is a reason to ask again at once.
    await callbacks.read_hints(tx, submission.row, update.state, asked_at, now)
    later = await callbacks.hints(tx, submission.row)
    due_at = now if later else due_at
    return await submissions.release(tx, submission.row, node, due_at, asked=True, asked_at=asked_at)


async def _unconfirmed(
    tx: Tx, core: Core, submission: Submission, contracted: Contracted, now: int
) -> Announced | None:
    job = await jobs.locked(tx, submission.job)
    current = await submissions.get(tx, submission.row)
    if current.task is not None:
        # A callback has told the task's id while we were looking.
        await submissions.release(tx, submission.row, core.node, now, asked=False)
        return None
    if not await submissions.unanswered(tx, submission.row, core.node):
        return None
    if job.state is not JobState.SUBMITTING:
        # An earlier submission's callback has come after all: its task is the job's now.
        return None
    free = contracted.vendor.resubmits_free
    most = MOST_FREE_SUBMISSIONS if free else MOST_PAID_SUBMISSIONS
    if free and contracted.vendor.pace.watchdog is None:
        most = len(FREE_AGAIN_SECONDS) + 1
    again = free or contracted.unconfirmed is Unconfirmed.RESUBMIT
    if again and submission.number < most:
        await jobs.again(tx, submission.job, submission.row, now)
        return None
    failure = Failure(
        ErrorClass.UNCONFIRMED,
        "no_answer",
        "The vendor never answered the submission; it may or may not have done, and charged, the work.",
        retryable=True,
    )
    return await announce.fail_job(tx, core, submission.job, failure, Charged.UNKNOWN, now)
