"""Who works on what: one worker a step and vendor, so that a slow vendor holds up no other."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from schemas.delivery import Owed
from schemas.job import Job
from schemas.trouble import PAUSING, Trouble
from service.pipeline import announce, retry, trouble
from service.pipeline.conclude import Conclude
from service.pipeline.core import Announced, Core
from service.pipeline.deliver import Deliver
from service.pipeline.fetch import Fetch
from service.pipeline.poll import STEP as POLL
from service.pipeline.poll import Poll
from service.pipeline.stage import Sources, Stage
from service.pipeline.submit import Submit
from service.pipeline.worker import Worker
from service.store import jobs, submissions
from service.store.database import StoreUnavailable, Tx
from service.store.jobs import Step
from service.store.submissions import Submission
from service.vendors import Contracted, Vendors

WORK_AT_ONCE = 16
ASKED_AT_ONCE = 1_000
STAGED_AT_ONCE = 64
STAGED_AT_ONCE_PER_PROJECT = 8
DELIVERIES_PER_CLAIM = 1_000
MOST_FAULTS = 10

T = TypeVar("T")
Key = tuple[str, str]
Crew = Mapping[Key, Worker[Job] | Worker[Submission] | Worker[Trouble | None]]


def crew(core: Core, vendors: Vendors, sources: Sources, reply_base: str | None) -> Crew:
    """By step and vendor; none is started yet."""
    stage, submit, poll = Stage(core, sources), Submit(core, reply_base), Poll(core)
    conclude, fetch = Conclude(core), Fetch(core)
    probe = trouble.Probe(core)
    workers: dict[Key, Worker[Job] | Worker[Submission] | Worker[Trouble | None]] = {}
    for contracted in vendors:
        at_vendor, pace = contracted.max_concurrent, contracted.vendor.pace
        for step, run in ((Step.STAGE, stage.run), (Step.CONCLUDE, conclude.run), (Step.FETCH, fetch.run)):
            workers[step, contracted.name] = _job_worker(core, step, contracted, run)
        workers[Step.SUBMIT, contracted.name] = Worker[Job](
            f"submit {contracted.name}",
            core.clock,
            claim=partial(trouble.claim_through, contracted, partial(submit.claim, contracted)),
            next_due=partial(trouble.next_through, contracted, partial(submit.next_due, contracted)),
            work=partial(_with, contracted, submit.run),
            broken=partial(_job_broken, core),
            limit=at_vendor,
            grace=0.0 if contracted.vendor.resubmits_free else max(pace.call, pace.blocking_call),
        )
        workers[POLL, contracted.name] = Worker[Submission](
            f"poll {contracted.name}",
            core.clock,
            claim=partial(poll.claim, contracted.name),
            next_due=partial(core.db.read, submissions.next_due, contracted.name),
            work=partial(_with, contracted, poll.run),
            broken=partial(poll.broken, contracted),
            # Those that wait for their turn must not keep a task from being asked that dies unasked.
            limit=ASKED_AT_ONCE if contracted.turns.keeps_alive else at_vendor,
        )
        workers[trouble.STEP, contracted.name] = Worker[Trouble | None](
            f"probe {contracted.name}",
            core.clock,
            claim=partial(probe.claim, contracted),
            next_due=partial(probe.next_due, contracted),
            work=partial(_with, contracted, probe.run),
            broken=probe.broken,
            limit=len(PAUSING) + 1,
        )
    return workers


def delivery_scan(core: Core, deliver: Deliver) -> Worker[Owed]:
    """Looks in the store for retries and for what dead nodes left; fresh deliveries are handed over in memory."""
    return Worker[Owed](
        "deliver",
        core.clock,
        claim=deliver.claim,
        next_due=deliver.next_due,
        work=deliver.send_on,
        broken=deliver.give_back,
        limit=DELIVERIES_PER_CLAIM,
    )


async def _with(contracted: Contracted, run: Callable[[T, Contracted], Awaitable[None]], piece: T) -> None:
    await run(piece, contracted)


def _job_worker(
    core: Core, step: Step, contracted: Contracted, run: Callable[[Job, Contracted], Awaitable[None]]
) -> Worker[Job]:
    async def claim(room: int) -> Sequence[Job]:
        now = core.clock.now()
        if step is Step.STAGE:
            # A project's slow source URLs must not keep another's waiting until they die.
            most = STAGED_AT_ONCE_PER_PROJECT
            return await core.db.write(jobs.claim_fairly, step, contracted.name, core.node, now, room, most)
        return await core.db.write(jobs.claim, step, contracted.name, core.node, now, room)

    return Worker[Job](
        f"{step} {contracted.name}",
        core.clock,
        claim=claim,
        next_due=partial(core.db.read, jobs.next_due, step, contracted.name),
        work=partial(_with, contracted, run),
        broken=partial(_job_broken, core),
        limit=STAGED_AT_ONCE if step is Step.STAGE else WORK_AT_ONCE,
    )


async def _job_broken(core: Core, job: Job, fault: Exception) -> None:
    # A store that was away for a while says nothing against the job.
    await core.commit(_try_later, core, job, counted=not isinstance(fault, StoreUnavailable))


async def _try_later(tx: Tx, core: Core, job: Job, *, counted: bool) -> Announced | None:
    """A fault of ours must not hold a job for ever: it is tried again, and then ended in plain words."""
    now = core.clock.now()
    ours = await jobs.try_later(tx, job.row, core.node, now + retry.backoff(job.faults), counted=counted)
    if not ours or not counted or job.faults + 1 < MOST_FAULTS:
        return None
    return await announce.fail_job(tx, core, job.row, announce.OUR_FAULT, None, now)
