"""First step: a request becomes a queued job. Uploads are already on disk; the 202 comes after the commit."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from schemas import ids
from schemas.asset import Asset, ImageInfo, StoredFile
from schemas.catalogue import InputSpec, Operation, params_errors
from schemas.endpoint import Terms
from schemas.event import EventType
from schemas.job import Input, Job, JobInput, JobRequest
from schemas.problem import FieldError, Problem, invalid
from service.pipeline import announce
from service.pipeline.core import Announced, Core
from service.pipeline.retry import HOUR
from service.store import assets, endpoints, jobs, projects, results
from service.store.database import Reader, Tx
from service.vendors import Vendors

log = structlog.get_logger()

IDEMPOTENCY_MS = 24 * HOUR
DEFAULT_OUTPUT = "image"
DEFAULT_WEBHOOK_EVENTS = ("job.succeeded", "job.failed", "job.canceled")
_WEBHOOK_MAX_IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Upload:
    """A file part of the request, named as the input; durable already."""

    stored: StoredFile
    image: ImageInfo
    filename: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    job: Job
    repeated: bool  # the same Idempotency-Key with the same request
    told: Mapping[str, Any] | None = None  # a new job as its first event tells it


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The user's key, and what was asked for with it."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """An input as accept has checked it: an asset of ours, a link to hand on, or a URL still to be staged."""

    name: str
    source: Mapping[str, object]
    asset: Asset | None = None
    upload: Upload | None = None
    link: str | None = None

    @property
    def needs_staging(self) -> bool:
        return self.asset is None and self.upload is None and self.link is None


# Finds the pictures of a request: what each input is, and every faulty field.
Resolve = Callable[[Reader, Operation, int], Awaitable[tuple[list[Resolved], list[FieldError]]]]


def input_errors(spec: InputSpec, image: ImageInfo, size: int, field: str) -> list[FieldError]:
    """Every documented limit that a picture breaks. Sides and pixels are those of the stored raster."""
    longest, shortest = max(image.width, image.height), min(image.width, image.height)
    pixels = image.width * image.height
    checks: list[tuple[bool, str]] = [
        (
            image.content_type not in spec.content_types,
            f"is {image.content_type}; taken are {', '.join(spec.content_types)}",
        ),
        (spec.max_bytes is not None and size > spec.max_bytes, f"has {size} bytes; at most {spec.max_bytes}"),
        (
            spec.max_pixels is not None and pixels > spec.max_pixels,
            f"has {pixels} pixels ({image.width}×{image.height}); at most {spec.max_pixels}",
        ),
        (
            spec.max_side is not None and longest > spec.max_side,
            f"is {image.width}×{image.height}; at most {spec.max_side} a side",
        ),
        (
            spec.min_side is not None and shortest < spec.min_side,
            f"is {image.width}×{image.height}; at least {spec.min_side} a side",
        ),
    ]
    return [FieldError(field, reason) for broken, reason in checks if broken]


class Accept:
    def __init__(self, core: Core, vendors: Vendors) -> None:
        self._core = core
        self._vendors = vendors
        self._being_taken_in: set[tuple[int, str]] = set()

    async def accept(
        self,
        project: int,
        request: JobRequest,
        uploads: Mapping[str, Upload],
        key: str | None,
        found: Sequence[FieldError] = (),
    ) -> Accepted:
        """Raises Problem: 422 with every faulty field, or 409 for a key that was used for something else.

        `found`: faults that the caller knows of already, so that all are told at once.
        """
        if found:
            raise invalid([*found, *await self._errors(project, request, uploads, {error.field for error in found})])
        once = None if key is None else IdempotencyKey(key, fingerprint(request, uploads))
        return await self.once(project, request, partial(_resolve, project, request, uploads), once)

    async def once(
        self,
        project: int,
        request: JobRequest,
        resolve: Resolve,
        key: IdempotencyKey | None,
        retry_of: str | None = None,
    ) -> Accepted:
        """Take in a request whose pictures `resolve` finds, and only once for one key. Raises Problem."""
        if key is None:
            return await self._take_in(project, request, resolve, None, retry_of)
        if (project, key.key) in self._being_taken_in:
            detail = "The first request with this Idempotency-Key is still being taken in."
            raise Problem(409, "idempotency_in_progress", detail, headers={"Retry-After": "1"})
        self._being_taken_in.add((project, key.key))
        try:
            return await self._take_in(project, request, resolve, key, retry_of)
        finally:
            self._being_taken_in.discard((project, key.key))

    async def _take_in(
        self, project: int, request: JobRequest, resolve: Resolve, key: IdempotencyKey | None, retry_of: str | None
    ) -> Accepted:
        if key is not None:
            before = await self._core.db.read(_repeated, project, key, self._since())
            if before is not None:
                return Accepted(before, repeated=True)
        operation = self._operation(request.operation)
        resolved, errors = await self._core.db.read(resolve, operation, self._core.clock.now())
        errors += params_errors(operation, request.params)
        if errors:
            raise invalid(errors)
        job, announced = await self._core.db.write(
            _add, self._core, project, operation, request, resolved, key, retry_of
        )
        if announced is not None:
            self._core.tell(announced)
        log.info("job.accepted", job=job.id, operation=job.operation, retry_of=retry_of)
        self._core.wake(jobs.Step.SUBMIT if job.staged_at is not None else jobs.Step.STAGE, job.vendor)
        if announced is None:
            return Accepted(job, repeated=True)
        return Accepted(job, repeated=False, told=json.loads(announced.event.payload)["data"])

    def errors_of(self, value: object) -> Sequence[FieldError]:
        """What can be told of a body that is no JobRequest, beside why it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("operation"), str):
            return []
        params = value.get("params", {})
        try:
            operation = self._operation(value["operation"])
        except Problem as problem:
            return problem.errors
        return params_errors(operation, params) if isinstance(params, dict) else []

    async def _errors(
        self, project: int, request: JobRequest, uploads: Mapping[str, Upload], known: set[str]
    ) -> Sequence[FieldError]:
        try:
            operation = self._operation(request.operation)
        except Problem as problem:
            return problem.errors
        resolve = partial(_resolve, project, request, uploads)
        _, errors = await self._core.db.read(resolve, operation, self._core.clock.now())
        errors += params_errors(operation, request.params)
        return [error for error in errors if error.field not in known]

    def _operation(self, name: str) -> Operation:
        operation = self._vendors.operation(name)
        if operation is None:
            raise invalid([FieldError("operation", f"unknown; GET /v1/operations lists what there is, not {name}")])
        if operation.declared:
            reason = "the vendor is known to have it, but its document does not say how it is called"
            raise invalid([FieldError("operation", reason)])
        if self._vendors.get(operation.vendor) is None:
            reason = f"the vendor {operation.vendor} is not configured here: its credentials are not set"
            raise invalid([FieldError("operation", reason)])
        return operation

    def _since(self) -> int:
        return self._core.clock.now() - IDEMPOTENCY_MS


def fingerprint(request: JobRequest, uploads: Mapping[str, Upload]) -> str:
    """What "the same request" means: the canonical job and the content of each file."""
    canonical = {
        "job": request.model_dump(mode="json", by_alias=True),
        "files": {name: upload.stored.sha256 for name, upload in uploads.items()},
    }
    return digest_of(canonical)


def digest_of(canonical: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


async def _repeated(reader: Reader, project: int, key: IdempotencyKey, since: int) -> Job | None:
    remembered = await jobs.remembered_key(reader, project, key.key, since)
    if remembered is None:
        return None
    if remembered.fingerprint != key.fingerprint:
        raise Problem(409, "idempotency_conflict", "This Idempotency-Key was used for another request.")
    return await jobs.by_row(reader, remembered.job)


async def _resolve(
    project: int,
    request: JobRequest,
    uploads: Mapping[str, Upload],
    reader: Reader,
    operation: Operation,
    now: int,
) -> tuple[list[Resolved], list[FieldError]]:
    resolved: list[Resolved] = []
    errors = unknown_inputs(operation, {*request.inputs, *uploads})
    for spec in operation.inputs:
        field = f"inputs.{spec.name}"
        given, upload = request.inputs.get(spec.name), uploads.get(spec.name)
        if given is not None and upload is not None:
            errors.append(FieldError(field, "is given twice: as a file part and in the job"))
        elif upload is not None:
            errors += input_errors(spec, upload.image, upload.stored.bytes, field)
            resolved.append(Resolved(spec.name, {"upload": upload.filename}, upload=upload))
        elif given is not None:
            entry, found = await resolve_one(reader, project, spec, given, field, now)
            errors += found
            if entry is not None:
                resolved.append(entry)
        elif spec.required:
            errors.append(FieldError(field, "is required: a url, an asset, a job or a file part"))
    return resolved, errors


def unknown_inputs(operation: Operation, named: Collection[str]) -> list[FieldError]:
    known = ", ".join(spec.name for spec in operation.inputs) or "no inputs"
    return [
        FieldError(f"inputs.{name}", f"unknown; {operation.id} takes {known}")
        for name in sorted(named)
        if operation.input(name) is None
    ]


async def resolve_one(
    reader: Reader, project: int, spec: InputSpec, given: JobInput, field: str, now: int
) -> tuple[Resolved | None, list[FieldError]]:
    """What one input that the user named is, or what is wrong with it."""
    source = given.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
    if given.url is not None:
        if given.pass_on and not spec.takes_link:
            return None, [FieldError(f"{field}.pass", "this vendor takes no links")]
        return Resolved(spec.name, source, link=given.url if given.pass_on else None), []
    if given.asset is not None:
        asset = await assets.get(reader, project, given.asset)
        where, missing = f"{field}.asset", "there is no such asset"
    else:
        assert given.job is not None, "one source is given"
        where = f"{field}.job"
        asset, missing = await _result_of(reader, project, given.job, given.output or DEFAULT_OUTPUT)
    if asset is None or asset.expires_at <= now:
        return None, [FieldError(where, missing if asset is None else "has expired")]
    return held(spec, source, asset, where)


def held(spec: InputSpec, source: Mapping[str, object], asset: Asset, field: str) -> tuple[Resolved, list[FieldError]]:
    """An input that is an asset of ours, and which of the operation's limits it breaks."""
    image = ImageInfo(asset.content_type, asset.width, asset.height)
    return Resolved(spec.name, source, asset=asset), input_errors(spec, image, asset.bytes, field)


async def _result_of(reader: Reader, project: int, job_id: str, output: str) -> tuple[Asset | None, str]:
    job = await jobs.get(reader, project, job_id)
    if job is None:
        return None, "there is no such job"
    found = dict(await results.assets(reader, job.row))
    if not found:
        return None, f"that job has no results: it is {job.state}"
    return found.get(output), f"that job has no output {output}; it has {', '.join(found)}"


async def _add(
    tx: Tx,
    core: Core,
    project: int,
    operation: Operation,
    request: JobRequest,
    resolved: Sequence[Resolved],
    key: IdempotencyKey | None,
    retry_of: str | None,
) -> tuple[Job, Announced | None]:
    """The job, its inputs, its key, its event: together or not at all."""
    now = core.clock.now()
    if key is not None:
        # Another node may have taken the same key in since we looked.
        before = await _repeated(tx, project, key, now - IDEMPOTENCY_MS)
        if before is not None:
            return before, None
    job = await jobs.add(
        tx,
        public_id=ids.new_id("job", now),
        project=project,
        vendor=operation.vendor,
        request=request,
        inputs=[await _input(tx, core, project, entry, now) for entry in resolved],
        needs_staging=any(entry.needs_staging for entry in resolved),
        now=now,
        retry_of=retry_of,
    )
    if key is not None:
        await jobs.remember_key(tx, project, key.key, key.fingerprint, job.row, now, now - IDEMPOTENCY_MS)
    if request.webhook is not None:
        await _add_webhook(tx, core, job, request.webhook, now)
    return job, await announce.job_event(tx, core, job, EventType.JOB_QUEUED, now)


async def _input(tx: Tx, core: Core, project: int, entry: Resolved, now: int) -> Input:
    if entry.upload is None:
        return Input(entry.name, dict(entry.source), entry.asset.row if entry.asset else None, entry.link)
    asset = await assets.add(
        tx, project, entry.upload.stored, entry.upload.image, now, core.asset_retention_ms, entry.upload.filename
    )
    return Input(entry.name, {"asset": asset.id}, asset.row, None)


async def _add_webhook(tx: Tx, core: Core, job: Job, url: str, now: int) -> None:
    """The job's own webhook: an endpoint for this job only, signed with the project's secret."""
    public_id = ids.new_id("ep", now)
    owner, sealed = await projects.sealed_webhook_secret(tx, job.project)
    secret = core.vault.open(owner, sealed)
    terms = Terms(
        url=url,
        sealed_headers=core.vault.seal(public_id, "{}"),
        events=tuple(job.request.webhook_events or DEFAULT_WEBHOOK_EVENTS),
        description=f"webhook of {job.id}",
        max_in_flight=_WEBHOOK_MAX_IN_FLIGHT,
    )
    sealed_secret = core.vault.seal(public_id, secret)
    await endpoints.add(tx, job.project, public_id, "webhook", terms, sealed_secret, now, job.row)
