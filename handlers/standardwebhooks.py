"""Standard Webhooks 1.0.0: how a delivery is signed and how a receiver checks it.

What is signed is `{id}.{timestamp}.{body}`, byte for byte what is sent; `timestamp` is integer seconds of the attempt.
`v1` is HMAC-SHA256 with a secret that both sides hold; `v1a` is ed25519, whose public key anybody may have.
"""

import base64
import binascii
import hmac
import secrets as random
from collections.abc import Mapping, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature as NotSignedByIt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
TOLERANCE_SECONDS = 300
KEY_BYTES = 32  # the standard allows 24 to 64
# An event goes out to many endpoints within the same second.
_SIGNATURES_KEPT = 64


class InvalidSignature(Exception):
    """A message that must not be believed; the text says which check failed, and holds no secret."""


def new_secret() -> str:
    """A fresh secret as users see it: `whsec_` and base64."""
    return PREFIX + base64.b64encode(random.token_bytes(KEY_BYTES)).decode()


# Decoded for each delivery, and always the same few.
@lru_cache(maxsize=1024)
def key_of(secret: str) -> bytes:
    """The bytes of a secret, with or without its prefix. Raises ValueError."""
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a signing secret is whsec_ and base64") from None


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """One `v1` signature, as it stands in `webhook-signature`."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def new_private_key() -> str:
    """A fresh ed25519 key: `whsk_` and base64 of its 32 bytes. Nobody but the signer ever sees it."""
    return PRIVATE_PREFIX + base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def public_key_of(private_key: str) -> str:
    """The half that receivers check with: `whpk_` and base64 of its 32 bytes."""
    return PUBLIC_PREFIX + base64.b64encode(_private(private_key).public_key().public_bytes_raw()).decode()


def jwk(public_key: str, kid: str) -> dict[str, str]:
    """A public key as an entry of a JWKS, by RFC 8037."""
    raw = base64.b64decode(public_key.removeprefix(PUBLIC_PREFIX))
    x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}


@lru_cache(maxsize=256)
def _private(private_key: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(private_key.removeprefix(PRIVATE_PREFIX)))


# Costs twenty times what `sign` does, and is the same for all endpoints that take an event in this form.
@lru_cache(maxsize=_SIGNATURES_KEPT)
def sign_v1a(private_key: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One `v1a` signature, as it stands in `webhook-signature`."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return "v1a," + base64.b64encode(_private(private_key).sign(signed)).decode()


def headers(
    secrets: Sequence[str], message_id: str, timestamp: int, body: bytes, private_keys: Sequence[str] = ()
) -> dict[str, str]:
    """The three headers of a delivery: a `v1` for each secret, then a `v1a` for each private key, in their order."""
    signatures = [sign(key_of(secret), message_id, timestamp, body) for secret in secrets]
    signatures += [sign_v1a(private_key, message_id, timestamp, body) for private_key in private_keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        # One space between two, and nothing else: verifiers stumble over an empty entry.
        "webhook-signature": " ".join(signatures),
    }


def verify(key: str, given: Mapping[str, str], body: bytes, now: float) -> None:
    """Check a delivery's headers (names in lower case) and body at `now` (seconds since 1970).

    `key`: the secret, or the public key `whpk_…`, by which only `v1a` signatures count. Raises InvalidSignature where a
    header is missing, the time is more than five minutes off, or no signature fits.
    """
    try:
        message_id, stamp, listed = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        timestamp = int(stamp)
        off = abs(now - timestamp)
    except (KeyError, ValueError, OverflowError):
        raise InvalidSignature("a webhook header is missing or malformed") from None
    if off > TOLERANCE_SECONDS:
        raise InvalidSignature("the timestamp is more than five minutes off")
    try:
        signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    except UnicodeEncodeError:
        raise InvalidSignature("a webhook header is missing or malformed") from None
    # Servers hand over odd bytes as surrogates.
    entries = [entry.encode("utf-8", "surrogatepass") for entry in listed.split(" ")]
    fits = _fits_public if key.startswith(PUBLIC_PREFIX) else _fits_secret
    # Every entry is compared, so that the time taken tells nothing.
    matches = [fits(key, entry, signed) for entry in entries]
    if not any(matches):
        raise InvalidSignature("no signature fits")


def _fits_secret(secret: str, entry: bytes, signed: bytes) -> bool:
    expected = b"v1," + base64.b64encode(hmac.digest(key_of(secret), signed, "sha256"))
    return hmac.compare_digest(entry, expected)


def _fits_public(public_key: str, entry: bytes, signed: bytes) -> bool:
    version, _, signature = entry.partition(b",")
    if version != b"v1a":
        return False
    try:
        _public(public_key).verify(base64.b64decode(signature, validate=True), signed)
    except (NotSignedByIt, binascii.Error):
        return False
    return True


@lru_cache(maxsize=64)
def _public(public_key: str) -> Ed25519PublicKey:
    """Raises ValueError."""
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix(PUBLIC_PREFIX), validate=True))
