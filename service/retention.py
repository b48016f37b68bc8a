"""Long life: what goes away when, in steps too small to be felt.

| what | goes (with D for EVENT_RETENTION_DAYS) |
|---|---|
| a held delivery | not yet: after D of being held it ends as `expired` |
| an event, its deliveries, their attempts | D after the last of them ended, and after all earlier ones of its project |
| a job and what hangs on it, its own webhook too | ended, with the last of its events and of its Idempotency-Keys |
| an Idempotency-Key | after 24 hours |
| an asset's row | an hour after its expiry, once no job that is kept names it |
| bytes | in an hour or two, once no living asset, no job that has not ended and no fetch needs them |
| a line without its head, by a fault of ours | at once: its first is due |
| a replay | D after it has ended, once no delivery names it |
| a deleted endpoint | D after it was deleted, once no delivery and no replay names it |
| an endpoint's secret from before a rotation | at the end of their overlap |
| a project's signing key from before a rotation | its private half at the end of its overlap, the public one D later |
| a node that has ended | D after its end |
| a counted request to a vendor | with a later one; where none comes, after a day and the longest window |

So a log is only ever cut off at its front: a reader whose cursor lies before its beginning has missed something, and is
told. What is owed is never cut off, whatever its age, and what is owed holds up what came after it. Numbers of events
never come again: the counter stays.

No step changes more than some hundreds of rows, each is followed by a rest as long as itself, and each question is
answered by an index. On SQLite the pages of deleted rows are used again, so the file stays as large as it was at its
fullest: to give them back would be to move others, while users wait. PostgreSQL has its autovacuum.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Concatenate, ParamSpec

import structlog

from service.pipeline.accept import IDEMPOTENCY_MS
from service.pipeline.core import Core
from service.pipeline.retry import HOUR
from service.store import (
    assets,
    deliveries,
    endpoints,
    events,
    jobs,
    lines,
    nodes,
    replays,
    signing_keys,
    vendor_requests,
)
from service.store.database import StoreUnavailable, Tx

log = structlog.get_logger()

P = ParamSpec("P")

PASS_SECONDS = 300.0
SWEEP_MS = HOUR
# Longer than any upload pauses and any result waits between its file and its row.
STRAY_AFTER_MS = HOUR
# Whoever had looked at a row before it went has let go of it by then: SQLite may give its number to another.
LEAST_AGE_MS = HOUR
REQUESTS_MS = 24 * HOUR
# Rows looked at, or changed, in one step.
PAGE = 200
ROWS_PER_STEP = 300
# A job has some, and goes with its last event.
ROWS_OF_AN_EVENT = 5
# Each may have a dozen attempts.
DELIVERIES_PER_STEP = 50
SHORTEST_REST_SECONDS = 0.005
# A step that waited for minutes for a store that was away is no reason to rest for minutes.
LONGEST_REST_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class Retention:
    """`events_ms`: EVENT_RETENTION_DAYS. `windows_ms`: the longest rate window of any vendor."""

    def __init__(self, core: Core, events_ms: int, windows_ms: int = 0) -> None:
        self._core = core
        self._events_ms = max(events_ms, LEAST_AGE_MS)
        self._requests_ms = max(windows_ms, REQUESTS_MS)
        self._swept_at: int | None = None
        # Assets up to this one were looked at when they expired; those that a job names go with the job.
        self._assets_seen = (0, 0)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="retention")

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def stop(self, grace: float) -> None:  # noqa: ARG002 - a step that was handed in is finished by the store
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = 1.0
        while True:
            try:
                await self._pass()
            except (StoreUnavailable, OSError) as error:
                log.warning("retention.interrupted", error=str(error))
                await self._core.clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                pause = 1.0
                await self._core.clock.sleep(PASS_SECONDS)

    async def _pass(self) -> None:
        chores: dict[str, Callable[[int], Awaitable[int]]] = {
            "expired": self._expire_held,
            "lines": self._mend_lines,
            "events": self._trim_logs,
            "keys": self._forget_keys,
            "assets": self._forget_assets,
            "replays": self._forget_replays,
            "endpoints": self._forget_endpoints,
            "old_secrets": self._drop_old_secrets,
            "signing_keys": self._forget_signing_keys,
            "nodes": self._forget_nodes,
            "requests": self._forget_requests,
            "files": self._sweep,
        }
        done: dict[str, int] = {}
        for name, chore in chores.items():
            try:
                done[name] = await chore(self._core.clock.now())
            except (StoreUnavailable, OSError):
                raise
            except Exception:
                # A fault of ours in one must not keep the others from their work.
                log.exception("retention.fault", chore=name)
        if any(done.values()):
            log.info("retention.passed", **{name: count for name, count in done.items() if count})

    async def _expire_held(self, now: int) -> int:
        return await self._while_full(ROWS_PER_STEP, deliveries.expire, now - self._events_ms, now, ROWS_PER_STEP)

    async def _mend_lines(self, now: int) -> int:
        """Nothing is ever amiss; were it so, deliveries would wait for ever."""
        count = 0
        endpoint = await self._core.db.read(lines.next_line, 0)
        while endpoint is not None:
            count += await self._step(lines.mend, endpoint, now)
            endpoint = await self._core.db.read(lines.next_line, endpoint)
        if count:
            log.error("retention.lines_mended", lines=count)
            self._core.wake_deliveries()
        return count

    async def _trim_logs(self, now: int) -> int:
        before, project, count = now - self._events_ms, 0, 0
        while page := await self._core.db.read(events.old_logs, before, project, PAGE):
            for project in page:
                try:
                    count += await self._trim_log(project, before, now)
                except (StoreUnavailable, OSError):
                    raise
                except Exception:
                    log.exception("retention.log_fault", project_row=project)
        return count

    async def _trim_log(self, project: int, before: int, now: int) -> int:
        count = 0
        while front := await self._core.db.read(events.front, project, before, PAGE):
            for batch in _batches(front):
                if batch[0].weight > ROWS_PER_STEP:
                    # Owed to very many: its ledger goes piece by piece. All of it has ended long ago.
                    limit = DELIVERIES_PER_STEP
                    await self._while_full(limit, deliveries.trim, batch[0].row, before, limit)
                removed = await self._step(_trim, batch, before, now)
                count += removed
                if removed < len(batch):
                    # Somebody is owed one of them again, or it is the newest of all: the next pass will see.
                    return count
        return count

    async def _forget_keys(self, now: int) -> int:
        since, count = now - IDEMPOTENCY_MS, 0
        while page := await self._core.db.read(jobs.old_keys, since, PAGE):
            await self._step(_forget_keys, page, since, now - self._events_ms, now)
            count += len(page)
        return count

    async def _forget_assets(self, now: int) -> int:
        before, count = now - LEAST_AGE_MS, 0
        while page := await self._core.db.read(assets.expired, before, self._assets_seen, PAGE):
            count += await self._step(_forget_assets, [row for _, row in page], before)
            self._assets_seen = page[-1]
        return count

    async def _forget_replays(self, now: int) -> int:
        return await self._while_full(PAGE, replays.forget, now - self._events_ms, PAGE)

    async def _forget_endpoints(self, now: int) -> int:
        return await self._while_full(PAGE, endpoints.forget, now - self._events_ms, PAGE)

    async def _drop_old_secrets(self, now: int) -> int:
        return await self._while_full(PAGE, endpoints.drop_old_secrets, now, PAGE)

    async def _forget_signing_keys(self, now: int) -> int:
        return await self._while_full(PAGE, signing_keys.forget, now, now - self._events_ms, PAGE)

    async def _forget_nodes(self, now: int) -> int:
        return await self._while_full(PAGE, nodes.forget, self._core.node, now - self._events_ms, PAGE)

    async def _forget_requests(self, now: int) -> int:
        return await self._while_full(PAGE, vendor_requests.forget, now - self._requests_ms, PAGE)

    async def _sweep(self, now: int) -> int:
        if self._swept_at is not None and now < self._swept_at + SWEEP_MS:
            return 0
        self._swept_at = now
        core = self._core
        if await core.files.claim(core.installation) != core.installation:
            # All of another's pictures are strays to us.
            log.error("assets.not_ours", says="ASSETS_URL is another installation's: nothing there is swept")
            return 0
        swept = await core.files.sweep(self._known, STRAY_AFTER_MS, now)
        if swept:
            log.info("assets.swept", files=swept)
        return swept

    async def _known(self, hashes: Sequence[str]) -> set[str]:
        began = self._core.clock.monotonic()
        known = await self._core.db.read(assets.known, hashes, self._core.clock.now())
        await self._rest(began)
        return known

    async def _while_full(
        self, limit: int, unit: Callable[Concatenate[Tx, P], Awaitable[int]], *args: P.args, **kwargs: P.kwargs
    ) -> int:
        """Again and again, as long as a step finds as much as it may take."""
        count = 0
        while (done := await self._step(unit, *args, **kwargs)) >= limit:
            count += done
        return count + done

    async def _step(self, unit: Callable[Concatenate[Tx, P], Awaitable[int]], *args: P.args, **kwargs: P.kwargs) -> int:
        began = self._core.clock.monotonic()
        done = await self._core.db.write(unit, *args, **kwargs)
        if done:
            # What found nothing was one look into an index.
            await self._rest(began)
        return done

    async def _rest(self, began: int) -> None:
        """As long as the step took: half of the time is everybody else's, and more of it the more they have to do."""
        took = (self._core.clock.monotonic() - began) / 1000
        await self._core.clock.sleep(min(max(took, SHORTEST_REST_SECONDS), LONGEST_REST_SECONDS))


def _batches(front: Sequence[events.Old]) -> Iterator[Sequence[events.Old]]:
    """As many events a step as their rows allow; one at least."""
    batch: list[events.Old] = []
    rows = 0
    for old in front:
        if batch and rows + old.weight + ROWS_OF_AN_EVENT > ROWS_PER_STEP:
            yield batch
            batch, rows = [], 0
        batch.append(old)
        rows += old.weight + ROWS_OF_AN_EVENT
    if batch:
        yield batch


async def _trim(tx: Tx, front: Sequence[events.Old], before: int, now: int) -> int:
    """Cut events off a log, in its order, and with the last of a job's events the job; how many events went."""
    for count, old in enumerate(front):
        await events.lock(tx, old.row)
        await deliveries.trim(tx, old.row, before, ROWS_PER_STEP)
        if not await events.remove(tx, old.row, before):
            return count
        if old.job is not None:
            await _remove_job(tx, old.job, before, now)
    return len(front)


async def _remove_job(tx: Tx, job: int, before: int, now: int) -> None:
    for asset in await jobs.remove(tx, job, before) or ():
        await assets.forget(tx, asset, now - LEAST_AGE_MS)


async def _forget_keys(tx: Tx, keys: Sequence[tuple[int, str, int]], since: int, before: int, now: int) -> int:
    for project, key, job in keys:
        await jobs.forget_key(tx, project, key, since)
        # Its events may have gone before its key.
        await _remove_job(tx, job, before, now)
    return len(keys)


async def _forget_assets(tx: Tx, rows: Sequence[int], before: int) -> int:
    return sum([await assets.forget(tx, row, before) for row in rows])
