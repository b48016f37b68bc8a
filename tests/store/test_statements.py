"""The named SQL: all of it used, all of it good on the schema of today, and the busy parts by an index."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.store.database import Tx
from service.store.migrate import migrations
from service.store.postgres_sql import compiled
from service.store.sql import Statements
from tests.postgres import Server
from tests.store.rows import Rows

pytestmark = pytest.mark.anyio

STORE = Path(__file__).parents[2] / "service" / "store"
FILES = sorted(STORE.glob("*.sql"))
NUMBERS = {
    *("now", "before", "after", "since", "until", "due_at", "retry_at", "watch_at", "deadline_at", "expires_at"),
    *("dies_at", "started_at", "staged_at", "possible_duplicate_at", "limit", "most", "number", "sequence", "tries"),
    *("attempts", "asked", "counted", "ms", "bytes", "width", "height", "progress", "max_in_flight", "count"),
    *("project", "job", "submission", "delivery", "node", "dead", "callback", "result", "asset"),
    *("least", "held_at", "after_time", "after_row", "replay", "last", "total", "owed", "whole", "delivered"),
}


def test_every_statement_is_used_and_every_used_one_is_there() -> None:
    for file in FILES:
        code = file.with_suffix(".py").read_text(encoding="utf-8")
        named = Statements(file).names()
        assert named, file.name
        assert {name for name in named if f'"{name}"' not in code} == set(), file.name
        assert set(re.findall(r'_SQL\["(\w+)"\]', code)) <= named, file.name


def test_a_statement_named_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "twice.sql"
    file.write_text("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n", encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        Statements(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_statement_parses_on_the_schema_of_today(file: Path) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        for migration in migrations():
            for statement in migration.statements("sqlite"):
                connection.execute(statement)
        statements = Statements(file)
        for name in statements.names():
            text = statements[name]
            values = dict.fromkeys(re.findall(r"(?<![:\w]):(\w+)", text))
            assert connection.execute(f"EXPLAIN {text}", values).fetchall(), name
    finally:
        connection.close()


async def test_the_workers_questions_use_an_index(made: Rows) -> None:
    for noun, name, index in (
        ("jobs", "claim", "jobs_"),  # that of lanes begins alike
        ("lanes", "claim", "jobs_by_lane"),
        ("jobs", "next_due", "jobs_"),
        ("jobs", "list_by_metadata", "job_metadata_by_pair"),
        ("jobs", "without_metadata", "jobs_without_metadata"),
        ("jobs", "under_way", "jobs_open"),
        ("submissions", "at_vendors", "submissions_open"),
        ("submissions", "claim", "submissions_due"),
        ("submissions", "next_due", "submissions_due"),
        ("lines", "head", "deliveries_head"),
        ("lines", "promote", "deliveries_queued"),
        ("lines", "scatter", "deliveries_queued"),
        ("lines", "dismiss", "deliveries_head"),
        ("lines", "next_line", "deliveries_queued"),
        ("deliveries", "claim", "deliveries_due"),
        ("deliveries", "next_due", "deliveries_due"),
        ("nodes", "release_jobs", "jobs_held"),
        ("nodes", "release_submissions", "submissions_held"),
        ("nodes", "release_deliveries", "deliveries_held"),
        ("callbacks", "to_conclude", "callbacks_by_job"),
        ("vendor_requests", "since", "vendor_requests_"),
        ("deliveries", "expire", "deliveries_kept"),
        ("deliveries", "trim", "deliveries_by_event"),
        ("jobs", "old_keys", "idempotency_keys_by_age"),
        ("jobs", "removable", "idempotency_keys_by_job"),
        ("assets", "expired", "assets_by_end"),
        ("assets", "forget", "results_by_asset"),
        ("endpoints", "forget", "endpoints_deleted"),
        ("endpoints", "forget", "replays_by_endpoint"),
        ("deliveries", "hold", "deliveries_open"),
        ("deliveries", "unhold", "deliveries_open"),
        ("deliveries", "discard", "deliveries_open"),
        ("deliveries", "list_of_endpoint", "deliveries_by_endpoint"),
        ("deliveries", "list_of_event", "deliveries_by_event"),
        ("deliveries", "ledger", "attempts_by_delivery"),
        ("replays", "bounds", "events_by_time"),
        ("replays", "running", "deliveries_by_replay"),
        ("replays", "unsettled", "deliveries_by_replay"),
        ("replays", "list", "replays_by_project"),
        ("replays", "forget", "replays_ended"),
        ("stats", "attempts", "deliveries_by_endpoint"),
        ("stats", "attempts", "deliveries_reopened"),
        ("stats", "attempts", "attempts_by_delivery"),
        ("stats", "open", "deliveries_open"),
        ("stats", "oldest_pending", "deliveries_open"),
        ("endpoints", "hook", "endpoints_by_hook"),
        ("signing_keys", "newest", "signing_keys_newest"),
        ("signing_keys", "that_sign", "signing_keys_by_project"),
        ("signing_keys", "drop_private_halves", "signing_keys_retired"),
        ("signing_keys", "forget", "signing_keys_retired"),
        ("callbacks", "completed_at", "callbacks_by_job"),
        ("deliveries", "backlog_queued", "deliveries_queued"),
        ("deliveries", "backlog_held", "deliveries_kept"),
    ):
        text = Statements(STORE / f"{noun}.sql")[name]
        plan = await _planned(made, text)
        assert index in plan, f"{noun}.{name}: {plan}"


async def test_whoever_is_next_in_line_is_found_without_a_look_at_the_others(made: Rows) -> None:
    plan = await _planned(made, Statements(STORE / "lines.sql")["promote"])
    assert not re.search(r"TEMP B-TREE|Sort", plan), plan


async def test_retention_looks_at_no_table_as_a_whole(made: Rows) -> None:
    """But at nodes and projects, which are few, and at the first rows of vendor_requests."""
    for noun, name in (
        ("deliveries", "expire"),
        ("deliveries", "trim"),
        ("events", "oldest"),
        ("events", "old_logs"),
        ("events", "front"),
        ("events", "remove"),
        ("jobs", "old_keys"),
        ("jobs", "removable"),
        ("jobs", "assets"),
        ("jobs", "remove_webhook"),
        ("assets", "expired"),
        ("assets", "known"),
        ("assets", "forget"),
        ("endpoints", "forget"),
        ("lines", "next_line"),
        ("replays", "forget"),
        ("signing_keys", "drop_private_halves"),
        ("signing_keys", "forget"),
        ("signing_keys", "thin_out"),
    ):
        text = Statements(STORE / f"{noun}.sql")[name]
        assert not re.search(r"SCAN (?!front|CONSTANT)|Seq Scan", await _planned(made, text)), f"{noun}.{name}"


async def test_what_users_ask_of_an_endpoint_looks_at_no_table_as_a_whole(made: Rows) -> None:
    for noun, name in (
        ("deliveries", "list_of_endpoint"),
        ("deliveries", "list_of_event"),
        ("deliveries", "ledger"),
        ("replays", "page"),
        ("replays", "list_of_endpoint"),
        ("stats", "deliveries"),
        ("stats", "attempts"),
        ("stats", "times"),
        ("stats", "last_attempt"),
    ):
        text = Statements(STORE / f"{noun}.sql")[name]
        whole = r"SCAN (?!newest|reopened|looked|answered|CONSTANT|\(subquery)|Seq Scan"
        found = re.search(whole, await _planned(made, text))
        assert found is None, f"{noun}.{name}: {found}"


async def _planned(made: Rows, text: str) -> str:
    # No NULLs: a planner that knows its business reads no table for them.
    # A row, or the public id of one.
    rows = {name for name in ("event", "endpoint") if f"public_id = :{name}" not in text}
    values = {name: 1 if name in NUMBERS | rows else "a" for name in re.findall(r"(?<![:\w]):(\w+)", text)}
    return await made.db.write(_plan if made.db.dialect == "sqlite" else _postgres_plan, text, values)


async def _plan(tx: Tx, text: str, values: dict[str, Any]) -> str:
    return " ".join(str(row["detail"]) for row in await tx.all(f"EXPLAIN QUERY PLAN {text}", values))


async def _postgres_plan(tx: Tx, text: str, values: dict[str, Any]) -> str:
    # Tables of tests are so small that reading all of one is the cheapest way.
    await tx.run("SET LOCAL enable_seqscan = off", {})
    await tx.run("SET LOCAL enable_bitmapscan = off", {})
    return " ".join(str(row["QUERY PLAN"]) for row in await tx.all(f"EXPLAIN {text}", values))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_postgresql_takes_every_statement_and_knows_the_type_of_each_parameter(
    file: Path, postgres: Server
) -> None:
    connection = await asyncpg.connect(postgres.new_database(postgres.template))
    try:
        statements = Statements(file)
        for name in statements.names():
            it = compiled(statements[name])
            prepared = await connection.prepare(it.text)
            assert len(prepared.get_parameters()) == len(it.names), name
            # What it can't tell it takes for a text; ours that are none would be refused when they come.
            texts = {
                parameter
                for parameter, kind in zip(it.names, prepared.get_parameters(), strict=True)
                if kind.name == "text"
            }
            assert not texts & NUMBERS, (name, texts & NUMBERS)
    finally:
        await connection.close()
