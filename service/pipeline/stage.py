"""Second step: the user named a URL, and such links die, so the picture is fetched at once and kept as our asset."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from handlers.http import Http, TransportError
from schemas.asset import ImageInfo, StoredFile
from schemas.catalogue import InputSpec, Operation
from schemas.job import ErrorClass, Failure, Input, Job
from service import images
from service.pipeline import announce, retry
from service.pipeline.accept import input_errors
from service.pipeline.core import Core
from service.store import assets, jobs
from service.store.database import Tx
from service.store.incoming import TooLarge
from service.vendors import Contracted

log = structlog.get_logger()

REDIRECTS = 3
TRIES = 4
# A server that hiccups is asked again; what it said no to, or an address we may not ask, is final.
_WORTH_ANOTHER_TRY = frozenset({"dns", "connect", "tls", "timeout", "broken"})
_TRY_AGAIN_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Sources:
    """How source URLs are fetched: a client that judges every address, a cap, and seconds for the whole answer."""

    http: Http
    max_bytes: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Staged:
    name: str
    file: StoredFile
    image: ImageInfo


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A source URL that can't be had; `again` where another try can help."""

    field: str
    code: str
    message: str
    again: bool = False


class Stage:
    def __init__(self, core: Core, sources: Sources) -> None:
        self._core = core
        self._sources = sources

    async def run(self, job: Job, contracted: Contracted) -> None:
        operation = contracted.operation_of(job)
        await self._core.db.write(_start, job, self._core.node)
        inputs = await self._core.db.read(jobs.inputs_of, job.row)
        waiting = [entry for entry in inputs if entry.asset is None and entry.link is None]
        fetched = await asyncio.gather(*(self._fetch(entry, operation) for entry in waiting))
        refused = [outcome for outcome in fetched if isinstance(outcome, Unavailable)]
        if refused:
            await self._refused(job, refused)
            return
        staged = [outcome for outcome in fetched if isinstance(outcome, Staged)]
        await self._core.db.write(_staged, self._core, job, staged)
        self._core.wake(jobs.Step.SUBMIT, job.vendor)

    async def _fetch(self, entry: Input, operation: Operation) -> Staged | Unavailable:
        spec = operation.input(entry.name)
        assert spec is not None  # accept has checked the names
        field = f"inputs.{entry.name}.url"
        try:
            return await self._download(entry, spec, field)
        except TransportError as error:
            again = error.kind in _WORTH_ANOTHER_TRY
            return Unavailable(field, error.kind, str(error), again)
        except TooLarge:
            return Unavailable(field, "too_large", f"more than {self._sources.max_bytes} bytes")
        except images.NotAnImage as error:
            return Unavailable(field, error.code, error.reason)

    async def _download(self, entry: Input, spec: InputSpec, field: str) -> Staged | Unavailable:
        sources, url = self._sources, entry.source["url"]
        opening = sources.http.stream(
            "GET", url, deadline=sources.deadline, max_bytes=sources.max_bytes, redirects=REDIRECTS
        )
        async with self._core.files.incoming(sources.max_bytes) as incoming:
            async with opening as answer:
                if answer.status != 200:
                    again = answer.status in _TRY_AGAIN_STATUS
                    return Unavailable(field, f"http_{answer.status}", f"the server answered {answer.status}", again)
                async for chunk in answer.chunks():
                    await incoming.write(chunk)
            await incoming.flush()
            image = await images.inspect(incoming.path)
            errors = input_errors(spec, image, incoming.bytes, field)
            if errors:
                return Unavailable(field, "unfit", "; ".join(error.reason for error in errors))
            # The user's server need not be asked twice because a bucket is away.
            return Staged(entry.name, await self._core.patiently(incoming.keep), image)

    async def _refused(self, job: Job, refused: Sequence[Unavailable]) -> None:
        now = self._core.clock.now()
        if all(error.again for error in refused) and job.tries + 1 < TRIES:
            due_at = now + retry.backoff(job.tries)
            await self._core.db.write(_later, job, self._core.node, due_at)
            self._core.wake(jobs.Step.STAGE, job.vendor)
            return
        message = "; ".join(f"{error.field}: {error.message}" for error in refused)
        failure = Failure(ErrorClass.INPUT, refused[0].code, message, retryable=refused[0].again)
        await self._core.commit(announce.fail_job, self._core, job.row, failure, None, now, held=True)
        log.info("job.failed", job=job.id, error_class=failure.error_class, code=failure.code)


async def _start(tx: Tx, job: Job, node: int) -> None:
    # False after a restart in the middle: the job is `staging` already.
    await jobs.start_staging(tx, job.row, node)


async def _later(tx: Tx, job: Job, node: int, due_at: int) -> None:
    await jobs.hand_on(tx, job.row, node, jobs.Step.STAGE, due_at, job.tries + 1)


async def _staged(tx: Tx, core: Core, job: Job, staged: Sequence[Staged]) -> bool:
    now = core.clock.now()
    if not await jobs.staged(tx, job.row, core.node, now):
        return False
    for entry in staged:
        asset = await assets.add(tx, job.project, entry.file, entry.image, now, core.asset_retention_ms)
        await jobs.staged_input(tx, job.row, entry.name, asset.row)
    return True
