"""The secret key is changed while everything runs: what an old key has sealed is sealed anew, in the background.

With another SECRET_KEY, and the one before in SECRET_KEYS_OLD, everything opens as ever. Then this goes through all
that lies sealed, in small units, each of which changes a row only as long as it holds what was read. It begins from the
start after a crash: what is done already is seen to be done. When a whole pass has found nothing any more, the store
forgets the old keys, and the next start needs none of them.

Of several nodes none begins before all seal with the same key: they would undo each other's work for ever.
"""

import asyncio
from collections.abc import Sequence

import structlog

from service import secret_key
from service.pipeline.core import Core
from service.security.vault import WrongKey
from service.store import nodes, sealed
from service.store.database import StoreUnavailable
from service.store.sealed import PLACES, Change, Place

log = structlog.get_logger()

# Each takes a few dozen microseconds of the loop.
PAGE = 50
REST_SECONDS = 0.01
PASS_SECONDS = 300.0
LONGEST_PAUSE_SECONDS = 60.0


class Resealing:
    """Looks every five minutes whether an old key is still needed: with one key alone, that is one look at one row."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="resealing")

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
            except StoreUnavailable as error:
                log.warning("resealing.interrupted", error=str(error))
            except Exception:
                log.exception("resealing.fault")
            else:
                pause = PASS_SECONDS
            await self._core.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _pass(self) -> None:
        core = self._core
        if await core.db.read(secret_key.needed) <= {core.vault.fingerprint}:
            return
        newest, changed = await core.db.read(nodes.newest), 0
        if await core.db.read(nodes.seals_otherwise, core.vault.fingerprint, newest):
            log.info("resealing.waits", reason="another node still seals with another key")
            return
        # Until a whole pass finds nothing: a secret may have moved to a place that had been passed already.
        while found := sum([await self._through(place) for place in PLACES.values()]):
            changed += found
        if await core.db.write(secret_key.only, core.vault, newest):
            log.info(
                "resealing.done",
                secrets=changed,
                says="all secrets are sealed with the newest key: SECRET_KEYS_OLD may go."
                " Until it does, links to pictures that were given out before still open.",
            )

    async def _through(self, place: Place) -> int:
        """How many were not sealed with the newest key."""
        core, after, count = self._core, place.first, 0
        while held := await core.db.read(sealed.page, place, after, PAGE):
            changes = self._changes(place, held)
            if changes:
                await core.db.write(sealed.change, place, changes)
                count += len(changes)
            after = held[-1].key
            # Everybody else's turn.
            await core.clock.sleep(REST_SECONDS)
        return count

    def _changes(self, place: Place, held: Sequence[sealed.Held]) -> list[Change]:
        found = []
        for entry in held:
            inside = place.inside(entry.text)
            if self._core.vault.is_newest(inside):
                continue
            try:
                anew = self._core.vault.sealed_anew(inside)
            except WrongKey:
                # None of the keys opens it, so no key that might go is needed for it.
                log.error("resealing.unreadable", place=place.page, key=entry.key)
                continue
            found.append(Change(entry.key, entry.text, place.with_inside(entry.text, anew)))
        return found
