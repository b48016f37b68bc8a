"""Which database the settings name. Nothing is opened here."""

from service.config import InvalidSettings, Settings
from service.store.database import Database
from service.store.sqlite import Sqlite


def database_of(settings: Settings) -> Database:
    """Raises InvalidSettings where PostgreSQL is named and its driver is not installed."""
    if settings.database_url is None:
        return Sqlite(settings.database_file)
    try:
        from service.store.postgres import Postgres  # an extra: who has one file needs no driver
    except ImportError:
        raise InvalidSettings(
            "WIREPHOTO_DATABASE_URL: PostgreSQL needs the extra `postgres`: pip install 'wirephoto[postgres]'"
        ) from None
    return Postgres(settings.database_url.get_secret_value())
