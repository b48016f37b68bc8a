"""The JSON that goes out of endpoints: subscribers' registrations, and what their deliveries are signed with.

As in `schemas.answers`: plain dicts with a type.
"""

from typing import (
    Annotated,
    Literal,
    NotRequired,  # pydantic reads no other TypedDict before Python 3.12
)

from pydantic import Field, JsonValue
from typing_extensions import TypedDict

from schemas.delivery import Outcome
from schemas.endpoint import EndpointState, Format, Scheme
from schemas.forms import Count, EndpointId, EventId, PublicKey, Secret, Time, Url


class EndpointRate(TypedDict):
    """At most so many attempts begin within any span of so many seconds."""

    requests: Count
    seconds: float


class EndpointHealth(TypedDict):
    """What is remembered of its receiver, both null where it takes what it is sent."""

    failing_since: Annotated[Time | None, Field(description="Every attempt since then has failed.")]
    broken_since: Annotated[Time | None, Field(description="It is probed with one delivery at a time.")]


class Endpoint(TypedDict):
    """A subscriber's registration, without its secrets."""

    id: EndpointId
    object: Literal["endpoint"]
    url: Annotated[
        Url | None, Field(description="null: a shop, or of kind stream, whose client comes for its deliveries.")
    ]
    kind: str
    config: NotRequired[Annotated[dict[str, JsonValue], Field(description="A shop's, without its credentials.")]]
    credentials: NotRequired[
        Annotated[list[str], Field(description="Names of a shop's credentials: they are secrets.")]
    ]
    events: list[str]
    channels: list[str]
    description: str
    headers: Annotated[list[str], Field(description="Names only: the values are secrets.")]
    # What was written before an endpoint had these stays in the log as it was signed.
    filter: NotRequired[dict[str, JsonValue]]
    format: Format
    signatures: list[Scheme]
    rate_limit: NotRequired[EndpointRate | None]
    max_in_flight: int
    ordered: NotRequired[bool]
    retry_schedule: NotRequired[Annotated[list[int] | None, Field(description="Seconds; null: the service's own.")]]
    hook: NotRequired[Annotated[bool, Field(description="Whether it was made by `POST /v1/hooks`.")]]
    state: EndpointState
    disabled_reason: str | None
    health: NotRequired[EndpointHealth]
    created_at: Time
    updated_at: Time


class Hook(TypedDict):
    """A subscription as no-code tools make it: an endpoint, in their words."""

    id: EndpointId
    object: Literal["hook"]
    hookUrl: Url
    events: list[str]
    filter: dict[str, JsonValue]
    format: Format
    state: EndpointState
    disabled_reason: str | None
    created_at: Time


class NewEndpoint(Endpoint):
    """An endpoint just made, with the secret that its deliveries are signed with."""

    secret: Secret


class SigningSecret(TypedDict):
    secret: Secret


class RotatedSecret(SigningSecret):
    """The new secret. The one before signs beside it until then."""

    old_secret_expires_at: Time


class SigningKey(TypedDict):
    """What `v1a` signatures of this project are checked with."""

    public_key: PublicKey
    kid: Annotated[str, Field(description="Its name in the JWKS.", examples=["sgn_01m7y9dz7k7yx6crsbkvdbxvge"])]


class RotatedKey(SigningKey):
    """The new key. The one before signs beside it until then."""

    old_key_expires_at: Time


class Jwk(TypedDict):
    """An ed25519 key, by RFC 8037."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: Annotated[str, Field(description="The key's 32 bytes, base64url.")]
    kid: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class JwkSet(TypedDict):
    keys: list[Jwk]


class ShopCheck(TypedDict):
    """One thing that was looked at in a shop, without changing anything."""

    name: Annotated[str, Field(examples=["credentials", "product"])]
    ok: bool
    detail: str


class TestShot(TypedDict):
    """What the receiver said to a test message. A shop is sent none: it is looked whether a picture would arrive."""

    delivered: Annotated[bool, Field(description="Of a shop: whether all checks are well.")]
    event: Annotated[EventId | None, Field(description="null: nothing was sent.")]
    at: Time
    status: int | None
    ms: Count
    error: str | None
    response_head: str | None
    checks: NotRequired[Annotated[list[ShopCheck], Field(description="Of a shop.")]]


class StreamAnswered(TypedDict):
    """What the answer of a stream's client came to, once it is written down."""

    outcome: Outcome
    next_attempt_at: Time | None
