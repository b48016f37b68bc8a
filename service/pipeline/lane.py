"""Beside the eighth step: one endpoint's queue in this node's memory, and when its next attempt may begin."""

import asyncio
import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import attrgetter

from schemas.delivery import Owed
from schemas.endpoint import Endpoint, RateLimit, Target
from service.clock import Clock
from service.pipeline.breaker import Breaker

_BY_EVENT = attrgetter("event")


@dataclass(slots=True)
class Pace:
    """When attempts of late began, on a clock that is never set; so many may begin within any span of the limit.

    `reserved`: those that were let through and have not begun yet: first their message is read.
    """

    begun: deque[int] = field(default_factory=deque)
    reserved: int = 0
    limited: bool = False

    def free_at(self, limit: RateLimit, nodes: int, now: int) -> int:
        """When the next may begin: `now` or later. `nodes`: how many share the limit, each its part of it."""
        span = span_ms(limit)
        while self.begun and self.begun[0] + span <= now:
            self.begun.popleft()
        over = len(self.begun) + self.reserved - max(1, limit.requests // nodes)
        if over < 0:
            return now
        return self.begun[over] + span if over < len(self.begun) else now + span

    def begin(self, clock: Clock) -> None:
        """What was reserved begins now."""
        self.reserved -= 1
        if self.limited:
            self.begun.append(clock.monotonic())


def span_ms(limit: RateLimit) -> int:
    # Our clock cuts off what is below a millisecond: two instants that it puts a span apart may lie 1 ms closer.
    return math.ceil(limit.seconds * 1000) + 1


@dataclass(slots=True)
class Lane:
    """`endpoint` is None until it is loaded, and again after it was changed; `target` comes and goes with it.

    What is sent once more waits in `behind` until nothing live waits. `filling` loads the endpoint or, where it is
    `resting`, waits until the next attempt may begin.
    """

    row: int
    waiting: deque[Owed] = field(default_factory=deque)
    behind: deque[Owed] = field(default_factory=deque)
    in_flight: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    pace: Pace = field(default_factory=Pace)
    # The endpoint's own, in milliseconds; None: the service's.
    schedule: tuple[int, ...] | None = None
    endpoint: Endpoint | None = None
    target: Target | None = None
    changes: int = 0
    filling: asyncio.Task[None] | None = None
    resting: bool = False

    @property
    def most(self) -> int:
        """How many may be under way at once."""
        assert self.endpoint is not None
        terms = self.endpoint.terms
        return 1 if terms.ordered or self.breaker.cautious else terms.max_in_flight

    @property
    def is_shop(self) -> bool:
        return self.target is not None and self.target.shop is not None

    @property
    def count(self) -> int:
        return len(self.waiting) + len(self.behind) + self.in_flight

    @property
    def has_more(self) -> bool:
        return bool(self.waiting or self.behind)

    @property
    def remembers(self) -> bool:
        """Whether it knows what a new lane would not."""
        if self.pace.begun:
            return True
        # A job's own webhook will hardly be needed again, and of one that was changed there is nothing to remember.
        return self.breaker.remembers and self.endpoint is not None and self.endpoint.job is None

    def put(self, owed: Owed) -> None:
        (self.behind if owed.replay else self.waiting).append(owed)

    @property
    def restrained(self) -> bool:
        """Whether its next attempt may have to wait at all."""
        return self.pace.limited or self.breaker.not_before > 0

    def free_at(self, now: int, monotonic: int, nodes: int) -> int:
        """When its next attempt may begin: `now` or later."""
        assert self.endpoint is not None
        limit = self.endpoint.terms.rate_limit
        paced = 0 if limit is None else self.pace.free_at(limit, nodes, monotonic) - monotonic
        return max(self.breaker.not_before, now + paced)

    def take(self) -> Owed:
        """The next to be sent: live first."""
        self.in_flight += 1
        self.pace.reserved += 1
        return (self.waiting or self.behind).popleft()

    def loaded(self, endpoint: Endpoint, target: Target) -> None:
        self.endpoint, self.target = endpoint, target
        schedule = endpoint.terms.retry_schedule
        self.schedule = None if schedule is None else tuple(1000 * seconds for seconds in schedule)
        self.pace.limited = endpoint.terms.rate_limit is not None
        if not self.pace.limited:
            self.pace.begun.clear()
        self.breaker.failing_since, self.breaker.broken_at = endpoint.failing_since, endpoint.broken_at
        # What was asked for just now may not be written down yet.
        self.breaker.rest_until = max(self.breaker.rest_until, endpoint.rest_until or 0)

    def unload(self) -> None:
        """What is known of the endpoint is stale."""
        self.endpoint = self.target = None
        self.changes += 1

    def sort(self) -> None:
        """Oldest first: retries that came due while others waited stand behind them."""
        self.waiting = deque(sorted(self.waiting, key=_BY_EVENT))

    def drop(self, live: int, behind: int, keep: Collection[int] = ()) -> None:
        """Of the first so many of each queue only those deliveries stay that are to be kept."""
        for queue, count in ((self.waiting, live), (self.behind, behind)):
            queue.extendleft(
                reversed([owed for owed in [queue.popleft() for _ in range(count)] if owed.delivery in keep])
            )
