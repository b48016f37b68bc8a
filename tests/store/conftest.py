"""One behavioural suite for every database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.store.database import Database
from service.store.migrate import migrate
from service.store.postgres import Postgres
from service.store.sqlite import Sqlite
from tests.postgres import Server
from tests.store.rows import NOW, Rows, rows


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, postgres: Server) -> AsyncIterator[Database]:
    """An open database with the schema of today."""
    db: Database
    if request.param == "sqlite":
        db = Sqlite(tmp_path / "store" / "wirephoto.sqlite3")
    else:
        db = Postgres(postgres.new_database(postgres.template))
    try:
        await db.open()
        await migrate(db, NOW)
        yield db
    finally:
        await db.close()


@pytest.fixture
async def made(database: Database) -> Rows:
    return await rows(database)
