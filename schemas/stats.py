"""How an endpoint is doing, as it goes out."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from schemas.endpoint import EndpointState
from schemas.forms import Count, EndpointId, Time

Rate = Annotated[float, Field(ge=0, le=1, description="Null where there is nothing to judge by.")]
Milliseconds = Annotated[int, Field(ge=0, description="Of attempts that were answered; null where there was none.")]


class TriedStats(TypedDict):
    """What attempts came to, by their outcome; and how long the receiver took."""

    total: Count
    by_outcome: dict[str, int]
    success_rate: Rate | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p99_ms: Milliseconds | None


class OwedStats(TypedDict):
    """What was owed, by what has become of it; the rate is of those that have ended."""

    total: Count
    by_state: dict[str, int]
    success_rate: Rate | None


class LastAttempt(TypedDict):
    at: Time
    status: int | None
    error: str | None


class EndpointStats(TypedDict):
    """From `since` to `until`; `pending`, `held` and the last ones are as things are now."""

    object: Literal["endpoint_stats"]
    endpoint: EndpointId
    state: EndpointState
    since: Time
    until: Time
    sampled_since: Annotated[
        Time | None,
        Field(
            description="There was too much to look at all of it: only the newest 10,000 deliveries, made since then."
        ),
    ]
    attempts: TriedStats
    deliveries: OwedStats
    pending: Count
    held: Count
    oldest_pending_at: Time | None
    last_success: LastAttempt | None
    last_failure: LastAttempt | None
