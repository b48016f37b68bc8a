"""Which streams have their clients: the store is told while they have, and an endpoint without one goes away.

`seen_at` is in the store, so a client that stays away is noticed whoever was killed meanwhile.
"""

import asyncio

import structlog

from service.pipeline.core import Core
from service.pipeline.streams import Streams
from service.store import deliveries, endpoints, projects
from service.store.database import StoreUnavailable, Tx

log = structlog.get_logger()

GRACE_MS = 60_000
SEEN_SECONDS = 15.0
# A client that has taken nothing for so long is cut off.
STUCK_MS = 30_000
GONE_AT_ONCE = 100


class Presence:
    def __init__(self, core: Core, streams: Streams) -> None:
        self._core = core
        self._streams = streams
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="presence")

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def stop(self, grace: float) -> None:  # noqa: ARG002 - nothing here needs time to finish
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        core = self._core
        began = core.clock.monotonic()
        while True:
            await core.clock.sleep(SEEN_SECONDS)
            now = core.clock.now()
            try:
                connected = self._streams.connected
                for outlet in connected.values():
                    outlet.drop_if_stuck(now, STUCK_MS)
                if connected:
                    await core.db.write(endpoints.seen, sorted(connected), now)
                # While nobody could connect no time of grace has passed.
                if core.clock.monotonic() - began >= GRACE_MS:
                    await self._end_unseen(now)
            except StoreUnavailable as error:
                log.warning("presence.store_unavailable", error=str(error))
            except Exception:
                log.exception("presence.fault")

    async def _end_unseen(self, now: int) -> None:
        before = now - GRACE_MS
        for endpoint, project in await self._core.db.read(endpoints.unseen, before, GONE_AT_ONCE):
            if await self._core.db.write(_go_away, endpoint, project, before, now):
                log.info("endpoint.went_away", endpoint_row=endpoint)


async def _go_away(tx: Tx, endpoint: int, project: int, before: int, now: int) -> bool:
    """As if it were deleted: what it was owed says so in the ledger."""
    await projects.lock(tx, project)
    if not await endpoints.delete_unseen(tx, endpoint, before, now):
        return False
    await deliveries.discard(tx, endpoint, now)
    return True
