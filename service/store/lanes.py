"""Lanes: the jobs that wait for a vendor, each project's of each operation in a line of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.job import Job
from service.store import sql
from service.store.database import Reader, Tx
from service.store.jobs import Step, job_of

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """What shares one place in the line: a project's jobs of one operation."""

    project: int
    operation: str

    @classmethod
    def of(cls, job: Job) -> "Lane":
        return cls(job.project, job.operation)


async def claim(tx: Tx, step: Step, vendor: str, node: int, now: int, limit: int, last: Lane | None) -> Sequence[Job]:
    """Take up to `limit` jobs that are due: one of each lane in turn, beginning behind the one that had the `last`."""
    at = {"step": step, "vendor": vendor}
    lanes = [Lane(row["project_id"], row["operation"]) for row in await tx.all(_SQL["waiting"], at)]
    turn = [lane for lane in lanes if last is None or lane > last]
    turn += [lane for lane in lanes if last is not None and lane <= last]
    claimed: list[Job] = []
    while turn and len(claimed) < limit:
        for lane in list(turn):
            # Alone it has every turn at once.
            most = 1 if len(turn) > 1 else limit - len(claimed)
            values = {**at, "project": lane.project, "operation": lane.operation, "node": node, "now": now}
            found = [job_of(row) for row in await tx.all(_SQL["claim"], {**values, "limit": most})]
            claimed += found
            if len(found) < most or len(turn) == 1:
                turn.remove(lane)
            if len(claimed) == limit:
                break
    return claimed


async def claim_these(tx: Tx, step: Step, node: int, now: int, wanted: Sequence[int]) -> Sequence[Job]:
    """Take those of these jobs that are due, out of their turn."""
    values = {"step": step, "node": node, "now": now}
    found = [await tx.one(_SQL["claim_one"], {**values, "job": job}) for job in wanted]
    return [job_of(row) for row in found if row is not None]


async def behind(reader: Reader, step: Step, job: Job, now: int, most: int) -> int:
    """How many jobs of the same lane are due for the step, up to `most`."""
    values = {"step": step, "vendor": job.vendor, "project": job.project, "operation": job.operation}
    row = await reader.one(_SQL["behind"], {**values, "now": now, "most": most})
    assert row is not None
    return int(row["count"])
