"""Below `handlers/http.py`: what a request comes to, an answer or a fault, in one form whoever carried it."""

from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL


class TransportError(Exception):
    """No complete answer came.

    `kind`: refused_address, bad_url, dns, connect, tls, timeout, broken, too_large or too_many_redirects.
    `sent` is False only where it is certain that the peer cannot have received the request.
    The text names the origin at most: paths, queries and credentials hold secrets.
    """

    def __init__(self, kind: str, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of any status. `headers` are case-insensitive; `ms` runs from the call to the last byte kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    ms: int


@dataclass(frozen=True, slots=True)
class Target:
    url: URL
    origin: str
    trusted: bool


_TEXTS: Mapping[str, str] = {
    "refused_address": "{origin} leads to an address that is not public",
    "bad_url": "{origin} is not a usable URL",
    "dns": "the name of {origin} can't be resolved",
    "connect": "no connection to {origin}",
    "tls": "no TLS connection to {origin}",
    "timeout": "{origin} gave no complete answer in time",
    "broken": "the exchange with {origin} broke off before its answer was complete",
    "too_large": "the answer of {origin} is larger than {limit} bytes",
    "too_many_redirects": "{origin} redirects once more after {limit} redirects",
}


def transport_error(kind: str, target: Target, *, sent: bool, why: str | None = None, limit: int = 0) -> TransportError:
    """The error of this kind, in words for people."""
    text = _TEXTS[kind].format(origin=target.origin, limit=limit)
    return TransportError(kind, f"{text}: {why}" if why else text, sent=sent)
