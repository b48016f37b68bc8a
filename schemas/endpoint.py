"""An endpoint is a subscriber's registration."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas import filters
from schemas.event import EventType
from schemas.job import Channel, HttpUrl
from schemas.text import Text

# What a subscription by wildcard leaves out: it would flood who asked for "everything".
ONLY_BY_NAME = frozenset({EventType.JOB_PROGRESSED})

# The kind whose deliveries wait until a client comes for them.
STREAM = "stream"

PATTERNS = frozenset({"*", *EventType, *(f"{name.split('.')[0]}.*" for name in EventType)})
_TOKEN = re.compile(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"}
)


class EndpointState(StrEnum):
    ENABLED = "enabled"
    PAUSED = "paused"
    DISABLED = "disabled"


class Format(StrEnum):
    """How an event is written for its receiver."""

    STANDARD = "standard"  # as it is in the log
    FLAT = "flat"  # scalars first, for tools that show people one level of fields
    CLOUDEVENTS = "cloudevents"  # CloudEvents 1.0, structured JSON


class Scheme(StrEnum):
    """How a delivery is signed: with the endpoint's secret, or with the project's ed25519 key."""

    V1 = "v1"
    V1A = "v1a"


def _pattern(value: str) -> str:
    if value not in PATTERNS:
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


def _filter(value: dict[str, Any]) -> dict[str, Any]:
    found = filters.faults(value)
    if found:
        raise ValueError("; ".join(found))
    return value


def _once(value: list[Scheme]) -> list[Scheme]:
    if len(set(value)) < len(value):
        raise ValueError("names one twice")
    return value


Pattern = Annotated[str, AfterValidator(_pattern), Field(json_schema_extra={"enum": sorted(PATTERNS)})]
HeaderValue = Annotated[str, Field(max_length=1024, json_schema_extra={"pattern": "^[ -~]*$"})]
Headers = Annotated[
    dict[str, HeaderValue],
    Field(max_length=16, json_schema_extra={"propertyNames": {"pattern": _TOKEN.pattern}}),
    AfterValidator(_headers),
]
Filter = Annotated[
    dict[str, Any],
    AfterValidator(_filter),
    Field(
        description="Dotted path in the event → value, list of values, or conditions gt, lt, prefix, exists; all hold."
        f" At most {filters.MOST_CHARACTERS} characters as JSON.",
        examples=[{"data.vendor": "vanceai", "data.metadata.product_id": {"exists": True}}],
        json_schema_extra={"maxProperties": filters.MOST_PATHS, "propertyNames": {"maxLength": filters.LONGEST_PATH}},
    ),
]
Signatures = Annotated[list[Scheme], Field(min_length=1, max_length=2), AfterValidator(_once)]
# Seconds before each further attempt.
RetrySchedule = Annotated[list[Annotated[int, Field(ge=1, le=7 * 86_400)]], Field(max_length=30)]
MaxInFlight = Annotated[int, Field(ge=1, le=256)]


class RateLimit(BaseModel):
    """At most so many attempts begin within any span of so many seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: int = Field(ge=1, le=10_000)
    seconds: float = Field(1.0, ge=0.1, le=3600, allow_inf_nan=False)


# In a patch null says: none any more.
NULLABLE = frozenset({"rate_limit", "retry_schedule"})


def _without_null(schema: dict[str, Any]) -> None:
    """In a patch None mostly means that a field was left out. To send null is a fault: the schema does not know it."""
    for name, told in schema["properties"].items():
        if name in NULLABLE:
            continue
        (value,) = (way for way in told["anyOf"] if way != {"type": "null"})
        schema["properties"][name] = value
    schema["examples"] = [{"max_in_flight": 4}]


class EndpointRequest(BaseModel):
    """The body of `POST /v1/endpoints`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"url": "https://shop.example/hooks/wirephoto", "events": ["job.succeeded", "job.failed"]},
                {"kind": "stream", "events": ["job.*"]},
            ]
        },
    )

    kind: Literal["webhook", "stream"] = "webhook"
    url: HttpUrl | None = Field(
        None, description="Required for kind webhook; kind stream has none.", validate_default=True
    )
    events: list[Pattern] = Field(default_factory=lambda: ["*"], min_length=1, max_length=32)
    channels: list[Channel] = Field(default_factory=list, max_length=32, description="Empty: all channels.")
    filter: Filter = Field(default_factory=dict)
    description: Text = Field("", max_length=500)
    headers: Headers = Field(default_factory=dict, description="Sent with each delivery; their values are secrets.")
    format: Format = Format.STANDARD
    signatures: Signatures = Field(default_factory=lambda: [Scheme.V1])
    rate_limit: RateLimit | None = None
    max_in_flight: MaxInFlight = Field(32, description="Deliveries under way at once.")
    ordered: bool = Field(default=False, description="One at a time, by sequence; a failing one holds up the next.")
    retry_schedule: RetrySchedule | None = Field(
        None, description="Seconds before each further attempt; null: the service's own."
    )

    @field_validator("url")
    @classmethod
    def _as_its_kind_has_it(cls, url: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind == STREAM and url is not None:
            raise ValueError("an endpoint of kind stream has none: its client comes for its deliveries")
        if kind != STREAM and kind is not None and url is None:
            raise ValueError("is required")
        return url

    def terms(self, sealed_headers: str) -> "Terms":
        return Terms(
            url=self.url or "",
            events=tuple(self.events),
            channels=tuple(self.channels),
            filter=self.filter,
            description=self.description,
            header_names=tuple(self.headers),
            sealed_headers=sealed_headers,
            format=self.format,
            signatures=tuple(self.signatures),
            rate_limit=self.rate_limit,
            max_in_flight=self.max_in_flight,
            ordered=self.ordered,
            retry_schedule=None if self.retry_schedule is None else tuple(self.retry_schedule),
        )


class EndpointPatch(BaseModel):
    """The body of `PATCH /v1/endpoints/{id}`: what is absent stays, and null takes a limit or a schedule away."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_without_null)

    url: HttpUrl | None = None
    events: list[Pattern] | None = Field(None, min_length=1, max_length=32)
    channels: list[Channel] | None = Field(None, max_length=32)
    filter: Filter | None = None
    description: Text | None = Field(None, max_length=500)
    headers: Headers | None = None
    format: Format | None = None
    signatures: Signatures | None = None
    rate_limit: RateLimit | None = None
    max_in_flight: MaxInFlight | None = None
    ordered: bool | None = None
    retry_schedule: RetrySchedule | None = None

    @property
    def wrong_nulls(self) -> list[str]:
        """What was sent as null and can't be."""
        return sorted(name for name in self.model_fields_set - NULLABLE if getattr(self, name) is None)

    def changed(self, terms: "Terms", sealed_headers: str | None) -> "Terms":
        """`sealed_headers`: where new ones were sent."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"headers"}}
        changes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        if sealed_headers is not None:
            changes |= {"header_names": tuple(self.headers or ()), "sealed_headers": sealed_headers}
        return replace(terms, **changes)


class Rotation(BaseModel):
    """The body of `POST /v1/endpoints/{id}/rotate-secret`, which may be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_seconds": 3600}]})

    overlap_seconds: int = Field(
        86_400, ge=0, le=7 * 86_400, description="For how long the old secret signs beside the new one."
    )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a subscriber chose, and may change; `sealed_headers` is encrypted, `retry_schedule` in seconds.

    `url` is empty where the kind has none.
    """

    url: str
    sealed_headers: str
    events: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] = ()
    filter: filters.Filter = field(default_factory=dict)
    description: str = ""
    header_names: tuple[str, ...] = ()
    format: Format = Format.STANDARD
    signatures: tuple[Scheme, ...] = (Scheme.V1,)
    rate_limit: RateLimit | None = None
    max_in_flight: int = 32
    ordered: bool = False
    retry_schedule: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as the store holds it; its secrets are encrypted.

    `failing_since`: every attempt since then has failed. `broken_at`: since then its receiver is only probed.
    """

    row: int
    id: str
    project: int
    job: int | None
    kind: str
    terms: Terms
    sealed_secret: str
    state: EndpointState
    disabled_reason: str | None
    created_at: int
    updated_at: int
    failing_since: int | None = None
    broken_at: int | None = None
    # During a rotation: those from before, which sign too.
    sealed_old_secrets: str | None = None
    hook: str | None = None  # the digest of its subscription, where it was made as a hook

    @property
    def in_line(self) -> bool:
        """It is sent one delivery at a time; a client that comes for them takes them one at a time by itself."""
        return self.terms.ordered and self.kind != STREAM


@dataclass(frozen=True, slots=True)
class OldSecret:
    """A secret from before a rotation. It signs until `until` (milliseconds since 1970)."""

    until: int
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint as a destination needs it: with its secrets open. Never logged."""

    id: str
    kind: str
    url: str
    secret: str
    headers: Mapping[str, str]
    format: Format = Format.STANDARD
    signatures: tuple[Scheme, ...] = (Scheme.V1,)
    old_secrets: tuple[OldSecret, ...] = ()
    private_key: str | None = None  # the project's, where v1a is asked for
    source: str = ""  # what CloudEvents call so

    def secrets(self, now: int) -> tuple[str, ...]:
        """Those that sign at `now` (milliseconds since 1970), the newest first; none where only v1a is asked for."""
        if Scheme.V1 not in self.signatures:
            return ()
        return (self.secret, *(old.secret for old in self.old_secrets if now < old.until))

    def __repr__(self) -> str:
        return f"Target(id={self.id!r}, kind={self.kind!r})"


def wants(terms: Terms, event_type: str, channels: tuple[str, ...]) -> bool:
    """Whether a subscriber takes such events; its filter is asked of the event itself."""
    if terms.channels and not set(terms.channels) & set(channels):
        return False
    return is_named(event_type, terms.events)


def is_named(event_type: str, patterns: Sequence[str]) -> bool:
    """Whether one of the names or wildcards means this type."""
    if event_type in patterns:
        return True
    if event_type in ONLY_BY_NAME:
        return False
    return "*" in patterns or f"{event_type.split('.')[0]}.*" in patterns
