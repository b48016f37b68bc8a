"""Questions that people ask a vendor through us: they wait for a while, and what seldom changes is asked for once.

A page of styles costs a request of the same window that keeps tasks alive, so it is kept in memory for some minutes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from handlers.vendors.contract import Page
from service.clock import Clock

T = TypeVar("T")

LONGEST_WAIT_MS = 20_000
KEPT_MS = 10 * 60_000
MOST_PAGES = 512

Key = tuple[str | int | None, ...]


class TookTooLong(Exception):
    """The vendor's turn did not come, or its answer, while somebody waited for it."""


class Lookups:
    """Made once. `key` of a page: all that it depends on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pages: OrderedDict[Key, tuple[int, Page]] = OrderedDict()
        # A lock lives as long as somebody asks for its page.
        self._asking: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def page(self, key: Key, ask: Callable[[], Awaitable[Page]]) -> Page:
        """The page that was kept, or what `ask` finds; however many want it at once, it is asked for once."""
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            kept = self._kept(key)
            if kept is None:
                kept = await ask()
                self._keep(key, kept)
            return kept

    async def patiently(self, question: Coroutine[Any, Any, T]) -> T:
        """What `question` gives, or raises; TookTooLong after LONGEST_WAIT_MS, when it is cut off."""
        asked = asyncio.create_task(question)
        answered = asyncio.Event()
        asked.add_done_callback(lambda _: answered.set())
        try:
            await self._clock.wait(answered, self._clock.now() + LONGEST_WAIT_MS)
            if not asked.done():
                raise TookTooLong
            return asked.result()
        finally:
            asked.cancel()
            await asyncio.wait([asked])

    def _kept(self, key: Key) -> Page | None:
        until, page = self._pages.get(key, (0, None))
        return page if self._clock.monotonic() < until else None

    def _keep(self, key: Key, page: Page) -> None:
        self._pages[key] = (self._clock.monotonic() + KEPT_MS, page)
        self._pages.move_to_end(key)
        if len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
