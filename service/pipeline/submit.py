"""Third step: a job is handed to its vendor. What was prepared is saved before the call that may cost money."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from handlers.vendors.contract import (
    Accepted,
    Account,
    InputFile,
    InputLink,
    Prepared,
    Submitted,
    VendorError,
    Work,
)
from schemas.asset import Asset, StoredFile
from schemas.callback import Callback
from schemas.job import Charged, ErrorClass, Failure, Job, JobState
from service.pacing.health import Call
from service.pipeline import announce, loaded, poll, receive, retry, trouble
from service.pipeline.core import Announced, Core
from service.pipeline.loaded import Loaded
from service.pipeline.paid_turn import BarredError, NotOursError, PaidTurn
from service.security import keys
from service.store import callbacks, jobs, lanes, submissions
from service.store.database import Reader, Tx
from service.store.lanes import Lane
from service.store.submissions import Submission
from service.vendors import Contracted

log = structlog.get_logger()

TRIES = 8
# A vendor that keeps refusing what was once prepared may have dropped it: then it is prepared anew.
SAME_PREPARATION_TRIES = 3


class Submit:
    """`reply_base` is where vendors may call us, without the token; None where they can't."""

    def __init__(self, core: Core, reply_base: str | None) -> None:
        self._core = core
        self._reply_base = reply_base
        # By vendor: whose job was claimed last. The next one's turn comes before theirs comes again.
        self._last: dict[str, Lane] = {}

    async def claim(self, contracted: Contracted, room: int) -> Sequence[Job]:
        """Jobs whose turn it is, as far as the vendor has room for more tasks at once."""
        core, vendor = self._core, contracted.name
        first = await self._claim_nameless(contracted, room)
        room = contracted.turns.room(room - len(first))
        if room <= 0:
            return first
        claimed = await core.db.write(
            _claim, vendor, core.node, core.clock.now(), room, contracted.max_concurrent, self._last.get(vendor)
        )
        if claimed:
            self._last[vendor] = Lane.of(claimed[-1])
        return [*first, *claimed]

    async def _claim_nameless(self, contracted: Contracted, room: int) -> Sequence[Job]:
        """Before all others, whose task may be dying at the vendor, as far as its name is lost on the way."""
        wanted = contracted.turns.nameless[:room]
        if not wanted:
            return []
        core = self._core
        return await core.db.write(lanes.claim_these, jobs.Step.SUBMIT, core.node, core.clock.now(), wanted)

    async def next_due(self, contracted: Contracted) -> int | None:
        """None while the vendor is full: the end of a task wakes us."""
        due_at = await self._core.db.read(_next_due, contracted.name, contracted.max_concurrent)
        waiting = due_at is not None and due_at <= self._core.clock.now()
        full = waiting and not contracted.turns.room(1)
        contracted.turns.hungry(full)
        return contracted.turns.next_room_at() if full else due_at

    async def run(self, job: Job, contracted: Contracted) -> None:
        found = await self._core.db.read(loaded.load, job, self._core.clock.now())
        async with AsyncExitStack() as stack:
            try:
                # What the vendor made itself may lie there still; if not, the next try brings it.
                made = found.made_here if job.tries == 0 else {}
                inputs = {
                    name: await self._at_hand(given, made.get(name), stack) for name, given in found.inputs.items()
                }
            except FileNotFoundError:
                gone = VendorError("a picture is gone from the asset store", code="unreadable_input")
                await self._not_prepared(job, gone)
                return
            operation = contracted.operation_of(job)
            work = Work(job.id, operation, job.request.params, job.request.extra, inputs, found.behind)
            turn = await stack.enter_async_context(contracted.turns.admitted(job.row))
            await self._hand_in(job, contracted, replace(contracted.account, turn=turn), found, work)

    async def _at_hand(
        self, given: Asset | InputLink, made_here: Mapping[str, Any] | None, stack: AsyncExitStack
    ) -> InputFile | InputLink:
        """A picture as a file, until the stack is unwound."""
        if isinstance(given, InputLink):
            return given
        return InputFile(
            path=await stack.enter_async_context(self._core.files.local(StoredFile(given.sha256, given.bytes))),
            content_type=given.content_type,
            filename=f"{given.id}.{given.content_type.split('/')[-1]}",
            bytes=given.bytes,
            width=given.width,
            height=given.height,
            made_here=made_here,
        )

    async def _hand_in(self, job: Job, contracted: Contracted, account: Account, found: Loaded, work: Work) -> None:
        vendor = contracted.vendor
        if contracted.door.bars(job.row):
            await self._back(job)
            return
        try:
            if found.unanswered is not None and job.tries < SAME_PREPARATION_TRIES:
                # The very same preparation: what the vendor recognises by it is not paid for again.
                prepared = Prepared(found.unanswered.prepared)
            else:
                async with trouble.heard(self._core, contracted, Call.PREPARE, job.row):
                    prepared = await vendor.prepare(account, work)
        except VendorError as error:
            await self._not_prepared(job, error)
            return
        token = keys.new_token() if vendor.announces and self._reply_base else None
        reply_to = f"{self._reply_base}/callbacks/{vendor.name}/{token}" if token else None
        opening = PaidTurn(
            account.turn,
            partial(self._core.db.write, _open, self._core, job, contracted, prepared, token, found),
            partial(contracted.door.bars, job.row),
        )
        try:
            async with trouble.heard(self._core, contracted, Call.SUBMIT, job.row):
                submitted = await vendor.submit(replace(account, turn=opening), prepared, reply_to, work)
        except NotOursError:
            return
        except BarredError:
            await self._back(job)
            return
        except VendorError as error:
            if opening.submission is None:
                await self._not_prepared(job, error)
            elif error.accepted is Accepted.UNKNOWN:
                await self._no_answer(opening.submission, job, contracted, error)
            else:
                await self._refused(opening.submission, job, error)
            return
        except Exception:
            if opening.submission is None:
                raise
            # From here on the submission owns the job. A fault of ours tells nothing of what the vendor has done.
            log.exception("job.submit_fault", job=job.id)
            fault = VendorError("a fault in Wirephoto", ErrorClass.UNKNOWN, "internal", accepted=Accepted.UNKNOWN)
            await self._no_answer(opening.submission, job, contracted, fault)
            return
        assert opening.submission is not None, "a paid call takes its turn"
        since = found.unanswered_since
        await self._accepted(opening.submission, job, submitted, contracted, since, called_back=token is not None)

    async def _back(self, job: Job) -> None:
        """Nothing was tried: it waits with the others."""
        await self._core.insist(_later, job, self._core.node, self._core.clock.now(), counted=False)

    async def _not_prepared(self, job: Job, error: VendorError) -> None:
        now = self._core.clock.now()
        if _is_final(error, job.tries):
            await self._core.commit(announce.fail_job, self._core, job.row, error.as_failure(), None, now, held=True)
            log.info("job.failed", job=job.id, error_class=error.error_class, code=error.code)
            return
        due_at = now + _wait(error, job.tries)
        await self._core.insist(_later, job, self._core.node, due_at, counted=_counts(error))
        log.warning("job.submit_later", job=job.id, code=error.code, due_at=due_at)

    async def _refused(self, submission: Submission, job: Job, error: VendorError) -> None:
        """The vendor said no, so nothing was begun and nothing is owed; unless a callback proves it wrong."""
        now = self._core.clock.now()
        if _is_final(error, job.tries):
            failure = error.as_failure()
            if await self._core.commit(_refused, self._core, job, submission, failure, now):
                log.info("job.failed", job=job.id, error_class=error.error_class, code=error.code)
        else:
            due_at = now + _wait(error, job.tries)
            doubtful = error.accepted is Accepted.UNLIKELY
            await self._core.insist(
                _not_submitted, self._core, job, submission, due_at, now, doubtful=doubtful, counted=_counts(error)
            )
            log.warning("job.submit_later", job=job.id, code=error.code, due_at=due_at)
        self._core.wake(jobs.Step.SUBMIT, job.vendor)
        self._core.wake(poll.STEP, job.vendor)

    async def _no_answer(self, submission: Submission, job: Job, contracted: Contracted, error: VendorError) -> None:
        """The call may have been taken in: wait for a callback until the watchdog, then `poll` decides."""
        contracted.turns.unanswered(submission, job.operation)
        now = self._core.clock.now()
        await self._core.insist(_unanswered, submission, self._core.node, now)
        log.warning("job.submit_unanswered", job=job.id, submission=submission.number, code=error.code)
        self._core.wake(poll.STEP, job.vendor)

    async def _accepted(
        self,
        submission: Submission,
        job: Job,
        submitted: Submitted,
        contracted: Contracted,
        unanswered_since: int | None,
        *,
        called_back: bool,
    ) -> None:
        now = self._core.clock.now()
        pace = contracted.vendor.pace
        final = submitted.reply if submitted.reply is not None and self._says_final(contracted, submitted) else None
        due_at, tracked = now, None
        if submitted.task_id is not None and final is None:
            # The task may be an earlier call's, and nobody has asked it since.
            tracked = contracted.turns.track(submission, job.operation, since=unanswered_since)
            # Who will call is only asked after a long silence.
            quiet = pace.watchdog if called_back else None
            due_at = contracted.turns.due_at(tracked) if quiet is None else now + round(quiet * 1000)
        accepted = await self._core.insist(_accept, self._core, submission, submitted.task_id, final, due_at, now)
        announced, goes_on = accepted
        if tracked is not None and not goes_on:
            # The job was ended during the call.
            contracted.turns.forget(tracked)
        if announced is not None:
            self._core.tell(announced)
        if final is not None:
            self._core.metrics.callbacks.bump(job.vendor, final.via)
        log.info("job.submitted", job=job.id, vendor=job.vendor, task=submitted.task_id, submission=submission.number)
        self._core.wake(jobs.Step.CONCLUDE if final else poll.STEP, job.vendor)

    @staticmethod
    def _says_final(contracted: Contracted, submitted: Submitted) -> bool:
        assert submitted.reply is not None
        return contracted.vendor.read(submitted.reply, None).final


def _is_final(error: VendorError, tries: int) -> bool:
    # A full rate window opens again by itself: waiting for it is never given up.
    lasting = error.permanent or (error.error_class is not ErrorClass.RATE_LIMIT and tries + 1 >= TRIES)
    return lasting and _counts(error)


def _counts(error: VendorError) -> bool:
    """Whether a no says something of this job, and not only of the account."""
    return not isinstance(error, trouble.AccountError)


def _wait(error: VendorError, tries: int) -> int:
    return max(retry.backoff(tries), round((error.retry_after or 0) * 1000))


async def _claim(
    tx: Tx, vendor: str, node: int, now: int, room: int, max_concurrent: int, last: Lane | None
) -> Sequence[Job]:
    free = max_concurrent - await submissions.busy(tx, vendor)
    if free <= 0:
        return []
    return await lanes.claim(tx, jobs.Step.SUBMIT, vendor, node, now, min(room, free), last)


async def _next_due(reader: Reader, vendor: str, max_concurrent: int) -> int | None:
    busy = await submissions.busy(reader, vendor)
    return None if busy >= max_concurrent else await jobs.next_due(reader, jobs.Step.SUBMIT, vendor)


async def _open(
    tx: Tx,
    core: Core,
    job: Job,
    contracted: Contracted,
    prepared: Prepared,
    token: str | None,
    found: Loaded,
) -> Submission | None:
    """The durable record before the paid call; None where the job is no longer ours to submit."""
    now = core.clock.now()
    pace = contracted.vendor.pace
    silence = pace.watchdog
    if silence is None:
        # Nobody will call.
        silence = pace.call
        if contracted.vendor.resubmits_free:
            silence = poll.FREE_AGAIN_SECONDS[min(job.submissions, len(poll.FREE_AGAIN_SECONDS) - 1)]
    submission = await submissions.add(
        tx,
        job=job.row,
        project=job.project,
        vendor=job.vendor,
        number=job.submissions + 1,
        token_hash=None if token is None else keys.hash_of(token),
        prepared=prepared.data,
        watch_at=now + round(silence * 1000),
        deadline_at=now + round(pace.deadline * 1000),
        node=core.node,
        now=now,
    )
    # The document says that a second submit of the same upload is free; its history says otherwise. So it is told.
    possible_duplicate_at = None if found.unanswered is None else now
    if not await jobs.submitting(tx, job.row, core.node, submission.row, possible_duplicate_at):
        await submissions.close(tx, submission.row)
        return None
    return submission


async def _later(tx: Tx, job: Job, node: int, due_at: int, *, counted: bool) -> None:
    await jobs.hand_on(tx, job.row, node, jobs.Step.SUBMIT, due_at, job.tries + int(counted))


async def _refused(
    tx: Tx, core: Core, job: Job, submission: Submission, failure: Failure, now: int
) -> Announced | None:
    if await _taken_in_after_all(tx, core, submission, now):
        return None
    return await announce.fail_job(tx, core, job.row, failure, Charged.NO, now)


async def _not_submitted(
    tx: Tx, core: Core, job: Job, submission: Submission, due_at: int, now: int, *, doubtful: bool, counted: bool
) -> None:
    if await _taken_in_after_all(tx, core, submission, now):
        return
    await submissions.close(tx, submission.row)
    await jobs.not_submitted(tx, job.row, submission.row, due_at, now if doubtful else None, counted=counted)


async def _taken_in_after_all(tx: Tx, core: Core, submission: Submission, now: int) -> bool:
    """Whether a callback on this submission's token, or on an earlier one's, has named a task of the job meanwhile.

    Then the job goes its way: a no to this call neither ends it nor hands it in again.
    """
    if (await jobs.locked(tx, submission.job)).state is JobState.SUBMITTING:
        return False
    if (await submissions.get(tx, submission.row)).task is None:
        await submissions.close(tx, submission.row)
    else:
        await submissions.release(tx, submission.row, core.node, now, asked=False)
    return True


async def _unanswered(tx: Tx, submission: Submission, node: int, now: int) -> None:
    await jobs.locked(tx, submission.job)
    # A callback that came early may have told the task's id.
    known = (await submissions.get(tx, submission.row)).task is not None
    due_at = now if known else max(submission.watch_at, now)
    await submissions.release(tx, submission.row, node, due_at, asked=False)


async def _accept(
    tx: Tx, core: Core, submission: Submission, task: str | None, final: Callback | None, due_at: int, now: int
) -> tuple[Announced | None, bool]:
    """And whether there is something left to do for the job."""
    await jobs.locked(tx, submission.job)
    announced = None
    if task is not None:
        announced = await announce.task_known(tx, core, submission, task, now)
    elif final is not None:
        announced = await announce.answered_at_once(tx, core, submission, now)
    if task is not None and announced is None and await submissions.corrected(tx, submission.row, task):
        # An early callback named another task: unsigned words give way to the vendor's own answer.
        await jobs.corrected(tx, submission.job, submission.row, task)
    job = await jobs.by_row(tx, submission.job)
    goes_on = job.state in (JobState.SUBMITTING, JobState.RUNNING)
    if not goes_on:
        await submissions.close(tx, submission.row)
    elif final is not None:
        await receive.store_answer(tx, submission, core.node, final, now, now)
    else:
        hinted = await callbacks.hints(tx, submission.row)
        await submissions.release(tx, submission.row, core.node, now if hinted else due_at, asked=False)
    return announced, goes_on
