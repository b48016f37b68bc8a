"""Who may ask Perfect Corp, how often, and what is left to pay with: key pair, access tokens, windows, credits."""

import base64
import hashlib
import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class CodedError(Exception):
    """A request ends with the vendor's `code`. The text says what the client did wrong, and nothing of what it gave."""

    def __init__(self, code: str, breach: str = "") -> None:
        super().__init__(breach)
        self.code = code


_ID_TOKEN = re.compile(r"client_id=(?P<client_id>[^&=]+)&timestamp=(?P<timestamp>\d{13})")


class Keys:
    """The console's pair: `client_id` and a fresh `client_secret`, the public half as a base64 SubjectPublicKeyInfo."""

    def __init__(self, client_id: str, bits: int) -> None:
        self.client_id = client_id
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        public = self._private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.client_secret = base64.b64encode(public).decode()

    def check(self, client_id: str, id_token: str, now: float, tolerance: float) -> None:
        """Raises CodedError unless the token is ours, of exactly the documented form, and fresh. Times in seconds."""
        if client_id != self.client_id:
            raise CodedError("InvalidClientId", "a client_id that the console never gave")
        try:
            encrypted = base64.b64decode(id_token, validate=True)
            said = self._private.decrypt(encrypted, padding.PKCS1v15()).decode("ascii")
        except ValueError:
            said = ""
        # A wrong padding decrypts to noise and not to an error: nobody should learn from the difference.
        match = _ID_TOKEN.fullmatch(said)
        if match is None:
            raise CodedError("InvalidIdToken", "id_token is not client_id=…&timestamp=… under client_secret")
        if match["client_id"] != client_id:
            raise CodedError("InvalidIdToken", "id_token names another client_id")
        if abs(int(match["timestamp"]) / 1000 - now) > tolerance:
            raise CodedError("InvalidIdToken", "id_token's timestamp is not of now, in milliseconds")


class Tokens:
    """Access tokens and their ends, in seconds of the vendor's clock."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def issue(self, token: str, ends_at: float, *, alone: bool) -> None:
        """`alone` ends all that were given before."""
        if alone:
            self.revoke()
        self._ends[token] = ends_at

    def revoke(self) -> None:
        self._ends = dict.fromkeys(self._ends, -math.inf)

    def known(self, token: str) -> bool:
        return token in self._ends

    def live(self, token: str, now: float) -> bool:
        return now <= self._ends.get(token, -math.inf)


# -- how often ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """At most `requests` in any `seconds`, for each IP address or for each access token."""

    scope: Literal["ip", "token"]
    requests: int
    seconds: float


# "Rate Limit".
SEED_LIMITS = (Limit("ip", 100, 300.0), Limit("token", 100, 60.0))
# [public] What newer documents say: 250 in 300 s and 5 in a second, for an address as for a token.
NEWER_LIMITS = tuple(Limit(scope, *window) for scope in ("ip", "token") for window in ((250, 300.0), (5, 1.0)))


@dataclass(frozen=True)
class Overrun:
    """A limit that a request broke; in `wait` seconds one more would fit."""

    limit: Limit
    count: int
    wait: float

    def __str__(self) -> str:
        limit = self.limit
        return f"request {self.count} of the {limit.requests} that one {limit.scope} has in {limit.seconds:g} s"


class Windows:
    """Strict sliding windows over the arrivals."""

    def __init__(self) -> None:
        self._arrivals: dict[tuple[Limit, str], deque[float]] = {}

    def arrive(
        self, limits: Sequence[Limit], who: Mapping[str, str], at: float, *, refused_count: bool
    ) -> Overrun | None:
        """Count a request of `who` (a name by scope) and say which limit it breaks, if any."""
        windows = [
            (limit, self._arrivals.setdefault((limit, who[limit.scope]), deque()))
            for limit in limits
            if limit.scope in who
        ]
        for limit, arrivals in windows:
            while arrivals and arrivals[0] <= at - limit.seconds:
                arrivals.popleft()
        broken = [(limit, arrivals) for limit, arrivals in windows if len(arrivals) >= limit.requests]
        count = len(broken[0][1]) + 1 if broken else 0
        if refused_count or not broken:
            for _, arrivals in windows:
                arrivals.append(at)
        if not broken:
            return None
        # There is room again when no more than `requests` - 1 of them are left, in every window that is full.
        wait = max(arrivals[len(arrivals) - limit.requests] + limit.seconds - at for limit, arrivals in broken)
        return Overrun(broken[0][0], count, wait)


# -- what is left ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    task_id: str
    at: float
    price: Decimal


class Ledger:
    """Credits in two lots; "the system will prioritize those nearing expiration" when it takes from them."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._opened_at = now()
        self.spent: list[Spent] = []

    def spend(self, task_id: str, price: Decimal) -> None:
        self.spent.append(Spent(task_id, self._now(), price))

    def give_back(self, task_id: str) -> None:
        self.spent = [row for row in self.spent if row.task_id != task_id]

    def used(self) -> Decimal:
        return sum((row.price for row in self.spent), Decimal(0))

    def lots(self, total: Decimal) -> list[dict[str, object]]:
        """What is left of `total`, as the vendor lists it; times are milliseconds."""
        soon = min(total, Decimal(100))
        left_soon = max(Decimal(0), soon - self.used())
        left_later = max(Decimal(0), total - soon - (self.used() - (soon - left_soon)))
        rows = ((1, "ApiPaygToken", left_soon, 30), (2, "ApiSubsToken", left_later, 365))
        return [
            {
                "id": int.from_bytes(hashlib.sha256(bytes([number])).digest()[:7], "big"),
                "type": kind,
                "amount": float(left),
                "expiry": int((self._opened_at + days * 86_400) * 1000),
            }
            for number, kind, left, days in rows
        ]

    def history(self, start: int, count: int) -> list[dict[str, object]]:
        """Rows `start` to `start + count`, newest first, as the vendor lists them."""
        newest_first = self.spent[::-1][start : start + count]
        return [
            {
                "id": len(self.spent) - place,
                "timestamp": int(row.at * 1000),
                "action": "task",
                "target_id": row.task_id,
                "info": {"credits": [{"amount": -float(row.price)}]},
            }
            for place, row in enumerate(newest_first, start)
        ]
