"""Beside the eighth step, pure: what attempts say about a receiver as a whole, and when it is asked again.

After some failures in a row a lane is cautious: one at a time. After more of them the receiver counts as broken: it is
probed, with one delivery at a time and ever more seldom, and what waits keeps its attempts. The first success ends all
of it. What must outlive a restart is a `Mark` or a `Rest`, written in the unit that records the attempt.
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.delivery import ARRIVED, Attempt, Outcome
from service.pipeline import retry

# So many failures in a row, and the lane sends one at a time until something is delivered.
FAILURES_BEFORE_CAUTION = 3
# So many, and the receiver is only probed.
FAILURES_BEFORE_BROKEN = 10
# An endpoint that has only failed for so long is disabled.
AUTO_DISABLE_MS = 5 * 24 * retry.HOUR
# The wait that a receiver asks for without saying how long.
SLOW_DOWN_SECONDS = 1.0

# Who gives a delivery up has read it: nothing is wrong with its receiver.
_ALIVE = frozenset({*ARRIVED, Outcome.ABORT})

_DISABLING = frozenset({Outcome.GONE, Outcome.REFUSED})


class Mark(StrEnum):
    """What the store is to remember of a receiver."""

    FAILING = "failing"  # the first failure
    BROKEN = "broken"
    WELL = "well"  # it takes again what it is sent
    HOPELESS = "hopeless"  # it has failed for too long


@dataclass(frozen=True, slots=True)
class Rest:
    """What a receiver said at `said_at`: that it wants nothing before `until`. Both in milliseconds."""

    said_at: int
    until: int


def rest_after(attempt: Attempt, now: int) -> Rest | None:
    """What its answer asks for everything that is sent to this receiver, if it does."""
    return Rest(now, now + _asked_ms(attempt)) if attempt.outcome is Outcome.SLOW_DOWN else None


@dataclass(slots=True)
class Breaker:
    """Of one lane. Times in milliseconds; `failures` in a row, `probes` that failed since it broke."""

    failing_since: int | None = None
    broken_at: int | None = None
    failures: int = 0
    probes: int = 0
    # What the receiver asked for, and what we give it.
    rest_until: int = 0
    probe_at: int = 0

    @property
    def cautious(self) -> bool:
        return self.failures >= FAILURES_BEFORE_CAUTION or self.broken_at is not None

    @property
    def remembers(self) -> bool:
        """Something that is in no row."""
        return self.failures > 0 or self.broken_at is not None

    @property
    def not_before(self) -> int:
        return max(self.rest_until, self.probe_at)

    def judge(self, attempt: Attempt, now: int, jitter: float) -> Mark | None:
        """`jitter`: a random number from -1 to 1. None: nothing new."""
        if attempt.outcome is Outcome.ABORT and attempt.status is None:
            # What can't be put into a shop is given up unasked: of the shop that says nothing.
            return None
        if attempt.outcome in _ALIVE:
            return self._recover()
        if attempt.outcome in _DISABLING:
            # Disabled with its own words: the next who enables it vouches for it.
            return None
        self.failures += 1
        if (rest := rest_after(attempt, now)) is not None:
            self.rest_until = max(self.rest_until, rest.until)
        mark = self._fail(now)
        # Attempts that were under way when it broke say nothing new.
        if self.broken_at is not None and self.probe_at <= now:
            pause = round(retry.backoff(self.probes) * (1 + retry.JITTER * jitter))
            self.probe_at = now + max(pause, _asked_ms(attempt))
            self.probes += 1
        return mark

    def _recover(self) -> Mark | None:
        known = self.failing_since is not None
        self.failing_since = self.broken_at = None
        self.failures = self.probes = self.probe_at = 0
        return Mark.WELL if known else None

    def _fail(self, now: int) -> Mark | None:
        first = self.failing_since is None
        if self.failing_since is None:
            self.failing_since = now
        if self.broken_at is not None:
            # After a start or a change by failures of its own: for most of the time nobody may have asked it.
            sure = self.failures > FAILURES_BEFORE_BROKEN
            return Mark.HOPELESS if sure and now - self.failing_since >= AUTO_DISABLE_MS else None
        if self.failures >= FAILURES_BEFORE_BROKEN:
            self.broken_at = now
            return Mark.BROKEN
        return Mark.FAILING if first else None


def _asked_ms(attempt: Attempt) -> int:
    """How long the receiver wants to be left alone."""
    if attempt.retry_after is None:
        return round(SLOW_DOWN_SECONDS * 1000) if attempt.outcome is Outcome.SLOW_DOWN else 0
    return round(min(attempt.retry_after * 1000, retry.LONGEST_RETRY_AFTER))
