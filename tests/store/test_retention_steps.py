"""Retention in steps: none is long, each is followed by a rest, and one fault keeps no other chore from its work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from schemas.delivery import DeliveryState
from service.pipeline.core import Core
from service.pipeline.retry import HOUR
from service.retention import PASS_SECONDS, ROWS_PER_STEP, Retention
from service.security.links import AssetLinks
from service.security.vault import Vault
from service.store import deliveries, endpoints, events
from service.store.database import Database, Tx, Unit
from service.store.files import FileStore
from service.store.migrate import migrate
from service.store.sqlite import Sqlite
from tests.clock import ManualClock
from tests.harness import PATIENCE
from tests.store.rows import NOW, Rows, all_rows, run
from tests.stores import Passing

pytestmark = pytest.mark.anyio

P = ParamSpec("P")
T = TypeVar("T")

STEP_MS = 40
# A step may end a job too, and a delivery has its attempts.
MOST_ROWS = 2 * ROWS_PER_STEP
OLD = NOW + 2 * HOUR


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """SQLite alone: it tells how many rows a unit has changed, those included that went with others."""
    db = Sqlite(tmp_path / "store" / "wirephoto.sqlite3")
    try:
        await db.open()
        await migrate(db, NOW)
        yield db
    finally:
        await db.close()


class Restless(ManualClock):
    """Rests are written down and not made; the long sleep after a pass is never over."""

    def __init__(self) -> None:
        super().__init__(OLD)
        self.rests: list[float] = []
        self.passed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds == PASS_SECONDS:
            self.passed.set()
            await asyncio.Event().wait()
        self.rests.append(seconds)
        await asyncio.sleep(0)

    def took(self, ms: int) -> None:
        self._now += ms


class Weighed(Passing):
    """The store; each unit takes STEP_MS and tells how many rows it changed. Those of the module `bug` can't be run."""

    def __init__(self, inner: Database, clock: Restless, bug: str) -> None:
        super().__init__(inner)
        self._clock, self._bug = clock, bug
        self.changed: list[int] = []

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if unit.__module__.endswith(self._bug):
            raise RuntimeError("a fault of ours, as the test says")

        async def weighed(tx: Tx) -> tuple[T, int]:
            before = await tx.one("SELECT total_changes() AS count", {})
            answer = await unit(tx, *args, **kwargs)
            after = await tx.one("SELECT total_changes() AS count", {})
            assert before is not None
            assert after is not None
            return answer, after["count"] - before["count"]

        answer, changed = await super().write(weighed)
        self.changed.append(changed)
        self._clock.took(STEP_MS)
        return answer


@asynccontextmanager
async def _passed(made: Rows, folder: Path, bug: str = "nothing") -> AsyncIterator[tuple[Weighed, Restless]]:
    """One pass of retention, an hour being its time, over what there is."""
    clock = Restless()
    db = Weighed(made.db, clock, bug)
    links = AssetLinks("http://here", b"x" * 32, ())
    core = Core(db, clock, made.node, Vault("k" * 32, []), links, FileStore(folder), HOUR, "ins_test")
    retention = Retention(core, HOUR)
    retention.start()
    try:
        async with asyncio.timeout(PATIENCE):
            await clock.passed.wait()
        yield db, clock
        assert retention.alive
    finally:
        await retention.stop(0)
    assert not retention.alive


async def _deliver_all(tx: Tx) -> None:
    await tx.run(
        "UPDATE deliveries SET state = 'delivered', node = NULL, finished_at = :now, attempts = 2", {"now": NOW}
    )
    for number in (1, 2):
        await tx.run(
            "INSERT INTO attempts (public_id, delivery_id, number, started_at, ms, outcome)"
            " SELECT 'att_' || id, id, :number, :now, 1, 'delivered' FROM deliveries",
            {"number": number, "now": NOW},
        )


async def test_an_event_owed_to_very_many_goes_in_small_steps_with_a_rest_after_each(
    made: Rows, tmp_path: Path
) -> None:
    for _ in range(500):
        await made.endpoint()
    event, owed = await made.event()
    assert len(owed) == 500
    await made.db.write(_deliver_all)
    newest, _ = await made.event()
    async with _passed(made, tmp_path) as (db, clock):
        assert [row["id"] for row in await made.db.read(all_rows, "SELECT id FROM events")] == [newest.row]
        left = await made.db.read(all_rows, "SELECT id FROM deliveries WHERE event_id = :event", {"event": event.row})
        assert left == []
        assert sum(db.changed) >= 500 * 3
        assert max(db.changed) <= MOST_ROWS
        assert len(clock.rests) >= len([rows for rows in db.changed if rows]), "a rest after each step"
        assert min(clock.rests) >= STEP_MS / 1000, "as long as the step"


async def test_many_small_events_and_held_deliveries_go_in_small_steps(made: Rows, tmp_path: Path) -> None:
    endpoint = await made.endpoint()
    for _ in range(400):
        await made.event()
    await made.db.write(_deliver_all)
    paused = await made.endpoint()
    for _ in range(400):
        await made.event()
    await made.db.write(deliveries.hold, paused.row, NOW)
    await made.db.write(run, "UPDATE deliveries SET state = 'delivered', finished_at = :now WHERE state = 'pending'",
                        {"now": OLD})  # fmt: skip
    async with _passed(made, tmp_path) as (db, _):
        states = await made.db.read(all_rows, "SELECT state, COUNT(*) AS count FROM deliveries GROUP BY state")
        assert {row["state"]: row["count"] for row in states} == {"delivered": 400, "expired": 400}
        assert len(await made.db.read(all_rows, "SELECT id FROM events")) == 400, "and what has expired is still seen"
        assert max(db.changed) <= MOST_ROWS
    assert endpoint.row < paused.row


async def test_a_fault_in_one_chore_keeps_no_other_from_its_work(made: Rows, tmp_path: Path) -> None:
    endpoint = await made.endpoint()
    event, (owed,) = await made.event()
    await made.db.write(deliveries.settle, owed.delivery, made.node, DeliveryState.DELIVERED, 1, NOW)
    await made.event()
    deleted = await made.endpoint()
    await made.db.write(endpoints.delete, deleted.row, NOW)
    async with _passed(made, tmp_path, bug="retention"):
        assert (await made.db.read(events.by_row, event.row)).row == event.row
        left = await made.db.read(all_rows, "SELECT id FROM endpoints")
        assert [row["id"] for row in left] == [endpoint.row]
