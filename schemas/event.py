"""Events: immutable outward facts, numbered per project."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    JOB_QUEUED = "job.queued"
    JOB_SUBMITTED = "job.submitted"
    JOB_PROGRESSED = "job.progressed"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELED = "job.canceled"
    ENDPOINT_DISABLED = "endpoint.disabled"
    ENDPOINT_RECOVERED = "endpoint.recovered"
    DELIVERY_EXHAUSTED = "delivery.exhausted"
    VENDOR_UNAVAILABLE = "vendor.unavailable"
    VENDOR_RECOVERED = "vendor.recovered"
    VENDOR_CREDITS_LOW = "vendor.credits_low"


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the store holds it; `payload` is byte for byte what is signed."""

    row: int
    id: str
    project: int
    sequence: int
    type: EventType
    payload: str
    created_at: int
    job: int | None = None


def rfc3339(at: int) -> str:
    """`at` (milliseconds since 1970) in UTC with milliseconds, as every answer and event gives it."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03d}Z"


def envelope(event_id: str, event_type: str, at: int, sequence: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """The event as subscribers receive it; these bytes are the ones that are signed."""
    return {"id": event_id, "type": event_type, "timestamp": rfc3339(at), "sequence": sequence, "data": data}
