"""One behavioural suite for every database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.store.database import Database
from service.store.migrate import migrate
from service.store.sqlite import Sqlite
from tests.store.rows import NOW, Rows, rows


@pytest.fixture(params=["sqlite"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database with the schema of today."""
    assert request.param == "sqlite"
    db = Sqlite(tmp_path / "store" / "wirephoto.sqlite3")
    await db.open()
    try:
        await migrate(db, NOW)
        yield db
    finally:
        await db.close()


@pytest.fixture
async def made(database: Database) -> Rows:
    return await rows(database)
