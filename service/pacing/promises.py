"""The timetable of keep-alives, pure: could every task in flight be asked in time, should each live to its deadline?

Each question is put as late as its keep-alive allows, and earlier where the windows would be full by then: earliest
deadline first, each at the latest instant that leaves all windows kept. What can be put so is promised; a new task, or
a question that need not be asked, is let through only where all promises can still be kept beside it.

This finds a timetable nearly always, but not always where there is one: so one that was found is held on to, and where
the next attempt finds none it is followed to its end.
"""

import heapq
import itertools
from bisect import bisect_left, bisect_right, insort
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
        crowd = self._crowd(at)
        return at if crowd is None else crowd[1] - self._length

    def earliest(self, at: int) -> int:
        """`at`, or the next later instant that may be free."""
        crowd = self._crowd(at)
        return at if crowd is None else crowd[0] + self._length

    def take(self, at: int) -> None:
        insort(self._taken, at)

    def _crowd(self, at: int) -> tuple[int, int] | None:
        """First and last of the latest run of requests that one more at `at` would make too many."""
        taken, most, length = self._taken, self._requests, self._length
        place = bisect_right(taken, at)
        # A run that begins a length before, or ends a length behind, is not made too many by it.
        latest = min(place, bisect_left(taken, at + length) - most)
        earliest = max(place - most, bisect_right(taken, at - length))
        for first in range(latest, earliest - 1, -1):
            begin, end = taken[first], taken[first + most - 1]
            if end - begin < length:
                return begin, end
        return None


@dataclass(frozen=True, slots=True)
class Chain:
    """A task's questions, should it live to its deadline: one each `period` at the latest, the last one after `until`.

    Times in milliseconds. `kept_at`: when it was last asked. Not sooner than `earliest` and than `least` after another,
    where that is in time; and not before `again`. All of them count in its `ledgers`.
    """

    key: int
    kept_at: int
    again: int
    earliest: int
    least: int
    period: int
    until: int
    ledgers: tuple[Ledger, ...]

    def due(self, now: int) -> int:
        """What is late already is due now."""
        return max(self.kept_at + self.period, self.again, now)


@dataclass(frozen=True, slots=True)
class Timetable:
    """When each task is to be asked, in order; `kept`: none of them, now or later, too late."""

    instants: Mapping[int, Sequence[int]]
    kept: bool

    def next_at(self, key: int) -> int | None:
        instants = self.instants.get(key)
        return instants[0] if instants else None


NOTHING = Timetable({}, kept=True)


def place_from(at: int, ledgers: Sequence[Ledger]) -> int:
    """Take the first instant from `at` on that keeps all windows."""
    while (later := max((ledger.earliest(at) for ledger in ledgers), default=at)) > at:
        at = later
    for ledger in ledgers:
        ledger.take(at)
    return at


def timetable(chains: Iterable[Chain], now: int) -> Timetable:
    """Fills the ledgers. What can't be asked in time is asked as soon as it may be: not all that is late is lost."""
    order = itertools.count()
    owed = []
    for chain in chains:
        if chain.kept_at >= chain.until:
            continue
        due = chain.due(now)
        since = max(chain.kept_at + chain.least, chain.earliest, chain.again, now)
        owed.append((due, next(order), min(since, due), chain))
    heapq.heapify(owed)
    instants: dict[int, list[int]] = {}
    kept = True
    while owed:
        at, _, since, chain = heapq.heappop(owed)
        while (earlier := min((ledger.latest(at) for ledger in chain.ledgers), default=at)) < at:
            at = earlier
        if at >= since:
            for ledger in chain.ledgers:
                ledger.take(at)
        else:
            at, kept = place_from(since, chain.ledgers), False
        instants.setdefault(chain.key, []).append(at)
        # The question that finds it past its deadline is owed too: it may have finished right before.
        if at < chain.until:
            heapq.heappush(owed, (at + chain.period, next(order), at + min(chain.least, chain.period), chain))
    return Timetable(instants, kept)


def followed(earlier: Timetable, chains: Sequence[Chain], now: int, slip: int) -> Timetable:
    """Fills the ledgers as an earlier timetable says. A question may slip by so many milliseconds.

    Not `kept` where it no longer can be, or where it does not have all of the chains.
    """
    asked_at = {chain.key: max(chain.kept_at, chain.due(now) - chain.period) for chain in chains}
    owed = sorted(
        (max(at, now), number)
        for number, chain in enumerate(chains)
        for at in earlier.instants.get(chain.key, ())
        if at > chain.kept_at
    )
    instants: dict[int, list[int]] = {}
    kept = True
    for at, number in owed:
        chain = chains[number]
        if asked_at[chain.key] >= chain.until:
            continue
        at = place_from(max(at, chain.again), chain.ledgers)
        kept = kept and at - asked_at[chain.key] <= chain.period + slip
        instants.setdefault(chain.key, []).append(at)
        asked_at[chain.key] = at
    return Timetable(instants, kept and all(asked_at[chain.key] >= chain.until for chain in chains))
