"""Which database the settings name: to work on, or only to look at beside whoever works on it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType

from service.config import InvalidSettings, Settings
from service.store.database import Database, Reader
from service.store.sqlite import Sqlite
from service.store.sqlite import looking as looking_at_file


def database_of(settings: Settings) -> Database:
    """Not opened yet. Raises InvalidSettings where PostgreSQL is named and its driver is not installed."""
    if settings.database_url is None:
        return Sqlite(settings.database_file)
    database: Database = _postgres().Postgres(settings.database_url.get_secret_value())
    return database


def looking(settings: Settings) -> AbstractAsyncContextManager[Reader]:
    """One consistent view of that database. Raises InvalidSettings, NotAStore, StoreUnavailable on entering."""
    if settings.database_url is None:
        return looking_at_file(settings.database_file)
    return looking_at_postgres(settings.database_url.get_secret_value())


async def off_at(url: str) -> tuple[str, list[str]]:
    """A PostgreSQL's version, and what is switched off there without which commits can be lost.

    Raises InvalidSettings, StoreUnavailable.
    """
    postgres = _postgres()
    told = await postgres.promises(url)
    return told["server_version"], [name for name in postgres.DURABLE if told[name] == "off"]


@asynccontextmanager
async def looking_at_postgres(url: str) -> AsyncIterator[Reader]:
    """One consistent view, without the lock. Raises InvalidSettings, as above, and StoreUnavailable."""
    async with _postgres().looking(url) as reader:
        yield reader


def _postgres() -> ModuleType:
    try:
        from service.store import postgres  # an extra: who has one file needs no driver
    except ImportError:
        raise InvalidSettings(
            "WIREPHOTO_DATABASE_URL: PostgreSQL needs the extra `postgres`: pip install 'wirephoto[postgres]'"
        ) from None
    return postgres
