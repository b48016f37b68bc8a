"""What a subscriber sends to register an endpoint, and to change it: everything that is wrong is named by its place."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas import filters
from schemas.endpoint import PATTERNS, STREAM, Format, RateLimit, Scheme, Terms
from schemas.event import EventType
from schemas.job import Channel, HttpUrl, JobMetadata
from schemas.shop import MAX_IN_FLIGHT as SHOPS_MAX_IN_FLIGHT
from schemas.shop import SHOPS, AnyShopConfig, SealedConfig, ShopConfig, metadata_names
from schemas.text import Text

Kind = Literal["webhook", "stream", "shopify", "woocommerce", "vendure"]

HAS_NO_URL = {
    STREAM: "an endpoint of kind stream has none: its client comes for its deliveries",
    **{kind: f"an endpoint of kind {kind} has none: where the shop is stands in its config" for kind in SHOPS},
}


_TOKEN = re.compile(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"}
)


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


def _config(value: Any, info: ValidationInfo) -> ShopConfig | None:
    """As its kind has it; each of its faults is named by its own place."""
    kind = info.data.get("kind", "")
    if kind in SHOPS:
        if value is None:
            raise ValueError("is required")
        return SHOPS[kind].model_validate(value)
    if kind and value:
        raise ValueError(f"an endpoint of kind {kind} has none")
    return None


Config = Annotated[ShopConfig | None, PlainValidator(_config, json_schema_input_type=AnyShopConfig | None)]


def _is_shop(given: dict[str, Any]) -> bool:
    kind = given.get("kind")
    return isinstance(kind, str) and kind in SHOPS


def default_filter(config: ShopConfig | None) -> dict[str, Any]:
    """A job that names no product is no business of a shop's."""
    if config is None:
        return {}
    paths = [f"data.metadata.{name}" for name in metadata_names(config.product)]
    return {path: {"exists": True} for path in paths[: filters.MOST_PATHS] if not filters.faults({path: True})}


# What of an endpoint has a meaning for events alone: the only value that a shop's has, and why.
_SHOPS_OWN: Mapping[str, tuple[Any, str]] = {
    "events": (["job.succeeded"], "a shop takes job.succeeded and nothing else: it is put pictures onto products"),
    "format": (Format.STANDARD, "a shop is sent pictures, not events: there is no format to choose"),
    "signatures": ([Scheme.V1], "a shop is sent pictures, not events: nothing is signed"),
    "headers": ({}, "a shop is asked through its own API, without headers of yours: see config"),
}


_SHOPS_DEFAULTS: Mapping[str, Any] = {"events": ["job.succeeded"], "max_in_flight": SHOPS_MAX_IN_FLIGHT}


def _wrong_for_shop(name: str, value: Any) -> str | None:
    only, reason = _SHOPS_OWN.get(name, (value, None))
    return reason if value != only else None


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
                {"kind": "vendure", "config": {"shop": "https://lamps.example/admin-api", "api_key": "…"}},
            ]
        },
    )

    kind: Kind = Field(
        "webhook",
        description="Signed requests to a `url`; a `stream` that a client comes for; or a shop, by its `config`: the"
        " pictures of a job that succeeded are put onto the product that the job's metadata names.",
    )
    url: HttpUrl | None = Field(
        None, description="Required for kind webhook; the others have none.", validate_default=True
    )
    config: Config = Field(None, description="Required for shops; the others have none.", validate_default=True)
    events: list[Pattern] = Field(
        default_factory=lambda: ["*"],
        min_length=1,
        max_length=32,
        description="By default all. A shop takes job.succeeded, and nothing else.",
    )
    channels: list[Channel] = Field(default_factory=list, max_length=32, description="Empty: all channels.")
    filter: Filter = Field(default_factory=dict)
    description: Text = Field("", max_length=500)
    headers: Headers = Field(default_factory=dict, description="Sent with each delivery; their values are secrets.")
    format: Format = Format.STANDARD
    signatures: Signatures = Field(default_factory=lambda: [Scheme.V1])
    rate_limit: RateLimit | None = None
    max_in_flight: MaxInFlight = Field(
        32, description=f"Deliveries under way at once; of a shop {SHOPS_MAX_IN_FLIGHT}, unless it is said."
    )
    ordered: bool = Field(default=False, description="One at a time, by sequence; a failing one holds up the next.")
    retry_schedule: RetrySchedule | None = Field(
        None, description="Seconds before each further attempt; null: the service's own."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_its_kind(cls, value: Any) -> Any:
        return {**_SHOPS_DEFAULTS, **value} if isinstance(value, dict) and _is_shop(value) else value

    @field_validator("url")
    @classmethod
    def _as_its_kind_has_it(cls, url: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind in HAS_NO_URL and url is not None:
            raise ValueError(HAS_NO_URL[kind])
        if kind == "webhook" and url is None:
            raise ValueError("is required")
        return url

    @field_validator("events", "format", "signatures", "headers")
    @classmethod
    def _as_a_shop_takes_it(cls, value: Any, info: ValidationInfo) -> Any:
        reason = _wrong_for_shop(info.field_name or "", value) if _is_shop(info.data) else None
        if reason is not None:
            raise ValueError(reason)
        return value

    def terms(self, sealed_headers: str, config: SealedConfig | None = None) -> Terms:
        """`config`: its own, with what is secret in it sealed."""
        return Terms(
            url=self.url or "",
            config=config,
            events=tuple(self.events),
            channels=tuple(self.channels),
            filter=self.filter if "filter" in self.model_fields_set else default_filter(self.config),
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
    config: dict[str, JsonValue] | None = Field(
        None,
        description="Of a shop: what is absent stays, and null takes away what is not required. Credentials stay"
        " too, but with another `shop` they must be given again.",
        json_schema_extra={"maxProperties": 32},
    )
    events: list[Pattern] | None = Field(None, min_length=1, max_length=32)
    channels: list[Channel] | None = Field(None, max_length=32)
    filter: Filter | None = None
    description: Text | None = Field(None, max_length=500)
    headers: Headers | None = Field(
        None, description="What is absent stays; with a `url` of another origin they must be given again."
    )
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

    def wrong_for(self, kind: str) -> dict[str, str]:
        """What an endpoint of this kind does not take, with the reason."""
        wrong: dict[str, str | None] = {}
        if self.url is not None:
            wrong["url"] = HAS_NO_URL.get(kind)
        if kind in SHOPS:
            wrong |= {
                name: _wrong_for_shop(name, getattr(self, name)) for name in self.model_fields_set & _SHOPS_OWN.keys()
            }
        elif self.config:
            wrong["config"] = f"an endpoint of kind {kind} has none"
        return {name: reason for name, reason in wrong.items() if reason is not None}

    def changed(self, terms: Terms, sealed_headers: str | None) -> Terms:
        """All but the config; `sealed_headers`: where new ones were sent."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"headers", "config"}}
        changes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        if sealed_headers is not None:
            changes |= {"header_names": tuple(self.headers or ()), "sealed_headers": sealed_headers}
        return replace(terms, **changes)


class Rotation(BaseModel):
    """The body of `POST /v1/endpoints/{id}/rotate-secret` and `POST /v1/signing-key/rotate`; it may be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_seconds": 3600}]})

    overlap_seconds: int = Field(
        86_400,
        ge=0,
        le=7 * 86_400,
        description="For how long the old one signs beside the new one. 0, for one that has leaked: none from before"
        " signs any more.",
    )


class TestRequest(BaseModel):
    """The body of `POST /v1/endpoints/{id}/test`, which may be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"metadata": {"product_id": "8411"}}]})

    metadata: JobMetadata = Field(
        default_factory=dict, description="For a shop: as a job's, so that its product is looked at too."
    )
