"""Jobs: submit, list, look, cancel, and the timeline of one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from schemas.event import Event
from schemas.job import Job, JobRequest, JobState
from schemas.problem import FieldError, Problem, invalid, not_found
from service import images
from service.pipeline import cancel as pipeline_cancel
from service.pipeline import shown
from service.pipeline.accept import Upload
from service.pipeline.shown import when
from service.store import callbacks, deliveries, events, jobs, results, submissions
from service.store.database import Reader
from service.store.keys import Principal
from service.web.forms import clean_name, keep, part_chunks, read_form
from service.web.site import (
    MAX_JSON_BYTES,
    NEWEST,
    Answer,
    Site,
    bad_cursor,
    limit_of,
    must_be_public,
    page,
    parse_json,
    query_choice,
    read_json,
    site_of,
    too_large,
    validated,
)

_WAIT = re.compile(r"(?:^|[,;]\s*)wait=(\d+)\s*(?:$|[,;])")
LONGEST_WAIT = 60
_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")


async def create(request: Request, who: Principal) -> Response:
    site = site_of(request)
    key = _idempotency_key(request)
    wait = _wait_of(request)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        value, uploads, found = await _read_multipart(request, site)
    else:
        value, uploads, found = await read_json(request), {}, []
    job_request = _job_request(site, value, found)
    if job_request.webhook is not None:
        found += _webhook_errors(site, job_request.webhook)
    accepted = await site.accept.accept(who.project, job_request, uploads, key, found)
    job, headers = accepted.job, {"Location": f"/v1/jobs/{accepted.job.id}"}
    if wait is not None:
        job = await _wait_for_end(site, job, wait)
        headers["Preference-Applied"] = f"wait={wait}"
    done = accepted.repeated or (wait is not None and job.state.terminal)
    body = await site.core.db.read(shown.job, job, site.core.links)
    return Answer(body, 200 if done else 202, headers)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise invalid([FieldError("Idempotency-Key", "must be 1 to 255 printable ASCII characters without spaces")])
    return key


def _wait_of(request: Request) -> int | None:
    found = _WAIT.search(request.headers.get("prefer", ""))
    if found is None:
        return None
    if len(found[1]) > 9 or not 1 <= int(found[1]) <= LONGEST_WAIT:
        raise invalid([FieldError("Prefer", f"wait must be from 1 to {LONGEST_WAIT} seconds")])
    return int(found[1])


async def _wait_for_end(site: Site, job: Job, seconds: int) -> Job:
    until = site.clock.now() + seconds * 1000
    bell = site.core.bells.listen(job.row)
    try:
        while True:
            bell.clear()
            job = await site.core.db.read(jobs.by_row, job.row)
            if job.state.terminal or site.clock.now() >= until or site.core.bells.closed:
                return job
            await site.clock.wait(bell, until)
    finally:
        site.core.bells.forget(job.row, bell)


def _job_request(site: Site, value: Any, found: Sequence[FieldError]) -> JobRequest:
    """Raises Problem 422 with the faults of the form, those `found` before, and what else can be told."""
    try:
        return validated(value, JobRequest)
    except Problem as problem:
        known = {error.field for error in problem.errors}
        more = [error for error in (*found, *site.accept.errors_of(value)) if error.field not in known]
        raise invalid([*problem.errors, *more]) from None


def _webhook_errors(site: Site, url: str) -> Sequence[FieldError]:
    try:
        must_be_public(site.guard, url, "webhook")
    except Problem as problem:
        return problem.errors
    return []


async def _read_multipart(request: Request, site: Site) -> tuple[Any, dict[str, Upload], list[FieldError]]:
    """A part `job` with the JSON, and a file part per input, named as the input; and which parts are faulty."""
    async with read_form(request, site) as form:
        job_parts = form.getlist("job")
        if len(job_parts) != 1:
            raise invalid([FieldError("job", "exactly one part with the job's JSON is required")])
        (part,) = job_parts
        if isinstance(part, UploadFile):
            if (part.size or 0) > MAX_JSON_BYTES:
                raise too_large(MAX_JSON_BYTES)
            value = parse_json(await part.read())
        else:
            value = parse_json(part)
        return value, *await _uploads(form, site)


async def _uploads(form: FormData, site: Site) -> tuple[dict[str, Upload], list[FieldError]]:
    errors: list[FieldError] = []
    uploads: dict[str, Upload] = {}
    for name, value in form.multi_items():
        if name == "job":
            continue
        field = f"inputs.{name}"
        if not isinstance(value, UploadFile):
            errors.append(FieldError(field, "must be a file part, with a filename"))
        elif name in uploads:
            errors.append(FieldError(field, "is given twice"))
        else:
            try:
                file, image = await keep(part_chunks(value), site)
            except images.NotAnImage as error:
                errors.append(FieldError(field, error.reason))
            else:
                uploads[name] = Upload(file, image, clean_name(value.filename))
    return uploads, errors


async def index(request: Request, who: Principal) -> Response:
    site, limit = site_of(request), limit_of(request)
    chosen = jobs.Filter(
        state=query_choice(request, "state", list(JobState)),
        operation=request.query_params.get("operation"),
        vendor=request.query_params.get("vendor"),
    )
    cursor = request.query_params.get("after")
    return page(await site.core.db.read(_page, site, who.project, chosen, cursor, limit + 1), limit)


async def _page(
    reader: Reader, site: Site, project: int, chosen: jobs.Filter, cursor: str | None, limit: int
) -> list[dict[str, Any]]:
    before = NEWEST
    if cursor is not None:
        last = await jobs.get(reader, project, cursor)
        if last is None:
            raise bad_cursor()
        before = last.row
    found = await jobs.listed(reader, project, chosen, before, limit)
    return [await shown.job(reader, job, site.core.links) for job in found]


async def _find(request: Request, who: Principal) -> Job:
    job = await site_of(request).core.db.read(jobs.get, who.project, request.path_params["id"])
    if job is None:
        raise not_found("job")
    return job


async def show(request: Request, who: Principal) -> Response:
    site = site_of(request)
    job = await _find(request, who)
    return Answer(await site.core.db.read(shown.job, job, site.core.links))


async def cancel(request: Request, who: Principal) -> Response:
    site = site_of(request)
    job = await _find(request, who)
    if not await pipeline_cancel.cancel(site.core, job):
        ended = await _find(request, who)
        if ended.state is not JobState.CANCELED:
            raise Problem(409, "already_ended", f"This job has ended already: it is {ended.state}.")
    return await show(request, who)


async def timeline(request: Request, who: Principal) -> Response:
    job = await _find(request, who)
    steps = await site_of(request).core.db.read(_steps, job)
    return Answer({"job": job.id, "state": job.state, "data": steps})


async def _steps(reader: Reader, job: Job) -> list[dict[str, Any]]:
    """Every step with its time, in the order of time."""
    steps: list[tuple[int, str, Mapping[str, Any]]] = [(job.created_at, "accepted", {})]
    if job.staged_at is not None and job.staged_at != job.created_at:
        steps.append((job.staged_at, "staged", {}))
    for submission in await submissions.of_job(reader, job.row):
        facts = {"submission": submission.number, "vendor_task_id": submission.task}
        steps.append((submission.sent_at, "submitted", facts))
    steps += [
        (heard.received_at, "callback", {"via": heard.via, "state": heard.state})
        for heard in await callbacks.heard(reader, job.row)
    ]
    steps += [
        (result.kept.at, "fetched", {"output": result.name, "bytes": result.kept.file.bytes})
        for result in await results.of_job(reader, job.row)
        if result.kept is not None
    ]
    for event in await events.of_job(reader, job.row):
        steps += await _event_steps(reader, event)
    return [{"at": when(at), "step": step, **facts} for at, step, facts in sorted(steps, key=lambda entry: entry[0])]


async def _event_steps(reader: Reader, event: Event) -> list[tuple[int, str, Mapping[str, Any]]]:
    steps: list[tuple[int, str, Mapping[str, Any]]] = [
        (event.created_at, "event", {"event": event.id, "type": event.type, "sequence": event.sequence})
    ]
    for delivery in await deliveries.of_event(reader, event.row):
        facts = {"delivery": delivery.id, "endpoint": delivery.endpoint, "event": event.id}
        for past in await deliveries.attempts(reader, delivery.row):
            made = past.attempt
            told = {**facts, "attempt": past.number, "outcome": made.outcome, "status": made.status}
            steps.append((made.started_at, "delivery", told))
    return steps
