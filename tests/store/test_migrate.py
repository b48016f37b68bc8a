"""The schema: brought up to date once, never past a file that was changed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.store.database import Database
from service.store.migrate import FOLDER, MigrationError, migrate, migrations
from service.store.sqlite import Sqlite
from tests.store.rows import NOW, all_rows, run

pytestmark = pytest.mark.anyio

FIRST = (
    "-- The first; a comment with a semicolon: ';'\nCREATE TABLE a (id {row_id}, x TEXT);\nCREATE TABLE b (y TEXT);\n"
)
SECOND = "ALTER TABLE a ADD COLUMN z TEXT;\n"


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Database]:
    db = Sqlite(tmp_path / "wirephoto.sqlite3")
    await db.open()
    yield db
    await db.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "migrations"
    made.mkdir()
    (made / "0001_first.sql").write_text(FIRST, encoding="utf-8")
    return made


async def tables(db: Database) -> set[str]:
    return {row["name"] for row in await db.read(all_rows, "SELECT name FROM sqlite_master WHERE type = 'table'")}


async def test_migrating_twice_is_migrating_once(empty: Database) -> None:
    count = len(migrations())
    assert await migrate(empty, NOW) == count
    before = await tables(empty)
    assert await migrate(empty, NOW + 1) == 0
    assert await tables(empty) == before
    ledger = await empty.read(all_rows, "SELECT number, applied_at FROM migrations ORDER BY number")
    assert [(row["number"], row["applied_at"]) for row in ledger] == [(n, NOW) for n in range(1, count + 1)]


async def test_a_new_migration_is_run_alone(empty: Database, folder: Path) -> None:
    assert await migrate(empty, NOW, folder=folder) == 1
    await empty.write(run, "INSERT INTO a (x) VALUES ('kept')", {})
    (folder / "0002_second.sql").write_text(SECOND, encoding="utf-8")
    assert await migrate(empty, NOW, folder=folder) == 1
    assert await empty.read(all_rows, "SELECT x, z FROM a") == [{"x": "kept", "z": None}]


async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(empty: Database, folder: Path) -> None:
    await migrate(empty, NOW, folder=folder)
    (folder / "0001_first.sql").write_text(FIRST + "CREATE TABLE c (q TEXT);\n", encoding="utf-8")
    with pytest.raises(MigrationError, match=r"0001_first\.sql was changed"):
        await migrate(empty, NOW, folder=folder)
    assert "c" not in await tables(empty)


async def test_a_gap_and_a_number_given_twice_are_refused(empty: Database, folder: Path) -> None:
    gap = folder / "0003_third.sql"
    gap.write_text(SECOND, encoding="utf-8")
    with pytest.raises(MigrationError, match="without a gap"):
        await migrate(empty, NOW, folder=folder)
    gap.rename(folder / "0001_twin.sql")
    with pytest.raises(MigrationError, match="without a gap"):
        await migrate(empty, NOW, folder=folder)
    assert "a" not in await tables(empty)


async def test_a_migration_that_fails_in_its_middle_leaves_nothing_and_can_be_run_again(
    empty: Database, folder: Path
) -> None:
    await migrate(empty, NOW, folder=folder)
    second = folder / "0002_second.sql"
    second.write_text("CREATE TABLE half (x TEXT);\nCREATE TABLE a (twice TEXT);\n", encoding="utf-8")
    with pytest.raises(Exception, match="already exists"):
        await migrate(empty, NOW, folder=folder)
    assert "half" not in await tables(empty)
    second.write_text(SECOND, encoding="utf-8")
    assert await migrate(empty, NOW, folder=folder) == 1


async def test_the_last_release_runs_on_the_next_ones_schema(empty: Database, folder: Path) -> None:
    (folder / "0002_second.sql").write_text(SECOND, encoding="utf-8")
    await migrate(empty, NOW, folder=folder)
    (folder / "0002_second.sql").unlink()
    assert await migrate(empty, NOW, folder=folder) == 0


def test_every_file_of_ours_is_a_migration_and_fits_both_databases() -> None:
    found = migrations()
    assert [migration.name for migration in found] == sorted(path.name for path in FOLDER.glob("0*"))
    for migration in found:
        for dialect in ("sqlite", "postgres"):
            assert not any("{" in statement for statement in migration.statements(dialect)), migration.name
