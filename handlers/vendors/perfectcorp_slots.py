"""Slots that were opened ahead: one file call opens many, and each call counts against the vendor's scarce windows.

A job that finds others of its operation behind it opens their slots too; they take them without a request. A slot that
nobody takes holds nothing and costs nothing.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from handlers.vendors.contract import Memory
from handlers.vendors.perfectcorp_files import Slot

# How many jobs' slots are opened ahead, and for how long they are trusted: the document says neither.
MOST_AHEAD = 9
TRUSTED_MS = 10 * 60_000

Opens = Callable[[Sequence[str]], Awaitable[Sequence[Slot]]]
"""The file call: a slot for each content type, in their order."""


@dataclass
class _Shelf:
    """One account's open slots by operation and content type, each with the time it was opened at."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    open: defaultdict[tuple[str, str], deque[tuple[int, Slot]]] = field(default_factory=lambda: defaultdict(deque))


class Slots:
    """Those of all accounts, told apart by their memories."""

    def __init__(self) -> None:
        self._all: WeakKeyDictionary[Memory, _Shelf] = WeakKeyDictionary()

    async def take(
        self, memory: Memory, slug: str, types: Sequence[str], behind: int, now: Callable[[], int], opens: Opens
    ) -> list[Slot]:
        """A slot for each content type; `behind` more jobs that need the same are thought of where a call is made."""
        shelf = self._all.setdefault(memory, _Shelf())
        async with shelf.lock:
            while (taken := self._taken(shelf, slug, types, now())) is None:
                wanted = list(types) * (1 + min(behind, MOST_AHEAD))
                for content_type, slot in zip(wanted, await opens(wanted), strict=True):
                    shelf.open[slug, content_type].append((now(), slot))
            return taken

    def distrust(self, memory: Memory, slug: str) -> bool:
        """Storage refused one: throw the others away; whether there were any."""
        shelf = self._all.get(memory)
        if shelf is None:
            return False
        held = [slots for (of, _), slots in shelf.open.items() if of == slug and slots]
        for slots in held:
            slots.clear()
        return bool(held)

    @staticmethod
    def _taken(shelf: _Shelf, slug: str, types: Sequence[str], now: int) -> list[Slot] | None:
        """One for each, or none at all."""
        for content_type in types:
            slots = shelf.open[slug, content_type]
            while slots and now - slots[0][0] > TRUSTED_MS:
                slots.popleft()
            if len(slots) < types.count(content_type):
                return None
        return [shelf.open[slug, content_type].popleft()[1] for content_type in types]
