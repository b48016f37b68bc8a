"""A vendor that forgives nothing, in virtual time: it counts to the instant, and drops what was not asked for in time.

Times are milliseconds with their fractions.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from handlers.vendors.contract import Window


class Said(Enum):
    """What it answers to a question."""

    RUNNING = 1
    FINISHED = 2
    UNKNOWN = 3


@dataclass
class Work:
    """One task as the vendor has it. `lost_at`: when it was found that nobody had asked in time."""

    name: str
    made_at: float
    done_at: float
    asked_at: float
    lost_at: float | None = None
    questions: int = 0


@dataclass
class StrictVendor:
    """`keep_alive` in seconds. A refusal is noted in `refusals` with its time and the window that was full."""

    windows: Sequence[Window]
    keep_alive: float | None = None
    counted: dict[tuple[str, str], deque[float]] = field(default_factory=lambda: defaultdict(deque))
    works: dict[str, Work] = field(default_factory=dict)
    refusals: list[tuple[float, Window]] = field(default_factory=list)
    requests: int = 0
    too_early: int = 0

    def takes(self, account: str | None, at: float) -> bool:
        """Whether a request that arrives now keeps all windows; `account` None: it is counted per IP alone."""
        self.requests += 1
        books = [
            (window, self.counted[window.scope, "" if window.scope == "ip" else account or ""])
            for window in self.windows
            if window.scope == "ip" or account is not None
        ]
        for window, book in books:
            if len(book) >= window.requests and at - book[-window.requests] < window.seconds * 1000:
                self.refusals.append((at, window))
                return False
        for book in {id(book): book for _, book in books}.values():
            book.append(at)
        return True

    def submitted(self, name: str, life: float, at: float) -> str:
        """A job is told apart by its name: the same one twice makes one task. `life` in seconds."""
        if name not in self.works:
            self.works[name] = Work(name, at, at + 1000 * life, at)
        return name

    def asked(self, name: str, at: float, *, least: float = 0) -> Said:
        """`least`: the milliseconds between two questions that it allows; fewer are noted in `too_early`."""
        work = self.works[name]
        self.look(work, at)
        if work.lost_at is not None:
            return Said.UNKNOWN
        self.too_early += work.questions > 0 and at - work.asked_at < least
        work.asked_at, work.questions = at, work.questions + 1
        return Said.FINISHED if at >= work.done_at else Said.RUNNING

    def look(self, work: Work, at: float) -> None:
        if self.keep_alive is not None and work.lost_at is None and at - work.asked_at > self.keep_alive * 1000:
            work.lost_at = at

    @property
    def lost(self) -> Sequence[Work]:
        return [work for work in self.works.values() if work.lost_at is not None]
