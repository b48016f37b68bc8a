"""Questions that people ask a vendor through us: asked once for all who want to know, and waited for within bounds."""

import asyncio
from dataclasses import dataclass, field

import pytest

from handlers.vendors.contract import Page, VendorError
from service.lookups import KEPT_MS, LONGEST_WAIT_MS, MOST_PAGES, Lookups, TookTooLong
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio


@dataclass
class Vendor:
    """Gives a new page each time it is asked, once it may."""

    asked: int = 0
    cut: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Exception | None = None

    async def page(self) -> Page:
        self.asked += 1
        number = self.asked
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise
        if self.fault is not None:
            raise self.fault
        return Page([{"id": str(number)}], None)


@pytest.fixture
def vendor() -> Vendor:
    it = Vendor()
    it.open.set()
    return it


async def test_a_page_is_asked_for_once_in_some_minutes(vendor: Vendor) -> None:
    clock = ManualClock()
    lookups = Lookups(clock)
    first = await lookups.page(("a", 1), vendor.page)
    clock.leap(KEPT_MS - 1)
    assert await lookups.page(("a", 1), vendor.page) is first
    assert await lookups.page(("a", 2), vendor.page) is not first, "another page"
    clock.leap(1)
    assert await lookups.page(("a", 1), vendor.page) is not first
    assert vendor.asked == 3


async def test_who_wants_the_same_page_at_once_waits_for_one_question() -> None:
    lookups, vendor = Lookups(ManualClock()), Vendor()
    wanting = [asyncio.create_task(lookups.page(("a",), vendor.page)) for _ in range(5)]
    await asyncio.sleep(0)
    vendor.open.set()
    pages = await asyncio.gather(*wanting)
    assert vendor.asked == 1
    assert all(page is pages[0] for page in pages)


async def test_a_no_is_not_kept(vendor: Vendor) -> None:
    lookups = Lookups(ManualClock())
    vendor.fault = VendorError("no")
    with pytest.raises(VendorError):
        await lookups.page(("a",), vendor.page)
    vendor.fault = None
    assert (await lookups.page(("a",), vendor.page)).entries == [{"id": "2"}]


async def test_the_memory_has_an_end(vendor: Vendor) -> None:
    lookups = Lookups(ManualClock())
    for number in range(MOST_PAGES + 1):
        await lookups.page((number,), vendor.page)
    await lookups.page((1,), vendor.page)
    assert vendor.asked == MOST_PAGES + 1
    await lookups.page((0,), vendor.page)
    assert vendor.asked == MOST_PAGES + 2


async def test_nobody_waits_longer_than_twenty_seconds_and_the_question_is_cut_off() -> None:
    clock, vendor = ManualClock(), Vendor()
    lookups = Lookups(clock)
    waiting = asyncio.create_task(lookups.patiently(lookups.page(("a",), vendor.page)))
    await clock.settle()
    await clock.advance(LONGEST_WAIT_MS - 1)
    assert not waiting.done()
    await clock.advance(1)
    with pytest.raises(TookTooLong):
        await waiting
    assert vendor.cut == 1
    # Whoever comes next asks anew.
    vendor.open.set()
    assert (await lookups.patiently(lookups.page(("a",), vendor.page))).entries == [{"id": "2"}]


async def test_who_goes_away_takes_the_question_along() -> None:
    clock, vendor = ManualClock(), Vendor()
    waiting = asyncio.create_task(Lookups(clock).patiently(vendor.page()))
    await clock.settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert vendor.cut == 1


async def test_what_goes_wrong_is_told_as_it_is(vendor: Vendor) -> None:
    vendor.fault = VendorError("no")
    with pytest.raises(VendorError):
        await Lookups(ManualClock()).patiently(vendor.page())
