"""Standard Webhooks 1.0.0: how a delivery is signed and how a receiver checks it.

What is signed is `{id}.{timestamp}.{body}`, byte for byte what is sent; `timestamp` is integer seconds of the attempt.
"""

import base64
import binascii
import hmac
import secrets as random
from collections.abc import Mapping
from functools import lru_cache

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300
KEY_BYTES = 32  # the standard allows 24 to 64


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


def headers(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(key, message_id, timestamp, body),
    }


def verify(secret: str, given: Mapping[str, str], body: bytes, now: float) -> None:
    """Check a delivery's headers (names in lower case) and body at `now` (seconds since 1970).

    Raises InvalidSignature where a header is missing, the time is more than five minutes off, or no signature fits.
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
        expected = sign(key_of(secret), message_id, timestamp, body)
    except UnicodeEncodeError:
        raise InvalidSignature("a webhook header is missing or malformed") from None
    # Every entry is compared, so that the time taken tells nothing. Servers hand over odd bytes as surrogates.
    entries = [entry.encode("utf-8", "surrogatepass") for entry in listed.split(" ")]
    matches = [hmac.compare_digest(entry, expected.encode()) for entry in entries]
    if not any(matches):
        raise InvalidSignature("no signature fits")
