"""Beside the eighth step: what the destinations of shops are handed, and no other needs.

A delivery to a shop is work of many calls. What it has done already is kept as steps, each durable before the next
call; pictures come from our own store; and who reads a gallery, changes it and writes it back has it for itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from schemas.asset import StoredFile
from schemas.endpoint import Target
from service.pipeline.core import Core
from service.store import assets, delivery_steps


class ClaimLost(Exception):
    """The delivery is no longer this node's to try: whoever has it goes on from the steps that are written down."""


class Turns:
    """One at a time for each key. In memory, which is enough: one service has a store at a time."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield


@dataclass(frozen=True, slots=True)
class StoredSteps:
    """What is already done of one delivery; see `handlers.destinations.contract.Steps`."""

    core: Core
    delivery: int
    kept: dict[str, str]

    def done(self, step: str) -> str | None:
        return self.kept.get(step)

    async def save(self, step: str, value: str) -> None:
        """Durable when it returns; while the store is away it waits. Raises ClaimLost."""
        core = self.core
        if not await core.insist(delivery_steps.save, self.delivery, core.node, step, value):
            raise ClaimLost
        self.kept[step] = value

    async def overtaken(self, place: str) -> bool:
        """Raises StoreUnavailable."""
        return await self.core.db.read(delivery_steps.overtaken, self.delivery, place)

    async def arrived(self, place: str) -> None:
        """As `save`."""
        core = self.core
        if not await core.insist(delivery_steps.arrived, self.delivery, core.node, place):
            raise ClaimLost


class StepsOf:
    """The steps of a delivery, for as long as it is tried."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._turn = Turns()

    @asynccontextmanager
    async def __call__(self, delivery: int) -> AsyncIterator[StoredSteps]:
        """Raises ClaimLost, StoreUnavailable."""
        # After a pause and a resume the same delivery may be in our hands twice, and both would find no picture there.
        async with self._turn(str(delivery)):
            kept = await self._core.db.read(delivery_steps.of, delivery, self._core.node)
            if kept is None:
                raise ClaimLost
            yield StoredSteps(self._core, delivery, kept)


class Results:
    """Pictures of an endpoint's own project; see `handlers.destinations.contract.Pictures`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @asynccontextmanager
    async def __call__(self, target: Target, asset: str) -> AsyncIterator[Path | None]:
        """Raises StoreUnavailable."""
        core = self._core
        held = await core.db.read(assets.for_endpoint, target.id, asset, core.clock.now())
        stored = None if held is None else StoredFile(held.sha256, held.bytes)
        if stored is None or not await core.files.exists(stored):
            yield None
            return
        async with core.files.local(stored) as path:
            yield path
