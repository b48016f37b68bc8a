"""How a try at a shop ends, told in one form whatever the shop: an Attempt, with neither secrets nor signed links.

A try asks many questions. What ended it is the `Trouble` of the one that failed, under the name of its step.
"""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

from handlers.destinations.contract import Check
from handlers.destinations.shops import Impossible
from handlers.http import Answer, TransportError
from schemas.delivery import Attempt, Outcome

HEAD = 1024
CONNECT = 10.0
# An answer of a shop; a gallery of 250 pictures is some 300 KB.
KEEP = 4 << 20
_LONGEST = 500
# What follows a link's `?` may be its signature. JSON may write `\/`.
_QUERY = re.compile(r"(https?:(?:\\?/){2}[^\s\"'<>?]*)\?[^\s\"'<>]*", re.IGNORECASE)
# What comes of reading an answer that has another form than the shop's documents promise.
_NONSENSE = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
# Names that no public name server gives out.
_INNER = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test")


class Trouble(Exception):
    """What ended a try. `answer` is the shop's, where it may be shown; `retry_after` in seconds."""

    def __init__(
        self, outcome: Outcome, why: str, answer: Answer | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.answer = answer
        self.retry_after = retry_after


class Denied(Trouble):
    """The shop does not let us. An endpoint is disabled for it only after a second, cheap question says so too."""

    def __init__(self, why: str, answer: Answer | None = None) -> None:
        super().__init__(Outcome.RETRY, why, answer)

    def confirmed(self, why: str) -> Trouble:
        return Trouble(Outcome.REFUSED, why, self.answer)


@dataclass(slots=True)
class Progress:
    """Where a try is: its step, the last answer's status, and the words that must not be told."""

    step: str = "start"
    status: int | None = None
    hidden: set[str] = field(default_factory=set)

    def hide(self, secrets: Iterable[str | None]) -> None:
        self.hidden.update(filter(None, secrets))

    def told(self, text: str) -> str:
        """The text without secrets and without what follows a link's question mark; no NUL, which no database takes."""
        for secret in sorted(self.hidden, key=len, reverse=True):
            for form in {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}:
                text = text.replace(form, "[redacted]")
        return _QUERY.sub(r"\1?…", text).replace("\x00", "\ufffd")

    def head(self, answer: Answer | None) -> str | None:
        # Cut afterwards: half a secret would not be recognised.
        return None if answer is None else self.told(answer.body.decode("utf-8", "replace"))[:HEAD]


async def tried(
    work: Callable[[], Awaitable[str | None]], progress: Progress, now: Callable[[], int], deadline: float
) -> Attempt:
    """Does the work within `deadline` seconds, and says what became of it; `work` says what later jobs have kept."""
    started = now()

    def ended(
        outcome: Outcome, error: str | None, answer: Answer | None = None, retry_after: float | None = None
    ) -> Attempt:
        return Attempt(
            outcome,
            started,
            now() - started,
            status=progress.status,
            error=None if error is None else progress.told(error)[:_LONGEST],
            response_head=progress.head(answer),
            retry_after=retry_after,
        )

    try:
        async with asyncio.timeout(deadline):
            kept = await work()
    except Impossible as why:
        return ended(Outcome.ABORT, f"{progress.step}: {why}")
    except Trouble as trouble:
        return ended(trouble.outcome, f"{progress.step}: {trouble}", trouble.answer, trouble.retry_after)
    except TransportError as error:
        progress.status = None
        return ended(Outcome.RETRY, f"{error.kind}: {progress.step}: {error}")
    except TimeoutError:
        progress.status = None
        return ended(Outcome.RETRY, f"timeout: {progress.step}: not done within {deadline:g} seconds")
    except _NONSENSE as fault:
        # Were it raised, no attempt would count, and the same would be asked every second for ever. Its words are not
        # told: they may repeat anything.
        told = f"the answer is none that a shop of this kind gives ({type(fault).__name__})"
        return ended(Outcome.RETRY, f"{progress.step}: {told}")
    return ended(Outcome.SUPERSEDED if kept else Outcome.DELIVERED, kept)


async def confirmed(denied: Denied, progress: Progress, lacking: Callable[[], Awaitable[str | None]]) -> Trouble:
    """What a refusal comes to, after further and cheap questions: only both together disable an endpoint.

    `lacking` says what our credentials lack; it raises Denied where they are not taken at all.
    """
    status = progress.status
    try:
        lacks = await lacking()
    except Denied as again:
        return denied.confirmed(f"{denied}; asked once more: {again}")
    except Trouble:
        return denied
    finally:
        progress.status = status
    return denied if lacks is None else denied.confirmed(f"{denied}; {lacks}")


async def checked(
    look: Callable[[list[Check]], Awaitable[None]], progress: Progress, now: Callable[[], int], deadline: float
) -> list[Check]:
    """What `look` adds, one thing after the other; what it can't look at stands last, under its step."""
    found: list[Check] = []
    attempt = await tried(lambda: look(found), progress, now, deadline)
    if attempt.error is not None:
        kind, _, detail = attempt.error.partition(": ")
        if kind == "timeout":
            detail += "; nothing after that was looked at"
        found.append(Check(progress.step, ok=False, detail=detail))
    return found


def saying(answer: Answer) -> Any:
    """The JSON of an answer; None for all else."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def dig(value: Any, *names: str) -> Any:
    """What stands under these names, one within the other; None where there is no such thing."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def basic(user: str, password: str) -> str:
    """The credentials of HTTP's Basic scheme."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def in_the_clear(url: str) -> bool:
    """Whether secrets sent there could be read on their way: plain http, and not to an inner address.

    The address guard lets none of the inner ones through that the operator did not allow.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme.lower() == "https":
        return False
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_INNER)


def turn_of(shop: str, product: str) -> str:
    """The name of a product's turn: the same for all endpoints of a shop, however each writes its address."""
    parts = urlsplit(shop)
    port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    return f"{(parts.hostname or '').rstrip('.')}{port}{parts.path.rstrip('/')}/{product}"
