"""API keys and callback tokens: 256 random bits, of which only the SHA-256 is kept."""

import hashlib
import hmac
import secrets
from enum import StrEnum

PREFIX = "wp_"


class Role(StrEnum):
    ADMIN = "admin"
    WRITE = "write"
    READ = "read"


_RANK = {Role.READ: 0, Role.WRITE: 1, Role.ADMIN: 2}


def may(role: str, needed: Role) -> bool:
    return _RANK[Role(role)] >= _RANK[needed]


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def new_token() -> str:
    """A callback token: goes into one callback URL and nowhere else."""
    return secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    # Plain SHA-256: 256 random bits need no slow hash.
    return hashlib.sha256(key.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
