"""Beside the eighth step: how many attempts may be under way at once, and who is next where there is room again.

They have one bound for all lanes, for sockets are finite; the more there are, the fairer it is. Shops have a part of
it, for an attempt there may take minutes; and of that part those have theirs who only look whether a shop is fit.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.pipeline.lane import Lane

# What a lane may always have under way; above it only while less than half of the room is taken.
FAIR_SHARE = 4
# Of all that may be under way so much at most is shops': a quarter.
SHOPS_PART = 4
# Of the shops' part so much at most is theirs who only look, a half; and of that so much one project's, a half again.
GUESTS_PART = 2


class Room:
    """`most` at once. `pump` is handed a lane that waited: it takes what it may of the room, or leaves it."""

    def __init__(self, most: int, pump: Callable[[Lane], None]) -> None:
        self.most = most
        self._pump = pump
        self._under_way = self._at_shops = 0
        # By project.
        self._guests: Counter[int] = Counter()
        # Lanes that wait for room: those below their share, and those that have it and want more; shops apart.
        self._crowded: dict[bool, OrderedDict[int, Lane]] = {False: OrderedDict(), True: OrderedDict()}
        self._sated: dict[bool, OrderedDict[int, Lane]] = {False: OrderedDict(), True: OrderedDict()}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def has(self, lane: Lane) -> bool:
        return self._has(lane.is_shop, sated=lane.in_flight >= FAIR_SHARE)

    def wait(self, lane: Lane) -> None:
        """It is handed to `pump` when its turn comes."""
        line = self._crowded if lane.in_flight < FAIR_SHARE else self._sated
        line[lane.is_shop][lane.row] = lane

    def enter(self, *, shop: bool) -> None:
        self._under_way += 1
        self._at_shops += shop

    def leave(self, *, shop: bool) -> None:
        self._under_way -= 1
        self._at_shops -= shop
        self._offer()

    @asynccontextmanager
    async def guest(self, project: int) -> AsyncIterator[None]:
        """Waits until there is room to look at a shop, and has it while the context is open."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((project, place))
        self._let_in()
        try:
            await place
            yield
        finally:
            if place.cancelled():
                # The wait was given up.
                self._waiting = [waiting for waiting in self._waiting if waiting[1] is not place]
            else:
                self._guests -= Counter([project])
                self.leave(shop=True)

    def _has(self, shop: bool, *, sated: bool) -> bool:
        if self._under_way >= self.most:
            return False
        under_way, most = self._under_way, self.most
        if shop:
            under_way, most = self._at_shops, self._of_shops
        return under_way < (most // 2 if sated else most)

    @property
    def _of_shops(self) -> int:
        return max(1, self.most // SHOPS_PART)

    def _offer(self) -> None:
        """Who has waited goes first; who has nothing to send any more leaves it to the next."""
        if self._waiting:
            self._let_in()
        for sated, lines in ((False, self._crowded), (True, self._sated)):
            for shop, line in lines.items():
                while line and self._has(shop, sated=sated):
                    self._pump(line.popitem(last=False)[1])

    def _let_in(self) -> None:
        """Who came first, but that no project keeps the others' shops from being looked at."""
        most = max(1, self._of_shops // GUESTS_PART)
        each = max(1, most // GUESTS_PART)
        for project, place in list(self._waiting):
            if self._guests.total() >= most or not self._has(shop=True, sated=False):
                break
            if self._guests[project] < each and not place.done():
                self._waiting.remove((project, place))
                self._guests[project] += 1
                self.enter(shop=True)
                place.set_result(None)
