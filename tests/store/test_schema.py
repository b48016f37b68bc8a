"""`migrations/schema.sql` is for reading; the migrations are what is run. They must come to the same."""

import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from service.store.migrate import FOLDER, Migration, migrations
from tests.postgres import Server

pytestmark = pytest.mark.anyio

TODAY = Migration(0, "schema.sql", (FOLDER / "schema.sql").read_text(encoding="utf-8"))


def shape(sources: list[Migration]) -> dict[str, Any]:
    """What SQLite makes of them: every table's columns and references, every index."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for source in sources:
            for statement in source.statements("sqlite"):
                connection.execute(statement)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        return {
            "indexes": {name: re.sub(r"\s+", " ", sql) for name, sql in indexes},
            **{
                table: (
                    connection.execute(f"PRAGMA table_xinfo({table})").fetchall(),
                    sorted(row[2:] for row in connection.execute(f"PRAGMA foreign_key_list({table})")),
                    sorted(row[2:] for row in connection.execute(f"PRAGMA index_list({table})")),
                )
                for table in tables
            },
        }


def test_the_migrations_come_to_the_schema_on_sqlite() -> None:
    assert shape(migrations()) == shape([TODAY])


def test_the_migrations_come_to_the_schema_on_postgresql(postgres: Server) -> None:
    migrated = postgres.new_database(postgres.template)
    written = postgres.new_database()
    name = written.partition("@/")[2].partition("?")[0]
    postgres.sql(name, ";\n".join(TODAY.statements("postgres")))
    shapes = [postgres.dump(url, "--schema-only", "--exclude-table=migrations") for url in (migrated, written)]
    # Each dump has a secret of its own that guards its reading.
    first, second = (re.sub(r"^\\(un)?restrict .*$", "", shape, flags=re.MULTILINE) for shape in shapes)
    assert first == second
    assert "CREATE TABLE public.jobs" in first
