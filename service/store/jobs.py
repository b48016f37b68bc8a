"""Jobs: what was asked for, in which state it is, and whose turn it is.

A job that waits has `step` and `due_at`; one that a worker holds has `node`; one whose task is at the vendor has
neither: its submission is asked instead. Every change of state is a compare-and-set and says whether it took place.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.job import Charged, ErrorClass, Failure, Input, Job, JobRequest, JobState
from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)

# Jobs with one pair of metadata, beyond which it is of no use to know how many more there are.
_MANY = 1_000


class Step(StrEnum):
    STAGE = "stage"
    SUBMIT = "submit"
    CONCLUDE = "conclude"
    FETCH = "fetch"


@dataclass(frozen=True, slots=True)
class RememberedKey:
    fingerprint: str
    job: int


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is given must hold."""

    state: str | None = None
    operation: str | None = None
    vendor: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnderWay:
    vendor: str
    state: JobState
    count: int


@dataclass(frozen=True, slots=True)
class Queue:
    """How many jobs stand at one step of one vendor; `oldest`: since when the first of them is due."""

    step: str
    vendor: str
    count: int
    oldest: int | None


def _failure(text: str | None) -> Failure | None:
    if text is None:
        return None
    error = json.loads(text)
    return Failure(ErrorClass(error["class"]), error["code"], error["message"], error["retryable"])


def job_of(row: Row) -> Job:
    return Job(
        row=row["id"],
        id=row["public_id"],
        project=row["project_id"],
        vendor=row["vendor"],
        operation=row["operation"],
        state=JobState(row["state"]),
        request=JobRequest.model_validate_json(row["request"]),
        progress=row["progress"],
        tries=row["tries"],
        faults=row["faults"],
        submissions=row["submissions"],
        submission=row["submission_id"],
        vendor_task_id=row["vendor_task_id"],
        created_at=row["created_at"],
        staged_at=row["staged_at"],
        submitted_at=row["submitted_at"],
        finished_at=row["finished_at"],
        failure=_failure(row["error"]),
        credits=row["credits"],
        charged=Charged(row["charged"]),
        possible_duplicate_at=row["possible_duplicate_at"],
        retry_of=row["retry_of"],
    )


def _maybe(row: Row | None) -> Job | None:
    return None if row is None else job_of(row)


async def add(
    tx: Tx,
    *,
    public_id: str,
    project: int,
    vendor: str,
    request: JobRequest,
    inputs: Sequence[Input],
    needs_staging: bool,
    now: int,
    retry_of: str | None = None,
) -> Job:
    row = await tx.one(
        _SQL["add"],
        {
            "public_id": public_id,
            "project": project,
            "vendor": vendor,
            "operation": request.operation,
            "step": Step.STAGE if needs_staging else Step.SUBMIT,
            "request": request.model_dump_json(by_alias=True, exclude_none=True),
            "now": now,
            "staged_at": None if needs_staging else now,
            "retry_of": retry_of,
            "metadata_rows": len(request.metadata),
        },
    )
    assert row is not None
    await _add_metadata(tx, int(row["id"]), project, request.metadata)
    await tx.run_many(
        _SQL["add_input"],
        [
            {
                "job": row["id"],
                "name": entry.name,
                "source": json.dumps(entry.source),
                "asset": entry.asset,
                "link": entry.link,
            }
            for entry in inputs
        ],
    )
    return await by_row(tx, int(row["id"]))


def _pair(key: str, value: str) -> str:
    """A pair of metadata as the index holds it: 128 bits of its digest, in hex."""
    return hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()[:32]


async def _add_metadata(tx: Tx, job: int, project: int, metadata: Mapping[str, str]) -> None:
    if metadata:
        rows = [{"job": job, "project": project, "pair": _pair(*pair)} for pair in metadata.items()]
        await tx.run_many(_SQL["add_metadata"], rows)


async def fill_metadata(tx: Tx, limit: int) -> int:
    """Make jobs of an earlier release findable by their metadata, oldest first; how many there were."""
    found = await tx.all(_SQL["without_metadata"], {"limit": limit})
    for row in found:
        metadata = json.loads(row["request"]).get("metadata", {})
        await _add_metadata(tx, row["id"], row["project_id"], metadata)
        await tx.run(_SQL["has_metadata"], {"job": row["id"], "rows": len(metadata)})
    return len(found)


async def inputs_of(reader: Reader, job: int) -> Sequence[Input]:
    rows = await reader.all(_SQL["inputs"], {"job": job})
    return [Input(row["name"], json.loads(row["source"]), row["asset_id"], row["link"]) for row in rows]


async def staged_input(tx: Tx, job: int, name: str, asset: int) -> None:
    await tx.run(_SQL["staged_input"], {"job": job, "name": name, "asset": asset})


async def remember_key(tx: Tx, project: int, key: str, fingerprint: str, job: int, now: int, since: int) -> None:
    await forget_key(tx, project, key, since)
    values = {"project": project, "key": key, "fingerprint": fingerprint, "job": job, "now": now}
    await tx.run(_SQL["remember_key"], values)


async def remembered_key(reader: Reader, project: int, key: str, since: int) -> RememberedKey | None:
    row = await reader.one(_SQL["remembered_key"], {"project": project, "key": key, "since": since})
    return None if row is None else RememberedKey(row["fingerprint"], row["job_id"])


async def get(reader: Reader, project: int, public_id: str) -> Job | None:
    return _maybe(await reader.one(_SQL["get"], {"project": project, "public_id": public_id}))


async def by_row(reader: Reader, job: int) -> Job:
    """A row that another row of ours names: its absence is a bug."""
    row = await reader.one(_SQL["by_row"], {"job": job})
    assert row is not None, f"job row {job} is missing"
    return job_of(row)


async def locked(tx: Tx, job: int) -> Job:
    """As it stands, and nobody else changes it, or what belongs to it, before this unit's end."""
    row = await tx.one(_SQL["locked"], {"job": job})
    assert row is not None, f"job row {job} is missing"
    return job_of(row)


async def listed(reader: Reader, project: int, chosen: Filter, before: int, limit: int) -> Sequence[Job]:
    """Newest first."""
    values = {
        "project": project,
        "state": chosen.state,
        "operation": chosen.operation,
        "vendor": chosen.vendor,
        "before": before,
        "limit": limit,
    }
    if not chosen.metadata:
        return [job_of(row) for row in await reader.all(_SQL["list"], values)]
    pairs = [_pair(*pair) for pair in chosen.metadata.items()]
    values |= {"pair": await _rarest(reader, project, pairs), "pairs": " ".join(pairs), "count": len(pairs)}
    return [job_of(row) for row in await reader.all(_SQL["list_by_metadata"], values)]


async def _rarest(reader: Reader, project: int, pairs: Sequence[str]) -> str:
    """Where one pair is in all jobs and another in one, the one is found by the other."""
    if len(pairs) == 1:
        return pairs[0]
    counts = []
    for pair in pairs:
        row = await reader.one(_SQL["pair_count"], {"project": project, "pair": pair, "most": _MANY})
        assert row is not None
        counts.append((row["count"], pair))
    return str(min(counts)[1])


async def under_way(reader: Reader, project: int | None) -> Sequence[UnderWay]:
    """How many jobs have not ended, by vendor and state; `project` None: those of all projects."""
    rows = await reader.all(_SQL["under_way"], {"project": project})
    return [UnderWay(row["vendor"], JobState(row["state"]), row["count"]) for row in rows]


async def claim(tx: Tx, step: Step, vendor: str, node: int, now: int, limit: int) -> Sequence[Job]:
    values = {"step": step, "vendor": vendor, "node": node, "now": now, "limit": limit}
    return [job_of(row) for row in await tx.all(_SQL["claim"], values)]


async def claim_fairly(tx: Tx, step: Step, vendor: str, node: int, now: int, limit: int, most: int) -> Sequence[Job]:
    """As `claim`, but no project has more than `most` in hand."""
    values = {"step": step, "vendor": vendor, "node": node, "now": now, "limit": limit, "most": most}
    return [job_of(row) for row in await tx.all(_SQL["claim_fairly"], values)]


async def next_due(reader: Reader, step: Step, vendor: str) -> int | None:
    row = await reader.one(_SQL["next_due"], {"step": step, "vendor": vendor})
    return None if row is None else row["due_at"]


async def _changed(tx: Tx, statement: str, values: Mapping[str, Any]) -> bool:
    return await tx.run(_SQL[statement], values) == 1


async def hand_on(tx: Tx, job: int, node: int, step: Step | None, due_at: int | None, tries: int) -> bool:
    values = {"job": job, "node": node, "step": step, "due_at": due_at, "tries": tries}
    return await _changed(tx, "hand_on", values)


async def try_later(tx: Tx, job: int, node: int, due_at: int, *, counted: bool) -> bool:
    """The same step again, after a fault of ours; `counted` where it was no passing one."""
    return await _changed(tx, "try_later", {"job": job, "node": node, "due_at": due_at, "counted": int(counted)})


async def start_staging(tx: Tx, job: int, node: int) -> bool:
    return await _changed(tx, "start_staging", {"job": job, "node": node})


async def staged(tx: Tx, job: int, node: int, now: int) -> bool:
    return await _changed(tx, "staged", {"job": job, "node": node, "now": now})


async def submitting(tx: Tx, job: int, node: int, submission: int, possible_duplicate_at: int | None) -> bool:
    values = {"job": job, "node": node, "submission": submission, "possible_duplicate_at": possible_duplicate_at}
    return await _changed(tx, "submitting", values)


async def not_submitted(
    tx: Tx, job: int, submission: int, due_at: int, possible_duplicate_at: int | None = None, *, counted: bool = True
) -> bool:
    """`counted`: as one of the tries that a job has."""
    values = {
        "job": job,
        "submission": submission,
        "due_at": due_at,
        "possible_duplicate_at": possible_duplicate_at,
        "counted": int(counted),
    }
    return await _changed(tx, "not_submitted", values)


async def again(tx: Tx, job: int, submission: int, now: int) -> bool:
    return await _changed(tx, "again", {"job": job, "submission": submission, "now": now})


async def running(tx: Tx, job: int, submission: int, task: str | None, now: int) -> Job | None:
    values = {"job": job, "submission": submission, "task": task, "now": now}
    return _maybe(await tx.one(_SQL["running"], values))


async def corrected(tx: Tx, job: int, submission: int, task: str) -> bool:
    return await _changed(tx, "corrected", {"job": job, "submission": submission, "task": task})


async def progressed(tx: Tx, job: int, progress: int) -> bool:
    return await _changed(tx, "progressed", {"job": job, "progress": progress})


async def to_conclude(tx: Tx, job: int, now: int) -> bool:
    return await _changed(tx, "to_conclude", {"job": job, "now": now})


async def fetching(
    tx: Tx, job: int, submission: int, task: str | None, charged: Charged, credits_: str | None, now: int
) -> bool:
    values = {
        "job": job,
        "submission": submission,
        "task": task,
        "charged": charged,
        "credits": credits_,
        "now": now,
    }
    return await _changed(tx, "fetching", values)


async def succeed(tx: Tx, job: int, node: int, now: int) -> Job | None:
    return _maybe(await tx.one(_SQL["succeed"], {"job": job, "node": node, "now": now}))


async def fail(
    tx: Tx, job: int, failure: Failure, charged: Charged | None, now: int, node: int | None = None
) -> Job | None:
    """`node`: only where the job is still in its hands."""
    values = {"job": job, "error": json.dumps(failure.as_json()), "charged": charged, "now": now, "node": node}
    return _maybe(await tx.one(_SQL["fail"], values))


async def cancel(tx: Tx, job: int, now: int) -> Job | None:
    return _maybe(await tx.one(_SQL["cancel"], {"job": job, "now": now}))


async def doubt_waiting(tx: Tx, now: int) -> int:
    """Say of all that wait to be handed in that it may be for the second time; how many there are."""
    return await tx.run(_SQL["doubt_waiting"], {"now": now})


async def old_keys(reader: Reader, since: int, limit: int) -> Sequence[tuple[int, str, int]]:
    """Idempotency-Keys that count no longer: project, key, job."""
    rows = await reader.all(_SQL["old_keys"], {"since": since, "limit": limit})
    return [(row["project_id"], row["key"], row["job_id"]) for row in rows]


async def forget_key(tx: Tx, project: int, key: str, since: int) -> None:
    await tx.run(_SQL["forget_key"], {"project": project, "key": key, "since": since})


async def remove(tx: Tx, job: int, before: int) -> Sequence[int] | None:
    """Delete a job that ended at `before` or earlier, with all that hangs on it, and its own webhook.

    The rows of the assets that it named, which stay; None where the job stays, for something still names it.
    """
    if await tx.one(_SQL["removable"], {"job": job, "before": before}) is None:
        return None
    named = [row["asset_id"] for row in await tx.all(_SQL["assets"], {"job": job})]
    for statement in ("remove_webhook", "remove"):
        await tx.run(_SQL[statement], {"job": job})
    return named


async def waiting(reader: Reader) -> list[Queue]:
    """All projects' together: for the operator."""
    return [
        Queue(row["step"], row["vendor"], row["count"], row["oldest"]) for row in await reader.all(_SQL["waiting"], {})
    ]


async def in_hand(reader: Reader) -> list[Queue]:
    """All projects' together: for the operator."""
    return [Queue(row["step"], row["vendor"], row["count"], None) for row in await reader.all(_SQL["in_hand"], {})]
