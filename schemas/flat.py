"""The flat form of an event: one level, for tools that show people a list of fields.

First the scalars, under names that are the same for every event about the same kind of object: what there is none of is
null. Then what users and vendors name themselves, each with its prefix: `metadata_KEY`, `param_NAME`, `input_NAME_…`,
and a second picture's `mask_url`. A list of texts is one text with commas. Pictures are links, never their bytes. Last,
because it is a list of things, `outputs` of a job; and `filter` of an endpoint.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from schemas.answers import Delivery, Job, Output, VendorStatus
from schemas.delivery import DeliveryState
from schemas.endpoint import EndpointState, Format
from schemas.event import EventType
from schemas.forms import AssetId, Count, Decimal, DeliveryId, EndpointId, EventId, JobId, Sha256, Time, Url
from schemas.job import Charged, ErrorClass, JobState
from schemas.subscriptions import Endpoint

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
# Pictures beside the first, named by the operation.
_OTHERS = r"^(?!metadata_|param_|input_)[a-z0-9_]+_"
_FOUND: Mapping[str, Any] = {
    "^metadata_": {"type": "string"},
    "^param_": _SCALAR,
    "^input_": _SCALAR,
    rf"{_OTHERS}(url|asset|content_type|sha256)$": {"type": ["string", "null"]},
    rf"{_OTHERS}(bytes|width|height)$": {"type": ["integer", "null"]},
}


class FlatEvent(TypedDict):
    """What every event has."""

    id: EventId
    type: str
    timestamp: Time
    sequence: Count
    object: str


@with_config(ConfigDict(json_schema_extra={"patternProperties": dict(_FOUND)}))
class FlatJob(FlatEvent):
    """An event about a job. `image_…` is the result of that name; other results have names of their own."""

    job_id: JobId
    operation: str
    vendor: str
    state: JobState
    image_url: Url | None
    image_width: Count | None
    image_height: Count | None
    image_content_type: str | None
    image_bytes: Count | None
    image_sha256: Sha256 | None
    image_asset: AssetId | None
    error_class: ErrorClass | None
    error_code: str | None
    error_message: str | None
    error_retryable: bool | None
    credits: Decimal | None
    charged: Charged
    possible_duplicate: bool
    progress: int | None
    submissions: Count
    vendor_task_id: str | None
    retry_of: JobId | None
    created_at: Time
    submitted_at: Time | None
    finished_at: Time | None
    channels: str
    outputs: list[Output]


class FlatEndpoint(FlatEvent):
    """An event about an endpoint."""

    endpoint_id: EndpointId
    url: Url | None
    kind: str
    state: EndpointState
    disabled_reason: str | None
    description: str
    events: str
    channels: str
    headers: str
    format: Format
    signatures: str
    rate_limit_requests: Count | None
    rate_limit_seconds: float | None
    max_in_flight: int
    ordered: bool
    retry_schedule: str | None
    created_at: Time
    updated_at: Time
    filter: dict[str, Any]


class FlatDelivery(FlatEvent):
    """An event about a delivery; `event_id` is the event that was owed, not this one."""

    delivery_id: DeliveryId
    event_id: EventId
    event_type: EventType
    endpoint_id: EndpointId
    state: DeliveryState
    attempt_count: Count
    next_attempt_at: Time | None
    created_at: Time
    finished_at: Time | None


class FlatVendorStatus(FlatEvent):
    """An event about a vendor; `credits_left` where the vendor has said so."""

    vendor: str
    healthy: bool
    reason: str | None
    since: Time
    credits_left: Decimal | None


FLAT: Mapping[type, type] = {
    Job: FlatJob,
    Endpoint: FlatEndpoint,
    Delivery: FlatDelivery,
    VendorStatus: FlatVendorStatus,
}

_OF_A_PICTURE = ("url", "width", "height", "content_type", "bytes", "sha256", "asset")


def flat(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event, as it stands in the log, in this form. One of an earlier version may lack a name: that is null here."""
    data = event["data"]
    head = {name: event[name] for name in ("id", "type", "timestamp", "sequence")}
    noun = data.get("object")
    return {**head, "object": noun, **_BY_NOUN.get(noun, _any)(data)}


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    outputs, error, billing = job.get("outputs") or [], job.get("error") or {}, job.get("billing") or {}
    by_name = {output["name"]: output for output in outputs}
    return {
        "job_id": job["id"],
        **_these(job, "operation", "vendor", "state"),
        **_picture("image", by_name.pop("image", {})),
        **{f"error_{name}": error.get(name) for name in ("class", "code", "message", "retryable")},
        **_these(billing, "credits", "charged", "possible_duplicate"),
        **_these(job, "progress", "submissions", "vendor_task_id", "retry_of"),
        **_these(job, "created_at", "submitted_at", "finished_at"),
        "channels": _listed(job.get("channels")) or "",
        **{name: value for key, output in by_name.items() for name, value in _picture(key, output).items()},
        **{f"metadata_{key}": value for key, value in (job.get("metadata") or {}).items()},
        **dict(_scalars("param", job.get("params") or {})),
        **{
            name: value
            for key, source in (job.get("inputs") or {}).items()
            for name, value in _scalars(f"input_{key}", source)
        },
        "outputs": outputs,
    }


def _picture(name: str, output: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_{part}": output.get(part) for part in _OF_A_PICTURE}


def _endpoint(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    limit = endpoint.get("rate_limit") or {}
    return {
        "endpoint_id": endpoint["id"],
        **_these(endpoint, "url", "kind", "state", "disabled_reason", "description"),
        **{name: _listed(endpoint.get(name)) or "" for name in ("events", "channels", "headers")},
        "format": endpoint.get("format"),
        "signatures": _listed(endpoint.get("signatures")) or "",
        **{f"rate_limit_{name}": limit.get(name) for name in ("requests", "seconds")},
        "max_in_flight": endpoint.get("max_in_flight"),
        "ordered": endpoint.get("ordered", False),
        "retry_schedule": _listed(endpoint.get("retry_schedule")),
        **_these(endpoint, "created_at", "updated_at"),
        "filter": endpoint.get("filter") or {},
    }


def _delivery(delivery: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "delivery_id": delivery["id"],
        "event_id": delivery["event"],
        "event_type": delivery["event_type"],
        "endpoint_id": delivery["endpoint"],
        **_these(delivery, "state", "attempt_count", "next_attempt_at", "created_at", "finished_at"),
    }


def _vendor(status: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vendor": status["id"],
        **_these(status, "healthy", "reason", "since"),
        "credits_left": status.get("credits"),
    }


def _any(data: Mapping[str, Any]) -> dict[str, Any]:
    """What this version does not know."""
    return dict(_scalars("data", data))


_BY_NOUN: Mapping[Any, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "job": _job,
    "endpoint": _endpoint,
    "delivery": _delivery,
    "vendor": _vendor,
}


def _these(object_: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: object_.get(name) for name in names}


def _scalars(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value that can be one field; a list of such as one text. What is deeper is left to the other formats."""
    for name, value in values.items():
        if isinstance(value, list) and not any(isinstance(entry, list | dict) for entry in value):
            yield f"{prefix}_{name}", _listed(value)
        elif not isinstance(value, list | dict):
            yield f"{prefix}_{name}", value


def _listed(values: list[Any] | None) -> str | None:
    if values is None:
        return None
    return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in values)
