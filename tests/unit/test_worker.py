"""The loop under every step: it never spins, and whatever goes wrong, it lets go of what it holds."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from service.pipeline.worker import PAUSE_AFTER_FAULT_MS, Worker
from service.store.database import StoreUnavailable
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio

SECOND = 1_000


@dataclass
class Table:
    """Rows and their due times, and how often the worker has asked for some."""

    clock: ManualClock
    due: list[int] = field(default_factory=list)
    claimable: bool = True
    claims: int = 0

    async def claim(self, room: int) -> Sequence[int]:
        self.claims += 1
        if not self.claimable:
            return []
        found = [at for at in self.due if at <= self.clock.now()][:room]
        self.due = [at for at in self.due if at not in found]
        return found

    async def next_due(self) -> int | None:
        return min(self.due, default=None)


async def nothing(_: int) -> None:
    pass


async def unexpected(_: int, fault: Exception) -> None:
    raise AssertionError from fault


@asynccontextmanager
async def working(
    table: Table,
    work: Callable[[int], Awaitable[None]] = nothing,
    broken: Callable[[int, Exception], Awaitable[None]] = unexpected,
) -> AsyncIterator[Worker[int]]:
    worker = Worker[int](
        "tests", table.clock, claim=table.claim, next_due=table.next_due, work=work, broken=broken, limit=4
    )
    worker.start()
    await table.clock.settle()
    try:
        yield worker
    finally:
        await worker.stop(0)


async def test_rows_that_are_due_and_not_to_be_had_do_not_make_it_spin() -> None:
    clock = ManualClock()
    table = Table(clock, [clock.now() - SECOND], claimable=False)
    async with working(table):
        await clock.advance(10 * SECOND)
        assert 2 <= table.claims <= 11 * SECOND // PAUSE_AFTER_FAULT_MS
        table.claimable = True
        await clock.advance(PAUSE_AFTER_FAULT_MS)
        assert table.due == [], "and once it is to be had, it is had"


async def test_it_sleeps_until_the_next_due_time_and_asks_no_sooner() -> None:
    clock = ManualClock()
    table = Table(clock, [clock.now() + 60 * SECOND])
    async with working(table):
        before = table.claims
        await clock.advance(59 * SECOND)
        assert table.claims == before == 1
        await clock.advance(SECOND)
        assert table.due == []


@pytest.mark.parametrize("fault", [StoreUnavailable("away"), RuntimeError("a bug")], ids=["away", "bug"])
async def test_it_lets_go_in_the_end_of_what_it_could_not_let_go_of_at_first(fault: Exception) -> None:
    clock = ManualClock()
    let_go: list[Exception] = []
    tries = 0

    async def work(_: int) -> None:
        raise fault

    async def broken(_: int, why: Exception) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise StoreUnavailable("away")
        let_go.append(why)

    async with working(Table(clock, [clock.now()]), work, broken):
        await clock.advance(60 * SECOND)
        assert let_go == [fault]
        assert tries == 4, "and then it is done with it"
