"""What a destination is: the code for one kind of endpoint."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from handlers import standardwebhooks
from schemas.delivery import Attempt
from schemas.endpoint import Target


class Steps(Protocol):
    """What is already done of this delivery, so that a retry resumes instead of doing it twice."""

    def done(self, step: str) -> str | None: ...

    async def save(self, step: str, value: str) -> None: ...

    async def overtaken(self, place: str) -> bool:
        """Whether the place shows what a later event of the same endpoint has for it; to be asked in its turn.

        False where somebody has wanted this very delivery since that event.
        """

    async def arrived(self, place: str) -> None:
        """The place was seen to show what this event has for it. Durable when it returns."""


@dataclass(slots=True)
class NoSteps:
    """For destinations that do everything in one call."""

    saved: dict[str, str] = field(default_factory=dict)

    def done(self, step: str) -> str | None:
        return self.saved.get(step)

    async def save(self, step: str, value: str) -> None:
        self.saved[step] = value

    async def overtaken(self, place: str) -> bool:  # noqa: ARG002
        return False

    async def arrived(self, place: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way: `body` is byte for byte what is signed, `at` when it was written (ms since 1970)."""

    id: str
    type: str
    body: bytes
    at: int = 0
    content_type: str = "application/json"

    def headers(self, target: Target, now: int) -> dict[str, str]:
        """What a delivery carries of it at `now` (ms since 1970), signed as its endpoint asks for."""
        secrets, private_keys = target.secrets(now), target.private_keys(now)
        signed = standardwebhooks.headers(secrets, self.id, now // 1000, self.body, private_keys)
        signed["content-type"] = self.content_type
        return signed


# A result of the endpoint's own project, by its asset's id, as a file on disk while the context is open; None where it
# is no longer kept. Content-addressed: it has no suffix that means anything.
Pictures = Callable[[Target, str], AbstractAsyncContextManager[Path | None]]

# One at a time for each key, over all endpoints: galleries are read, changed and written back.
Turn = Callable[[str], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a test looked at without changing anything, and what is wrong with it, if anything is."""

    name: str  # credentials, scopes, product, …
    ok: bool
    detail: str


class Checkable(Protocol):
    """A destination whose test sends nothing, but looks whether a delivery would succeed."""

    async def check(self, target: Target, metadata: Mapping[str, str], seconds: float) -> Sequence[Check]:
        """Credentials, scopes, and the product that a job with this metadata would be put on, where it names one.

        Ends within `seconds`, and says what it did not come to.
        """


class Destination(ABC):
    """One kind of endpoint. `deadline` in seconds covers everything one attempt does."""

    kind: str
    deadline: float

    @abstractmethod
    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:
        """One try. Whatever the receiver does is an Attempt; an exception is a bug of ours."""


Destinations = Mapping[str, Destination]
