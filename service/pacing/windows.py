"""Sliding windows, pure: may one more request be sent now, and if not, when?

A request is counted from before it is sent until its answer is here plus the window's length: the vendor counted it
at some instant between, so no delay on the way can make the vendor see more than we count. A call that blocks for
minutes until a picture is done would stop all others; it is taken to have been counted BLOCKING_COUNTED_WITHIN_MS
after it was begun. Times are those of a clock that is never set.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from handlers.vendors.contract import Window

# A vendor counts a request when it has arrived, its upload included, and not when it has done the work.
BLOCKING_COUNTED_WITHIN_MS = 30_000
# Longer than any request's deadline: what has no answer by then never will have one.
COUNTED_WITHIN_MS = 600_000


# Two requests of one millisecond are two.
@dataclass(slots=True, eq=False)
class Sent:
    """One request; `finished_at` None while its answer is out."""

    started_at: int
    finished_at: int | None = None
    blocks: bool = False

    @property
    def counted_by(self) -> int:
        """The latest instant at which the vendor may have counted it."""
        latest = self.started_at + (BLOCKING_COUNTED_WITHIN_MS if self.blocks else COUNTED_WITHIN_MS)
        return latest if self.finished_at is None else min(self.finished_at, latest)


@dataclass(frozen=True, slots=True)
class WindowState:
    """How full a window is. `free_at` is when it lets one more through, where it does not now."""

    window: Window
    used: int
    left: int
    free_at: int | None


@dataclass
class Windows:
    """All windows of one account. Times in milliseconds."""

    limits: Sequence[Window]
    sent: deque[Sent] = field(default_factory=deque)

    def lengths(self) -> Sequence[tuple[Window, int]]:
        """Each window with its length in milliseconds."""
        return [(window, _ms(window)) for window in self.limits]

    @property
    def longest_ms(self) -> int:
        return max((_ms(window) for window in self.limits), default=0)

    def free_at(self, now: int) -> int:
        """When the next request may go: `now` or later. An answer that comes meanwhile may make it sooner."""
        self._forget(now)
        return max([now, *(state.free_at for state in self.state(now) if state.free_at is not None)])

    def state(self, now: int) -> Sequence[WindowState]:
        """Each window at `now`. A request without its answer counts as used: the vendor may count it yet."""
        return [self._state(window, now) for window in self.limits]

    def _state(self, window: Window, now: int) -> WindowState:
        ends = sorted(end for entry in self.sent if (end := entry.counted_by + _ms(window)) > now)
        excess = len(ends) - window.requests + 1
        # Fewer may be allowed now than were sent under an earlier setting.
        return WindowState(window, len(ends), max(1 - excess, 0), ends[excess - 1] if excess > 0 else None)

    def send(self, now: int, *, blocks: bool = False) -> Sent:
        entry = Sent(now, blocks=blocks)
        self.sent.append(entry)
        return entry

    def _forget(self, now: int) -> None:
        longest = self.longest_ms
        self.sent = deque(entry for entry in self.sent if entry.counted_by + longest > now)


def _ms(window: Window) -> int:
    # Our clock cuts off what is below a millisecond: two instants that it puts W apart may lie almost 1 ms closer.
    return math.ceil(window.seconds * 1000) + 1
