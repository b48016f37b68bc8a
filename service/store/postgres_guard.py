"""One service at a time on a database: a session of its own holds an advisory lock as long as the service lives.

The rate windows of vendors are counted by one service alone. The server gives the lock away when the session ends,
however it ends; what is lost with it is taken again, and until then nothing is written.
"""

from __future__ import annotations  # asyncpg's own classes are generic for the type checker alone

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
import structlog

from service.store.database import Locked, StoreUnavailable

log = structlog.get_logger()

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 10.0
PAUSE_SECONDS = 0.5
# A server that is just starting is waited for; a service that has just died loses its session in eight seconds at most.
SERVER_PATIENCE_SECONDS = 30.0
LOCKED_PATIENCE_SECONDS = 10.0
# How often the session is asked whether it is still there: a firewall that forgets a silent connection tells nobody.
LOOK_SECONDS = 2.0
# Ours among the advisory locks of a database: "wirephot" in ASCII.
LOCK = 0x7769726570686F74
_SETTINGS = {
    "application_name": "wirephoto guard",
    # A machine that died silently is noticed in eight seconds, not in two hours.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
}

# The server's or the network's fault, not the unit's: the same unit may go through later.
OUTSIDE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says when its connection breaks off between two messages
    OSError,
    TimeoutError,
)


class Guard:
    """`lost` is set while the lock is not ours."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: asyncpg.Connection[Any] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._closing = False
        self.lost = asyncio.Event()

    async def open(self) -> None:
        """Take the lock, and keep it. Raises Locked, StoreUnavailable."""
        waited = 0.0
        while True:
            try:
                await self._take()
                break
            except (Locked, StoreUnavailable) as error:
                patience = LOCKED_PATIENCE_SECONDS if isinstance(error, Locked) else SERVER_PATIENCE_SECONDS
                if waited >= patience or _is_final(error):
                    raise
                if waited == 0.0:
                    log.warning("store.waiting", error=str(error))
            await asyncio.sleep(PAUSE_SECONDS)
            waited += PAUSE_SECONDS
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        self._closing = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._session is not None:
            with suppress(*OUTSIDE):
                await self._session.close(timeout=CONNECT_SECONDS)

    async def _take(self) -> None:
        try:
            session = await asyncpg.connect(
                self._url, timeout=CONNECT_SECONDS, command_timeout=ANSWER_SECONDS, server_settings=_SETTINGS
            )
        except (*OUTSIDE, asyncpg.PostgresError) as error:
            raise StoreUnavailable(told(error)) from error
        try:
            taken = await session.fetchval("SELECT pg_try_advisory_lock($1)", LOCK)
        except OUTSIDE as error:
            session.terminate()
            raise StoreUnavailable(told(error)) from None
        except BaseException:
            session.terminate()
            raise
        if not taken:
            session.terminate()
            raise Locked("another Wirephoto is running on this database")
        self._session = session
        self.lost.clear()
        session.add_termination_listener(self._ended)
        if session.is_closed():
            # It was lost before anybody listened.
            self.lost.set()

    def _ended(self, session: object) -> None:
        if session is self._session and not self._closing:
            self.lost.set()

    async def _keep(self) -> None:
        while True:
            try:
                await self._watch()
                log.warning("store.guard_lost")
                while self.lost.is_set():
                    await self._try()
                log.info("store.guard_taken_again")
            except Exception:
                # Whoever keeps the lock must not die: all writes would wait for ever.
                log.exception("store.guard_fault")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _try(self) -> None:
        try:
            await self._take()
        except (Locked, StoreUnavailable) as error:
            log.debug("store.no_guard", error=str(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _watch(self) -> None:
        """Returns when the session is lost: when that is told, or when it no longer answers."""
        assert self._session is not None, "taken when it was opened"
        while not self.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.lost.wait()
            if self.lost.is_set():
                return
            try:
                await self._session.fetchval("SELECT 1")
            except OUTSIDE:
                self.lost.set()
                self._session.terminate()


def _is_final(error: Exception) -> bool:
    """Whether waiting can't help: a wrong password, name or right."""
    return isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError)


def told(error: BaseException) -> str:
    """What is said of a fault from outside."""
    if isinstance(error, TimeoutError):
        return "the database can't be reached: no answer in time"
    # The server's own words on a connection; asyncpg keeps the password out of them.
    return f"the database can't be reached: {error or type(error).__name__}"
