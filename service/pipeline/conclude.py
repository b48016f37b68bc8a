"""Sixth step: a final callback is stored; the job takes its turn from it, once.

The first unit: compare-and-set `running → fetching` with the result rows and the time their links die, or the end of
a failed job with its event. The first terminal callback wins; a late twin changes nothing.
"""

from dataclasses import replace

import structlog

from handlers.vendors.contract import Prepared, Task
from schemas.callback import Update, UpdateState
from schemas.job import Charged, Failure, Job, JobState
from service.pipeline import announce, poll
from service.pipeline.core import Announced, Core
from service.store import callbacks, jobs, results, submissions
from service.store.callbacks import StoredCallback
from service.store.database import Tx
from service.store.submissions import Submission
from service.vendors import Contracted

log = structlog.get_logger()


class Conclude:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def run(self, job: Job, contracted: Contracted) -> None:
        now = self._core.clock.now()
        ended = await self._core.commit(conclude, self._core, job, contracted, now)
        log.info("job.concluded", job=job.id, vendor=job.vendor, failed=ended)
        self._core.wake(jobs.Step.FETCH, job.vendor)
        self._core.wake(jobs.Step.SUBMIT, job.vendor)
        self._core.wake(poll.STEP, job.vendor)


async def conclude(tx: Tx, core: Core, job: Job, contracted: Contracted, now: int) -> Announced | None:
    """Read what the vendor said last; the announcement of a failure, if that is what it was."""
    if (await jobs.locked(tx, job.row)).state not in (JobState.SUBMITTING, JobState.RUNNING):
        # Another answer has been concluded since this turn was claimed: the job is already on its way, or at its end.
        return None
    for stored in await callbacks.to_conclude(tx, job.row):
        submission = await submissions.get(tx, stored.submission)
        update = _read(stored, submission, contracted)
        await callbacks.read(tx, stored.row, update.state, now)
        await callbacks.read_hints(tx, submission.row, update.state, stored.received_at, now)
        if not update.final:
            continue
        announced = await _end(tx, core, job, submission, _priced(update, job, contracted), now)
        for late in await callbacks.to_conclude(tx, job.row):
            await callbacks.read(tx, late.row, "ignored", now)
        return announced
    # Nothing final after all: the submission is asked again.
    await jobs.hand_on(tx, job.row, core.node, None, None, 0)
    if job.submission is not None:
        await submissions.hurry(tx, job.submission, now)
    return None


def _read(stored: StoredCallback, submission: Submission, contracted: Contracted) -> Update:
    task = None if submission.task is None else Task(submission.task, Prepared(submission.prepared))
    return contracted.vendor.read(stored.confirmation or stored.callback, task)


def _priced(update: Update, job: Job, contracted: Contracted) -> Update:
    """Where the vendor named no price, the documented one."""
    if update.credits is not None or update.charged is not Charged.YES:
        return update
    return replace(update, credits=contracted.operation_of(job).credits)


async def _end(tx: Tx, core: Core, job: Job, submission: Submission, update: Update, now: int) -> Announced | None:
    if update.state is UpdateState.FAILED:
        assert isinstance(update.failure, Failure), "a failed update says why"
        return await announce.fail_job(tx, core, job.row, update.failure, update.charged, now)
    task = update.task_id or submission.task
    if await jobs.fetching(tx, job.row, submission.row, task, update.charged, update.credits, now):
        for output in update.outputs:
            dies_at = None if output.lives_seconds is None else now + output.lives_seconds * 1000
            await results.add(tx, job.row, output.name, output.source, dies_at)
        await submissions.close_all(tx, job.row)
    return None
