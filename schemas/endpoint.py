"""An endpoint is a subscriber's registration."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from schemas import filters
from schemas.event import EventType
from schemas.shop import SealedConfig, ShopConfig

# What a subscription by wildcard leaves out: it would flood who asked for "everything".
ONLY_BY_NAME = frozenset({EventType.JOB_PROGRESSED})

# The kind whose deliveries wait until a client comes for them.
STREAM = "stream"

PATTERNS = frozenset({"*", *EventType, *(f"{name.split('.')[0]}.*" for name in EventType)})


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


class RateLimit(BaseModel):
    """At most so many attempts begin within any span of so many seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: int = Field(ge=1, le=10_000)
    seconds: float = Field(1.0, ge=0.1, le=3600, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a subscriber chose, and may change; `sealed_headers` is encrypted, `retry_schedule` in seconds.

    `url` is empty where the kind has none; `config` is a shop's.
    """

    url: str
    sealed_headers: str
    config: SealedConfig | None = None
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
    """A secret or private key from before a rotation. It signs until `until` (milliseconds since 1970)."""

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
    old_private_keys: tuple[OldSecret, ...] = ()
    source: str = ""  # what CloudEvents call so
    shop: ShopConfig | None = None  # of a shop: its config, with its credentials

    def secrets(self, now: int) -> tuple[str, ...]:
        """Those that sign at `now` (milliseconds since 1970), the newest first; none where only v1a is asked for."""
        if Scheme.V1 not in self.signatures:
            return ()
        return (self.secret, *_still(self.old_secrets, now))

    def private_keys(self, now: int) -> tuple[str, ...]:
        """As `secrets`; none where only v1 is asked for."""
        return () if self.private_key is None else (self.private_key, *_still(self.old_private_keys, now))

    def __repr__(self) -> str:
        return f"Target(id={self.id!r}, kind={self.kind!r})"


def _still(old: tuple[OldSecret, ...], now: int) -> Iterator[str]:
    return (before.secret for before in old if now < before.until)


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
