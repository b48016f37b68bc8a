"""A replay: a range of the log is owed to one endpoint once more. Its request, the row, and the answers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from schemas.forms import Count, EndpointId, ReplayId, Time


class Which(StrEnum):
    """Of the events in the range: those that the endpoint was owed and never got, or all that it wants."""

    UNDELIVERED = "undelivered"
    ALL = "all"


class ReplayState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"  # the whole range has been gone through; the last deliveries may still be pending
    CANCELED = "canceled"


def _moment(value: Any) -> int:
    """Milliseconds since 1970 of a time as RFC 3339 writes it; without its offset nobody knows when it is."""
    try:
        if not isinstance(value, str) or value[10] not in "Tt ":
            raise ValueError
        at = datetime.fromisoformat(value.upper())
        if at.tzinfo is None:
            raise ValueError
        # Nothing was logged before.
        return max(round(at.timestamp() * 1000), 0)
    except (ValueError, IndexError, OverflowError):
        raise ValueError("must be a time with its offset, such as 2026-08-01T12:30:00Z") from None


_TIME = {"type": "string", "format": "date-time"}
Moment = Annotated[int, BeforeValidator(_moment), WithJsonSchema(_TIME)]


class ReplayRequest(BaseModel):
    """The body of `POST /v1/endpoints/{id}/replay`; both ends of the range belong to it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"since": "2025-08-01T12:00:00Z", "dry_run": True},
                {"since": "2025-08-01T12:00:00Z", "until": "2025-08-01T18:00:00Z", "only": "all"},
            ]
        },
    )

    since: Moment
    until: Moment | None = Field(None, description="Now, where it is left out or lies in the future.")
    only: Which = Which.UNDELIVERED
    dry_run: bool = Field(default=False, strict=True, description="Only count; nothing is sent.")


@dataclass(frozen=True, slots=True)
class Span:
    """What of a project's log is meant: the times, both included, and the sequences between which they lie."""

    project: int
    since: int
    until: int
    which: Which
    after: int
    last: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as the store holds it; `span.after` is how far it has come. `pending`: how much is not settled yet."""

    row: int
    id: str
    endpoint: int
    endpoint_id: str
    span: Span
    state: ReplayState
    total: int
    owed: int
    pending: int
    created_at: int
    finished_at: int | None


class LogBegin(TypedDict):
    """The oldest event that is kept."""

    sequence: Annotated[int, Field(ge=1)]
    timestamp: Annotated[Time | None, Field(description="Null where none is kept now.")]


_OLDEST = Field(description="Where `since` lies before the log: it begins here, and what came before is gone.")


class ReplayAnswer(TypedDict):
    """A range of events that is owed to an endpoint once more."""

    id: ReplayId
    object: Literal["replay"]
    endpoint: EndpointId
    since: Time
    until: Time
    only: Which
    state: ReplayState
    total: Annotated[int, Field(ge=0, description="How many events it was to send when it was made.")]
    owed: Annotated[int, Field(ge=0, description="How many of them have had their turn to be sent so far.")]
    pending: Annotated[int, Field(ge=0, description="How many of these are not settled yet.")]
    created_at: Time
    finished_at: Time | None
    oldest: Annotated[NotRequired[LogBegin], _OLDEST]


class ReplayCount(TypedDict):
    """What a replay would send, counted by the code that would send it."""

    count: Count
    dry_run: Literal[True]
    oldest: Annotated[NotRequired[LogBegin], _OLDEST]
