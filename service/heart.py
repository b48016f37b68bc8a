"""The node's heart: it beats, takes over from nodes whose heart has stopped, and sweeps stray files now and then."""

import asyncio
from collections.abc import Sequence

import structlog

from service.pipeline.core import Core
from service.pipeline.retry import HOUR
from service.store import assets, nodes
from service.store.database import StoreUnavailable

log = structlog.get_logger()

HEARTBEAT_SECONDS = 1.0
DEAD_AFTER_MS = 4_000
SWEEP_SECONDS = 3600.0
# Longer than any upload pauses and any result waits between its file and its row.
STRAY_AFTER_MS = HOUR


class Heart:
    """`lost` is set when others have declared this node dead: its rows are theirs now, and it must stop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.lost = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._sweep())]

    @property
    def alive(self) -> bool:
        return not any(task.done() for task in self._tasks)

    async def stop(self, grace: float) -> None:  # noqa: ARG002 - nothing here needs time to finish
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self) -> None:
        core = self._core
        while True:
            await core.clock.sleep(HEARTBEAT_SECONDS)
            now = core.clock.now()
            try:
                if not await core.db.write(nodes.beat, core.node, now):
                    log.error("node.declared_dead", node=core.node)
                    self.lost.set()
                    return
                await core.db.write(nodes.take_over, core.node, now, silent_since=now - DEAD_AFTER_MS)
            except StoreUnavailable as error:
                log.warning("node.no_heartbeat", error=str(error))
            except Exception:
                log.exception("node.heart_fault")

    async def _sweep(self) -> None:
        core = self._core
        while True:
            try:
                await self._sweep_once()
            except (OSError, StoreUnavailable) as error:
                log.warning("assets.not_swept", error=str(error))
            await core.clock.sleep(SWEEP_SECONDS)

    async def _sweep_once(self) -> None:
        core = self._core
        if await core.files.claim(core.installation) != core.installation:
            # All of another's pictures are strays to us.
            log.error("assets.not_ours", says="ASSETS_URL is another installation's: nothing there is swept")
            return
        swept = await core.files.sweep(self._known, STRAY_AFTER_MS, core.clock.now())
        if swept:
            log.info("assets.swept", files=swept)

    async def _known(self, hashes: Sequence[str]) -> set[str]:
        return await self._core.db.read(assets.known, hashes, self._core.clock.now())
