"""The timetable of keep-alives, pure: could every task in flight be asked in time, should each live to its deadline?

Each question is put as late as its keep-alive allows, and earlier where the windows would be full by then: earliest
deadline first, each at the latest instant that leaves all windows kept. What can be put so is promised; a new task, or
a question that need not be asked, is let through only where all promises can still be kept beside it.
"""

import heapq
import itertools
from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class Ledger:
    """When requests were and will be counted in one window: at most `requests` in any `length` milliseconds."""

    def __init__(self, requests: int, length: int, taken: Iterable[int]) -> None:
        self._requests = requests
        self._length = length
        self._taken = sorted(taken)

    def latest(self, at: int) -> int:
        """`at`, or the next earlier instant that may be free."""
        for first, last in self._crowds(at):
            if max(last, at) - min(first, at) < self._length:
                return last - self._length
        return at

    def earliest(self, at: int) -> int:
        """`at`, or the next later instant that may be free."""
        for first, last in self._crowds(at):
            if max(last, at) - min(first, at) < self._length:
                return first + self._length
        return at

    def take(self, at: int) -> None:
        insort(self._taken, at)

    def _crowds(self, at: int) -> Iterable[tuple[int, int]]:
        """First and last of each run of requests that one more at `at` might make too many; the latest run first."""
        place, most = bisect_right(self._taken, at), self._requests
        for first in range(min(place, len(self._taken) - most), max(0, place - most) - 1, -1):
            yield self._taken[first], self._taken[first + most - 1]


@dataclass(frozen=True, slots=True)
class Chain:
    """A task's questions, should it live to its deadline: the first by `due`, then one each `period`, before `until`.

    Times in milliseconds. `ledgers` are those that its requests count in.
    """

    key: int
    due: int
    period: int
    until: int
    ledgers: tuple[Ledger, ...]


def place_from(at: int, ledgers: Sequence[Ledger]) -> int:
    """Take the first instant from `at` on that keeps all windows."""
    while (later := max((ledger.earliest(at) for ledger in ledgers), default=at)) > at:
        at = later
    for ledger in ledgers:
        ledger.take(at)
    return at


@dataclass(frozen=True, slots=True)
class Timetable:
    """When each task is to be asked next; `kept`: none of them, now or later, too late."""

    next_at: Mapping[int, int]
    kept: bool


def timetable(chains: Iterable[Chain], now: int) -> Timetable:
    """Fills the ledgers. What can't be asked in time is asked as soon as it may be: not all that is late is lost."""
    order = itertools.count()
    owed = [(chain.due, next(order), chain) for chain in chains if chain.due < chain.until]
    heapq.heapify(owed)
    promised: dict[int, int] = {}
    kept = True
    while owed:
        due, _, chain = heapq.heappop(owed)
        at = due
        while (earlier := min((ledger.latest(at) for ledger in chain.ledgers), default=at)) < at:
            at = earlier
        if at >= now:
            for ledger in chain.ledgers:
                ledger.take(at)
        else:
            at, kept = place_from(now, chain.ledgers), False
        promised.setdefault(chain.key, at)
        if at + chain.period < chain.until:
            heapq.heappush(owed, (at + chain.period, next(order), chain))
    return Timetable(promised, kept)
