"""Turns at a vendor: a clock that is set, or a process that was killed, stops nobody."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handlers.vendors.contract import Purpose, Window
from service.metrics import Metrics
from service.pacing.turns import Turns
from service.pacing.windows import COUNTED_WITHIN_MS, Windows
from service.store import vendor_requests
from service.store.migrate import migrate
from service.store.sqlite import Sqlite
from tests.clock import ManualClock
from tests.harness import PATIENCE
from tests.store.rows import NOW, VENDOR, all_rows

pytestmark = pytest.mark.anyio

SECOND = 1_000
HOUR = 3_600 * SECOND
ONE_A_SECOND = Window("account", 1, 1.0)


class SetClock(ManualClock):
    """Its wall clock may be set; the other one never is."""

    def __init__(self) -> None:
        super().__init__(NOW)
        self._set_by = 0

    def monotonic(self) -> int:
        return self._now - self._set_by

    def set(self, by: int) -> None:
        """Nobody may be asleep."""
        self._now += by
        self._set_by += by


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Sqlite]:
    db = Sqlite(tmp_path / "wirephoto.sqlite3")
    await db.open()
    try:
        await migrate(db, NOW)
        yield db
    finally:
        await db.close()


async def turns(store: Sqlite, clock: ManualClock) -> Turns:
    made = Turns(store, clock, VENDOR, Windows([ONE_A_SECOND]), Metrics().vendor_requests)
    await made.load()
    return made


async def take(it: Turns) -> None:
    async with it(Purpose.POLL):
        pass


async def taken_within(it: Turns, clock: ManualClock, ms: int) -> bool:
    """Whether a turn comes within so many milliseconds of the clock's."""
    taken = asyncio.create_task(take(it))
    for _ in range(ms // 100 + 1):
        # What waits for the store's thread needs rounds of the real loop.
        _, pending = await asyncio.wait({taken}, timeout=0.05)
        if not pending:
            break
        await clock.advance(100)
    if not taken.done():
        taken.cancel()
        await asyncio.gather(taken, return_exceptions=True)
        return False
    await taken
    return True


@pytest.mark.parametrize("by", [-HOUR, HOUR])
async def test_a_wall_clock_that_is_set_delays_no_turn(store: Sqlite, by: int) -> None:
    clock = SetClock()
    it = await turns(store, clock)
    async with asyncio.timeout(PATIENCE):
        await take(it)
        clock.set(by)
        before = clock.monotonic()
        assert await taken_within(it, clock, 2 * SECOND)
        assert clock.monotonic() - before >= SECOND, "nor does it bring one too early"


async def test_a_start_after_the_wall_clock_was_set_back_waits_no_longer_than_the_window(store: Sqlite) -> None:
    clock = SetClock()
    await take(await turns(store, clock))
    clock.set(-HOUR)
    assert await taken_within(await turns(store, clock), clock, 2 * SECOND)


async def test_requests_that_were_killed_under_way_are_forgotten(store: Sqlite) -> None:
    clock = SetClock()
    for n in range(20):
        await store.write(vendor_requests.start, VENDOR, NOW + n, 0)
    clock.set(COUNTED_WITHIN_MS + 2 * SECOND)
    it = await turns(store, clock)
    async with asyncio.timeout(PATIENCE):
        await take(it)
    rows = await store.read(all_rows, "SELECT started_at FROM vendor_requests")
    assert [row["started_at"] for row in rows] == [clock.now()]
