"""The node's heart: it beats, and takes over from nodes whose heart has stopped."""

import asyncio

import structlog

from service.pipeline.core import Core
from service.store import nodes
from service.store.database import StoreUnavailable

log = structlog.get_logger()

HEARTBEAT_SECONDS = 1.0
DEAD_AFTER_MS = 4_000


class Heart:
    """`lost` is set when others have declared this node dead: its rows are theirs now, and it must stop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat(), name="heart")

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def stop(self, grace: float) -> None:  # noqa: ARG002 - nothing here needs time to finish
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

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
                if await core.db.write(nodes.take_over, core.node, now, silent_since=now - DEAD_AFTER_MS):
                    core.wake_deliveries()
                core.nodes = max(1, await core.db.read(nodes.living))
            except StoreUnavailable as error:
                log.warning("node.no_heartbeat", error=str(error))
            except Exception:
                log.exception("node.heart_fault")
