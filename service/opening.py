"""Which stores the settings name: the database, to work on or to look at beside whoever does, and the pictures'."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType

from service.config import PREFIX, InvalidSettings, Settings
from service.pipeline.core import AssetStore
from service.store.database import Database, Reader
from service.store.files import FileStore
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


def asset_store(settings: Settings) -> AssetStore:
    """Where ASSETS_URL says. Raises InvalidSettings."""
    if settings.assets_folder is not None:
        return FileStore(settings.assets_folder)
    try:
        from service.store.objects import Bucket  # an installation without a bucket needs no library for it
    except ImportError:
        raise InvalidSettings(f"{PREFIX}ASSETS_URL: s3:// needs the extra s3; install wirephoto[s3]") from None
    assert settings.assets_url is not None, "without one there is a folder"
    try:
        return Bucket(settings.assets_url, settings.data_dir / "incoming", settings.ca_file)
    except ValueError as error:
        raise InvalidSettings(f"{PREFIX}ASSETS_URL: the bucket can't be used: {error}") from None
