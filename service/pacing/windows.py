"""Sliding windows, pure: may one more request be sent now, and if not, when?

A request is counted from before it is sent until its answer is here plus the window's length: the vendor counted it
at some instant between, so no delay on the way can make the vendor see more than we count.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from handlers.vendors.contract import Window


@dataclass(slots=True)
class Sent:
    """One request; `finished_at` None while its answer is out."""

    started_at: int
    finished_at: int | None = None


@dataclass
class Windows:
    """All windows of one account. Times in milliseconds."""

    limits: Sequence[Window]
    sent: deque[Sent] = field(default_factory=deque)

    @property
    def longest_ms(self) -> int:
        return max((_ms(window) for window in self.limits), default=0)

    def free_at(self, now: int) -> int | None:
        """When the next request may go: `now`, a later time, or None while only an answer can make room."""
        self._forget(now)
        earliest = now
        for window in self.limits:
            ends = sorted(
                entry.finished_at + _ms(window)
                for entry in self.sent
                if entry.finished_at is not None and entry.finished_at + _ms(window) > now
            )
            under_way = sum(entry.finished_at is None for entry in self.sent)
            excess = under_way + len(ends) - window.requests + 1
            if excess > len(ends):
                return None
            if excess > 0:
                earliest = max(earliest, ends[excess - 1])
        return earliest

    def send(self, now: int) -> Sent:
        entry = Sent(now)
        self.sent.append(entry)
        return entry

    def left(self, now: int) -> list[int]:
        """How many requests each window would still take now."""
        return [
            window.requests
            - sum(entry.finished_at is None or entry.finished_at + _ms(window) > now for entry in self.sent)
            for window in self.limits
        ]

    def _forget(self, now: int) -> None:
        longest = self.longest_ms
        self.sent = deque(
            entry for entry in self.sent if entry.finished_at is None or entry.finished_at + longest > now
        )


def _ms(window: Window) -> int:
    return round(window.seconds * 1000)
