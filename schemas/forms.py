"""The forms of single values in what goes out: times, links, numbers, and the ids of each noun."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema


def string(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


def prefixed(prefix: str) -> WithJsonSchema:
    # The prefix is promised; what follows is opaque.
    return string(pattern=f"^{prefix}_", examples=[f"{prefix}_01m7y9dz7k7yx6crsbkvdbxvge"])


Time = Annotated[str, string(format="date-time", examples=["2026-08-01T12:30:00.250Z"])]
Url = Annotated[str, string(format="uri")]
Sha256 = Annotated[str, string(pattern="^[0-9a-f]{64}$")]
Decimal = Annotated[str, string(pattern=r"^-?\d+(\.\d+)?$", examples=["1.000"])]
Secret = Annotated[str, string(pattern="^whsec_", description="Base64 after its prefix: a Standard Webhooks secret.")]
PublicKey = Annotated[str, string(pattern="^whpk_", description="Base64 after its prefix: 32 bytes, ed25519.")]
ApiKey = Annotated[str, string(pattern="^wp_", description="Shown this once: only a hash of it is kept.")]
Count = Annotated[int, Field(ge=0)]
JobId = Annotated[str, prefixed("job")]
AssetId = Annotated[str, prefixed("ast")]
EventId = Annotated[str, prefixed("evt")]
EndpointId = Annotated[str, prefixed("ep")]
DeliveryId = Annotated[str, prefixed("dlv")]
AttemptId = Annotated[str, prefixed("att")]
ProjectId = Annotated[str, prefixed("prj")]
KeyId = Annotated[str, prefixed("key")]
ReplayId = Annotated[str, prefixed("rpl")]
