"""Jobs: submit, list, look, cancel, try again, and the timeline of one."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from schemas.delivery import DeliveryState
from schemas.event import Event
from schemas.job import Job, JobRequest, JobState
from schemas.problem import FieldError, Problem, invalid, not_found
from service import images
from service.pipeline import again, shown
from service.pipeline import cancel as pipeline_cancel
from service.pipeline.accept import Accepted, Upload
from service.pipeline.core import job_topic
from service.pipeline.shown import when
from service.security.links import AssetLinks
from service.store import callbacks, deliveries, events, jobs, results, submissions
from service.store.database import Reader
from service.store.keys import Principal
from service.web.forms import clean_name, keep, part_chunks, read_form
from service.web.lists import Begin, Entry, listed
from service.web.query import Query
from service.web.site import (
    MAX_JSON_BYTES,
    Answer,
    Site,
    must_be_public,
    parse_json,
    read_json,
    site_of,
    too_large,
    validated,
)
from service.web.waiting import LONGEST_SECONDS

_WAIT = re.compile(r"(?:^|[,;]\s*)wait=(\d+)\s*(?:$|[,;])")
# Ends that no attempt tells of.
_ENDED_UNTRIED = frozenset({DeliveryState.EXPIRED, DeliveryState.DISCARDED})
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
    return await _answer(request, site, accepted, wait)


async def retry(request: Request, who: Principal) -> Response:
    """A failed or canceled job once more, as a new job."""
    site = site_of(request)
    key, wait = _idempotency_key(request), _wait_of(request)
    job = await _find(request, who)
    found = [] if job.request.webhook is None else _webhook_errors(site, job.request.webhook)
    if found:
        raise invalid(found)
    return await _answer(request, site, await again.again(site.accept, job, key), wait)


async def _answer(request: Request, site: Site, accepted: Accepted, wait: int | None) -> Response:
    """202 with the job as it was taken in, or after `wait` seconds at most as it is then; 200 where it has ended."""
    job, headers = accepted.job, {"Location": f"/v1/jobs/{accepted.job.id}"}
    if wait is None and accepted.told is not None:
        return Answer(accepted.told, 202, headers)
    # A preference is no demand: where too many wait already, this one is answered at once.
    if wait is not None and site.waiting.refusal(job.project) is None:
        look = partial(site.core.db.read, jobs.by_row, job.row)
        job = await site.waiting.until(request, job.project, job_topic(job.row), wait, look, _has_ended)
        headers["Preference-Applied"] = f"wait={wait}"
    done = accepted.repeated or (wait is not None and job.state.terminal)
    body = await site.core.db.read(shown.job, job, site.core.links)
    return Answer(body, 200 if done else 202, headers)


def _has_ended(job: Job) -> bool:
    return job.state.terminal


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise invalid([FieldError("Idempotency-Key", "must be 1 to 255 printable ASCII characters without spaces")])
    return key


def _wait_of(request: Request) -> int | None:
    found = _WAIT.search(request.headers.get("prefer", ""))
    if found is None:
        return None
    if len(found[1]) > 9 or not 1 <= int(found[1]) <= LONGEST_SECONDS:
        raise invalid([FieldError("Prefer", f"wait must be from 1 to {LONGEST_SECONDS} seconds")])
    return int(found[1])


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
    query = Query(request)
    chosen = jobs.Filter(
        state=query.choice("state", list(JobState)),
        operation=query.text("operation"),
        vendor=query.text("vendor"),
        metadata=query.metadata(),
    )
    fetch = partial(_page, site_of(request).core.links, who.project, chosen)
    return await listed(request, who, "jobs", Begin.NEWEST, fetch, query)


async def _page(
    links: AssetLinks, project: int, chosen: jobs.Filter, reader: Reader, before: int, limit: int
) -> list[Entry]:
    found = await jobs.listed(reader, project, chosen, before, limit)
    return [Entry(job.row, await shown.job(reader, job, links)) for job in found]


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
    again_of = {} if job.retry_of is None else {"retry_of": job.retry_of}
    steps: list[tuple[int, str, Mapping[str, Any]]] = [(job.created_at, "accepted", again_of)]
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
        if delivery.finished_at is not None and delivery.state in _ENDED_UNTRIED:
            steps.append((delivery.finished_at, "delivery", {**facts, "state": delivery.state}))
    return steps
