"""Public ids: a prefix, 10 characters of time, 16 of chance; opaque to users and sortable by time.

The shape is a ULID in lower case (Crockford's alphabet). Row ids stay inside the store.
"""

import os
from collections import deque
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26
# Ten bits a look-up: an id is made for each delivery and each attempt.
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_CHANCE_BYTES = 10
_READ_AHEAD = 256
_chance: deque[bytes] = deque()
# A forked process must not repeat its parent's ids.
os.register_at_fork(after_in_child=_chance.clear)

PREFIXES = frozenset({"job", "ast", "evt", "ep", "dlv", "att", "prj", "key", "nod", "rpl", "sgn"})


def new_id(prefix: str, now: int) -> str:
    """A new id of the kind `prefix`, made at `now` (milliseconds since 1970)."""
    if prefix not in PREFIXES:
        raise ValueError(f"unknown id prefix {prefix!r}")
    try:
        chance = _chance.pop()
    except IndexError:
        # Asked for by the block: each call lets go of the interpreter's lock, and another thread takes it.
        block = os.urandom(_CHANCE_BYTES * _READ_AHEAD)
        _chance.extend(block[at : at + _CHANCE_BYTES] for at in range(_CHANCE_BYTES, len(block), _CHANCE_BYTES))
        chance = block[:_CHANCE_BYTES]
    return f"{prefix}_{_time(now & (2**48 - 1))}{_spell(int.from_bytes(chance, 'big'), 80)}"


@lru_cache(maxsize=64)
def _time(now: int) -> str:
    return _spell(now, 50)


def _spell(number: int, bits: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(bits - 10, -1, -10)])


def looks_like(prefix: str, text: object) -> bool:
    """Whether `text` has the form of an id of this kind; says nothing of whether it exists."""
    if not isinstance(text, str) or not text.startswith(f"{prefix}_"):
        return False
    body = text[len(prefix) + 1 :]
    return len(body) == LENGTH and all(character in _ALPHABET for character in body)
