"""Public ids: a prefix, 10 characters of time, 16 of chance; opaque to users and sortable by time.

The shape is a ULID in lower case (Crockford's alphabet). Row ids stay inside the store.
"""

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26

PREFIXES = frozenset({"job", "ast", "evt", "ep", "dlv", "att", "prj", "key", "nod"})


def new_id(prefix: str, now: int) -> str:
    """A new id of the kind `prefix`, made at `now` (milliseconds since 1970)."""
    if prefix not in PREFIXES:
        raise ValueError(f"unknown id prefix {prefix!r}")
    number = ((now & (2**48 - 1)) << 80) | secrets.randbits(80)
    return f"{prefix}_{''.join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))}"


def looks_like(prefix: str, text: object) -> bool:
    """Whether `text` has the form of an id of this kind; says nothing of whether it exists."""
    if not isinstance(text, str) or not text.startswith(f"{prefix}_"):
        return False
    body = text[len(prefix) + 1 :]
    return len(body) == LENGTH and all(character in _ALPHABET for character in body)
