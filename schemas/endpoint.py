"""An endpoint is a subscriber's registration."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.event import EventType
from schemas.job import Channel, HttpUrl
from schemas.text import Text

# What a subscription by wildcard leaves out: it would flood who asked for "everything".
ONLY_BY_NAME = frozenset({EventType.JOB_PROGRESSED})

_PATTERNS = frozenset({"*", *EventType, *(f"{name.split('.')[0]}.*" for name in EventType)})
_TOKEN = re.compile(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"}
)


class EndpointState(StrEnum):
    ENABLED = "enabled"
    PAUSED = "paused"
    DISABLED = "disabled"


def _pattern(value: str) -> str:
    if value not in _PATTERNS:
        raise ValueError(f"unknown event type; known are {', '.join(sorted(EventType))}, and job.* or *")
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if lower in _RESERVED_HEADERS or lower.startswith("webhook-"):
            raise ValueError(f"{name} may not be set")
        if not text.isprintable() or not text.isascii():
            raise ValueError(f"the value of {name} must be printable ASCII")
    return value


Pattern = Annotated[str, AfterValidator(_pattern), Field(json_schema_extra={"enum": sorted(_PATTERNS)})]
HeaderValue = Annotated[str, Field(max_length=1024, json_schema_extra={"pattern": "^[ -~]*$"})]
Headers = Annotated[
    dict[str, HeaderValue],
    Field(max_length=16, json_schema_extra={"propertyNames": {"pattern": _TOKEN.pattern}}),
    AfterValidator(_headers),
]


def _without_null(schema: dict[str, Any]) -> None:
    """In a patch None means that a field was left out. To send null is a fault, so the schema does not speak of it."""
    for name, told in schema["properties"].items():
        (value,) = (way for way in told["anyOf"] if way != {"type": "null"})
        schema["properties"][name] = value
    schema["examples"] = [{"max_in_flight": 4}]


class EndpointRequest(BaseModel):
    """The body of `POST /v1/endpoints`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"url": "https://shop.example/hooks/wirephoto", "events": ["job.succeeded", "job.failed"]}]
        },
    )

    url: HttpUrl
    kind: Literal["webhook"] = "webhook"
    events: list[Pattern] = Field(default_factory=lambda: ["*"], min_length=1, max_length=32)
    channels: list[Channel] = Field(default_factory=list, max_length=32, description="Empty: all channels.")
    description: Text = Field("", max_length=500)
    headers: Headers = Field(default_factory=dict, description="Sent with each delivery; their values are secrets.")
    format: Literal["standard"] = "standard"
    signatures: tuple[Literal["v1"]] = ("v1",)
    max_in_flight: int = Field(32, ge=1, le=256, description="Deliveries under way at once.")


class EndpointPatch(BaseModel):
    """The body of `PATCH /v1/endpoints/{id}`: what is absent stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_without_null)

    url: HttpUrl | None = None
    events: list[Pattern] | None = Field(None, min_length=1, max_length=32)
    channels: list[Channel] | None = Field(None, max_length=32)
    description: Text | None = Field(None, max_length=500)
    headers: Headers | None = None
    max_in_flight: int | None = Field(None, ge=1, le=256)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as the store holds it; `sealed_secret` and `sealed_headers` are encrypted."""

    row: int
    id: str
    project: int
    job: int | None
    kind: str
    url: str
    events: tuple[str, ...]
    channels: tuple[str, ...]
    description: str
    header_names: tuple[str, ...]
    sealed_headers: str
    sealed_secret: str
    max_in_flight: int
    state: EndpointState
    disabled_reason: str | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint as a destination needs it: with its secrets open. Never logged."""

    id: str
    kind: str
    url: str
    secret: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Target(id={self.id!r}, kind={self.kind!r})"


def wants(endpoint: Endpoint, event_type: str, channels: tuple[str, ...]) -> bool:
    """Whether an endpoint subscribed to such an event."""
    if endpoint.channels and not set(endpoint.channels) & set(channels):
        return False
    if event_type in endpoint.events:
        return True
    if event_type in ONLY_BY_NAME:
        return False
    return "*" in endpoint.events or f"{event_type.split('.')[0]}.*" in endpoint.events
