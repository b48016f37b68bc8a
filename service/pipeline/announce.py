"""A change, of a job or of a vendor, becomes an event and its deliveries, inside the same unit."""

from schemas.event import EventType
from schemas.job import Charged, ErrorClass, Failure, Job
from schemas.trouble import Trouble
from service.pipeline import shown
from service.pipeline.core import Announced, Core
from service.store import deliveries, events, jobs, projects, submissions
from service.store.database import Tx
from service.store.submissions import Submission

# A fault of ours must end a job in plain words, and not for ever try again.
OUR_FAULT = Failure(ErrorClass.UNKNOWN, "internal", "A fault in Wirephoto; it is in the log.", retryable=True)


async def job_event(tx: Tx, core: Core, job: Job, event_type: EventType, now: int) -> Announced:
    """Write the event about `job` as it is now, and owe it to all who subscribed."""
    data = await shown.job(tx, job, core.links)
    channels = tuple(job.request.channels)
    event = await events.add(tx, job.project, event_type, data, now, job=job.row)
    return Announced(event, await deliveries.fan_out(tx, event, core.node, channels=channels), job)


async def vendor_event(
    tx: Tx, core: Core, event_type: EventType, vendor: str, now: int, trouble: Trouble | None = None
) -> Announced:
    """Write the event about how a vendor is doing; `trouble` None: well. Accounts are the operator's: so is the event.

    The lock on the first project is held, so nobody writes another one meanwhile.
    """
    project = await projects.first(tx)
    assert project is not None, "who has an account has a project"
    event = await events.add(tx, project, event_type, shown.vendor(vendor, trouble, now), now)
    return Announced(event, await deliveries.fan_out(tx, event, core.node))


async def fail_job(
    tx: Tx, core: Core, job: int, failure: Failure, charged: Charged | None, now: int, *, held: bool = False
) -> Announced | None:
    """End a job as failed; None where it had ended already. `charged` None: as it stands in the row.

    `held`: it is in this node's hands, and where it no longer is, another's word counts.
    """
    failed = await jobs.fail(tx, job, failure, charged, now, core.node if held else None)
    if failed is None:
        return None
    await submissions.close_all(tx, job)
    return await job_event(tx, core, failed, EventType.JOB_FAILED, now)


async def task_known(tx: Tx, core: Core, submission: Submission, task: str, now: int) -> Announced | None:
    """The vendor's id for the work is known: the job is running, whoever told us first."""
    if not await submissions.task_known(tx, submission.row, task):
        return None
    job = await jobs.running(tx, submission.job, submission.row, task, now)
    return None if job is None else await job_event(tx, core, job, EventType.JOB_SUBMITTED, now)


async def answered_at_once(tx: Tx, core: Core, submission: Submission, now: int) -> Announced | None:
    """The answer to the submission was the vendor's last word, and named no task: the job was taken in all the same."""
    job = await jobs.running(tx, submission.job, submission.row, None, now)
    return None if job is None else await job_event(tx, core, job, EventType.JOB_SUBMITTED, now)
