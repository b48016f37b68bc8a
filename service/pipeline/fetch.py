"""Seventh step: the result's bytes become durable, and only then the job is finished.

Each output is kept (file fsynced, then its row) before the second unit: `fetching → succeeded`, the event with its
sequence number, its deliveries. After a crash an output that was kept is found by its hash and not paid for again.
"""

from collections.abc import Sequence

import structlog

from handlers.http import TransportError
from handlers.vendors.contract import MAX_RESULT_BYTES, VendorError
from schemas.asset import ImageInfo, StoredFile
from schemas.event import EventType
from schemas.job import Charged, ErrorClass, Failure, Job, Result
from service import images
from service.pacing.health import Call
from service.pipeline import announce, retry, trouble
from service.pipeline.core import Announced, Core
from service.store import assets, jobs, results
from service.store.database import Tx
from service.store.incoming import TooLarge
from service.vendors import Contracted

log = structlog.get_logger()

# A vendor that hands out broken pictures is asked this often; one that can't be reached until its link dies.
MOST_BROKEN = 5
PATIENCE_MS = 24 * retry.HOUR
# Well before a file that no row names is taken for a stray.
LOOK_AGAIN_MS = retry.HOUR // 2


class Fetch:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def run(self, job: Job, contracted: Contracted) -> None:
        waiting = await self._core.db.read(results.of_job, job.row)
        try:
            for result in waiting:
                if not await self._is_kept(result):
                    await self._keep(result, contracted)
        except VendorError as error:
            await self._not_yet(job, contracted, waiting, error)
            return
        finished = await self._core.commit(finish_job, self._core, job, self._core.clock.now())
        if finished:
            log.info("job.succeeded", job=job.id, vendor=job.vendor, outputs=len(waiting))

    async def _is_kept(self, result: Result) -> bool:
        return result.kept is not None and await self._core.files.exists(result.kept.file)

    async def _keep(self, result: Result, contracted: Contracted) -> None:
        file, image = await self._download(result, contracted)
        began = self._core.clock.now()
        await self._core.insist(results.keep, result.row, file, image, began)
        if self._core.clock.now() - began >= LOOK_AGAIN_MS and not await self._core.files.exists(file):
            # Nobody knew whose the bytes were while the store was away, so they were swept as strays.
            raise VendorError("the picture was lost while the store was away", ErrorClass.VENDOR, "swept")

    async def _download(self, result: Result, contracted: Contracted) -> tuple[StoredFile, ImageInfo]:
        """Raises VendorError; `permanent` where these bytes will never be had."""
        try:
            async with self._core.files.incoming(MAX_RESULT_BYTES) as incoming:
                async with (
                    trouble.heard(self._core, contracted, Call.FETCH),
                    contracted.vendor.fetch(contracted.account, result.source) as answer,
                ):
                    async for chunk in answer.chunks():
                        await incoming.write(chunk)
                await incoming.flush()
                image = await images.inspect(incoming.path)
                # In hand, and perhaps paid for with this very download: a bucket that is away is waited for.
                return await self._core.patiently(incoming.keep), image
        except TransportError as error:
            refused = error.kind in ("refused_address", "bad_url", "too_large")
            raise VendorError(str(error), ErrorClass.VENDOR, error.kind, permanent=refused) from error
        except TooLarge:
            raise VendorError("the result is too large", ErrorClass.VENDOR, "too_large", permanent=True) from None
        except images.NotAnImage as error:
            raise VendorError(f"the result is no picture: {error.reason}", ErrorClass.VENDOR, _BROKEN) from None
        except OSError as error:
            # A full disk is not the vendor's fault, but like a vendor that is away it may pass before the link dies.
            raise VendorError(f"the result can't be kept: {error.strerror}", ErrorClass.VENDOR, "disk") from error

    async def _not_yet(self, job: Job, contracted: Contracted, waiting: Sequence[Result], error: VendorError) -> None:
        now = self._core.clock.now()
        ends = [result.dies_at for result in waiting if result.dies_at is not None]
        until = min(ends, default=now + PATIENCE_MS if job.tries == 0 else (job.submitted_at or now) + PATIENCE_MS)
        broken = error.code == _BROKEN and job.tries + 1 >= MOST_BROKEN
        wait = max(retry.backoff(job.tries), round((error.retry_after or 0) * 1000))
        lasting = error.permanent and not isinstance(error, trouble.AccountError)
        if lasting or broken or now + wait >= until:
            # What is charged at the download may not have been; what was charged before stays so.
            charged = Charged.UNKNOWN if contracted.vendor.charges_at_download else None
            failure = Failure(ErrorClass.VENDOR, "result_unavailable", f"{error.code}: {error.message}", retryable=True)
            await self._core.commit(announce.fail_job, self._core, job.row, failure, charged, now, held=True)
            log.warning("job.failed", job=job.id, code="result_unavailable", cause=error.code)
            return
        await self._core.db.write(_later, job, self._core.node, now + wait)
        log.warning("job.fetch_later", job=job.id, code=error.code, due_at=now + wait)


_BROKEN = "not_a_picture"


async def _later(tx: Tx, job: Job, node: int, due_at: int) -> None:
    await jobs.hand_on(tx, job.row, node, jobs.Step.FETCH, due_at, job.tries + 1)


async def finish_job(tx: Tx, core: Core, job: Job, now: int) -> Announced | None:
    """The second unit; None where the job was canceled meanwhile or is no longer ours."""
    finished = await jobs.succeed(tx, job.row, core.node, now)
    if finished is None:
        return None
    for result in await results.of_job(tx, job.row):
        kept = result.kept
        assert kept is not None, "every output is kept before the job is finished"
        asset = await assets.add(tx, job.project, kept.file, kept.image, now, core.asset_retention_ms)
        await results.is_asset(tx, result.row, asset.row)
    return await announce.job_event(tx, core, finished, EventType.JOB_SUCCEEDED, now)
