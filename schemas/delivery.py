"""A delivery is one event owed to one endpoint; an attempt is one try of it."""

from dataclasses import dataclass
from enum import StrEnum


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    HELD = "held"  # kept for a paused or disabled endpoint
    EXHAUSTED = "exhausted"  # the schedule's last attempt failed
    ABORTED = "aborted"  # the receiver asked us to give this one up
    DISCARDED = "discarded"  # its endpoint was deleted
    EXPIRED = "expired"  # held for EVENT_RETENTION_DAYS, and nobody resumed or enabled its endpoint


class Undelivered(StrEnum):
    """Why a delivery was never taken, and no further attempt is planned."""

    ENDPOINT_PAUSED = "endpoint_paused"
    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_DELETED = "endpoint_deleted"
    EXHAUSTED = "exhausted"
    ABORTED = "aborted"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """What an attempt came to, by the table of outcomes."""

    DELIVERED = "delivered"
    RETRY = "retry"
    SLOW_DOWN = "slow_down"  # a retry that also slows the whole endpoint down
    GONE = "gone"  # the receiver wants no more: the endpoint is disabled
    SUPERSEDED = "superseded"  # delivered late: a later event's picture keeps its place in the shop
    LAST = "last"  # delivered, and the receiver wants no more: the endpoint is disabled
    ABORT = "abort"  # the receiver gives this delivery up
    REFUSED = "refused"  # our credentials are not taken: the endpoint is disabled, and what it is owed is held


# The receiver has it, or what came later, whatever it wants from now on.
ARRIVED = frozenset({Outcome.DELIVERED, Outcome.SUPERSEDED, Outcome.LAST})

# Why there was no answer; an attempt's `error` begins with one of these and a colon.
NO_ANSWER = frozenset({"refused_address", "bad_url", "dns", "connect", "tls", "timeout", "broken", "too_large"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `retry_after` in seconds where the receiver gave it; `response_head` at most 1 KiB of its answer."""

    outcome: Outcome
    started_at: int
    ms: int
    status: int | None = None
    error: str | None = None
    response_head: str | None = None
    retry_after: float | None = None

    @property
    def answer(self) -> str:
        """What came back, in one word of few: the class of its status, such as `5xx`, or why there was none."""
        if self.status is not None:
            return f"{self.status // 100}xx"
        kind = (self.error or "").partition(":")[0]
        return kind if kind in NO_ANSWER else "other"


@dataclass(frozen=True, slots=True)
class Delivery:
    row: int
    id: str
    project: int
    event: str
    event_type: str
    endpoint: str
    state: DeliveryState
    attempts: int
    retry_at: int | None
    created_at: int
    finished_at: int | None
    endpoint_row: int
    # When it was first delivered: it stays so, whatever comes of sending it once more.
    delivered_at: int | None = None
    undelivered: Undelivered | None = None


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An attempt as the ledger keeps it."""

    id: str
    number: int
    attempt: Attempt


@dataclass(slots=True)
class Owed:
    """A pending delivery in this node's hands. Small: a hundred thousand of them fit in memory.

    `round_from`: the attempts before it was wanted once more. `replay`: a replay owes it, and it goes behind live ones.
    """

    delivery: int
    endpoint: int
    event: int
    attempts: int
    round_from: int = 0
    replay: bool = False

    @property
    def tries(self) -> int:
        """How often it was tried in this round: by these the schedule goes."""
        return self.attempts - self.round_from
