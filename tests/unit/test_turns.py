"""Turns at a vendor: a clock that is set, or a process that was killed, stops nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from handlers.vendors.contract import Pace, Purpose, Window
from service.metrics import Metrics
from service.pacing.host import Host
from service.pacing.turns import Turns
from service.pacing.windows import COUNTED_WITHIN_MS
from service.store import vendor_requests
from service.store.migrate import migrate
from service.store.sqlite import Sqlite
from tests.clock import ManualClock
from tests.harness import PATIENCE
from tests.store.rows import NOW, VENDOR, all_rows

pytestmark = pytest.mark.anyio

SECOND = 1_000
HOUR = 3_600 * SECOND
HOST, ACCOUNT = "http://vendor.test", "account"
PACE = Pace(first_poll=1, interval=1, deadline=60, call=5, blocking_call=5, windows=(Window("account", 1, 1.0),))


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


@asynccontextmanager
async def turns(store: Sqlite, clock: ManualClock) -> AsyncIterator[Turns]:
    host = Host(store, clock, HOST)
    made = Turns(host, VENDOR, ACCOUNT, PACE, Metrics().vendor_requests)
    await made.load()
    host.open()
    try:
        yield made
    finally:
        await host.close()


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
    async with turns(store, clock) as it, asyncio.timeout(PATIENCE):
        await take(it)
        clock.set(by)
        before = clock.monotonic()
        assert await taken_within(it, clock, 2 * SECOND)
        assert clock.monotonic() - before >= SECOND, "nor does it bring one too early"


async def test_a_start_after_the_wall_clock_was_set_back_waits_no_longer_than_the_window(store: Sqlite) -> None:
    clock = SetClock()
    async with turns(store, clock) as it:
        await take(it)
    clock.set(-HOUR)
    async with turns(store, clock) as it:
        assert await taken_within(it, clock, 2 * SECOND)


async def test_requests_that_were_killed_under_way_are_forgotten(store: Sqlite) -> None:
    clock = SetClock()
    for n in range(20):
        await store.write(vendor_requests.start, VENDOR, HOST, ACCOUNT, NOW + n, 0)
    clock.set(COUNTED_WITHIN_MS + 2 * SECOND)
    async with turns(store, clock) as it, asyncio.timeout(PATIENCE):
        await take(it)
    rows = await store.read(all_rows, "SELECT started_at FROM vendor_requests")
    assert [row["started_at"] for row in rows] == [clock.now()]
