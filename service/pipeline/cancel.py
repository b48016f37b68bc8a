"""A user ends a job early. It is over for us at once, whatever the vendor still does."""

from schemas.event import EventType
from schemas.job import Job
from service.pipeline import announce
from service.pipeline.core import Announced, Core
from service.store import jobs, submissions
from service.store.database import Tx


async def cancel(core: Core, job: Job) -> bool:
    """False where the job had ended already. Its task's slot at the vendor is free for the next."""
    canceled = await core.commit(_cancel, core, job.row, core.clock.now())
    core.wake(jobs.Step.SUBMIT, job.vendor)
    return canceled


async def _cancel(tx: Tx, core: Core, job: int, now: int) -> Announced | None:
    canceled = await jobs.cancel(tx, job, now)
    if canceled is None:
        return None
    await submissions.close_all(tx, job)
    return await announce.job_event(tx, core, canceled, EventType.JOB_CANCELED, now)
