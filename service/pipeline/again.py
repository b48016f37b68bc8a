"""A user wants a job once more that failed, or that was canceled: a new job with all of the old one's request.

The new one is paid for like any other. Its pictures are those that the old one had staged: the links they came from may
be dead by now.
"""

from collections.abc import Sequence
from functools import partial

from schemas.catalogue import InputSpec, Operation
from schemas.job import Input, Job, JobInput, JobState
from schemas.problem import FieldError, Problem
from service.pipeline import accept as taking_in
from service.pipeline.accept import Accept, Accepted, IdempotencyKey, Resolved
from service.store import assets, jobs
from service.store.database import Reader

_GONE = "the picture that this job had has expired: submit a new job with it"


async def again(accept: Accept, job: Job, key: str | None) -> Accepted:
    """Raises Problem: 409 where the job has not ended or has succeeded, 422 where it can't be had again as it was."""
    if job.state not in (JobState.FAILED, JobState.CANCELED):
        detail = f"Only a job that has failed or was canceled can be tried again; this one is {job.state}."
        raise Problem(409, "not_failed", detail)
    once = None if key is None else IdempotencyKey(key, taking_in.digest_of({"retry_of": job.id}))
    return await accept.once(job.project, job.request, partial(_pictures_of, job), once, retry_of=job.id)


async def _pictures_of(
    job: Job, reader: Reader, operation: Operation, now: int
) -> tuple[list[Resolved], list[FieldError]]:
    inputs = {entry.name: entry for entry in await jobs.inputs_of(reader, job.row)}
    resolved: list[Resolved] = []
    errors = taking_in.unknown_inputs(operation, inputs)
    for spec in operation.inputs:
        if spec.name in inputs:
            one, found = await _picture(reader, job.project, spec, inputs[spec.name], now)
            resolved += one
            errors += found
        elif spec.required:
            errors.append(FieldError(f"inputs.{spec.name}", "is required now, and this job has none: submit a new one"))
    return resolved, errors


async def _picture(
    reader: Reader, project: int, spec: InputSpec, entry: Input, now: int
) -> tuple[Sequence[Resolved], Sequence[FieldError]]:
    field = f"inputs.{entry.name}"
    kept = None if entry.asset is None else await assets.by_row(reader, project, entry.asset)
    if kept is not None and kept.expires_at > now:
        one, errors = taking_in.held(spec, entry.source, kept, field)
        return [one], errors
    named = JobInput.model_validate(entry.source)
    if named.url is None:
        return [], [FieldError(field, _GONE)]
    # A link is worth another try, whether its picture never came or has expired since.
    fresh, errors = await taking_in.resolve_one(reader, project, spec, named, field, now)
    return [fresh] if fresh is not None else [], errors
