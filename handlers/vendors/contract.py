"""What a vendor is to Wirephoto. A webhook is a capability of a vendor, not a class of vendor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from handlers.http import Http, Stream
from schemas.callback import Callback, Update
from schemas.catalogue import Operation
from schemas.job import ErrorClass, Failure


@dataclass(frozen=True, slots=True)
class InputFile:
    """A picture of ours on disk, already checked; the content type is what the bytes are.

    `made_here`: this very vendor made it for the same account, and this is what it called it then (an output's
    `source`), with `made_at`, when its result was found (milliseconds since 1970): perhaps it need not be uploaded
    again.
    """

    path: Path
    content_type: str
    filename: str
    bytes: int
    width: int
    height: int
    made_here: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class InputLink:
    """A link that the user wants handed on unseen."""

    url: str


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done for one job. `extra` holds raw params that pass through unchecked.

    `behind`: how many more jobs of the project's wait for the same operation, as far as it matters.
    """

    job_id: str
    operation: Operation
    params: Mapping[str, Any]
    extra: Mapping[str, Any]
    inputs: Mapping[str, InputFile | InputLink]
    behind: int = 0


class Purpose(StrEnum):
    """What a request is for: it decides who waits for whom, and which windows it is counted in."""

    AUTH = "auth"  # comes before there is a token: counted per IP alone
    POLL = "poll"
    UPLOAD = "upload"
    SUBMIT = "submit"
    FETCH = "fetch"
    LOOK = "look"  # credits, styles, whether a key is good: people wait for it, pictures do not


class Turn(Protocol):
    """Waits until one more request keeps every rate window of the account, and counts it before it is sent.

    `blocks`: the answer comes only when the picture is done, long after the vendor has counted the request.
    """

    def __call__(self, purpose: Purpose, *, blocks: bool = False) -> AbstractAsyncContextManager[None]: ...


class Memory(Protocol):
    """What an account remembers across restarts; durable when the call returns, encrypted at rest."""

    async def recall(self, name: str) -> str | None: ...

    async def keep(self, name: str, value: str | None) -> None:
        """None forgets it."""

    async def next_number(self, name: str) -> int:
        """More than all that were given before; the first is the clock's seconds since 1970 (which fit 32 bits)."""


@dataclass(frozen=True)
class Account:
    """Credentials and limits at a vendor. Every request is sent inside `async with account.turn(purpose)`.

    `secrets` never reaches a log: it is left out of the repr. `public_http` judges the address of links that the
    vendor gives; `http` goes to the operator's own BASE_URL. `now` gives milliseconds since 1970.
    """

    vendor: str
    base_url: str
    http: Http
    public_http: Http
    turn: Turn
    memory: Memory
    now: Callable[[], int]
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What must be remembered before the paid call: plain JSON, no secrets."""

    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """The vendor's unit of work, with what was prepared for it."""

    id: str
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a paid call: the task's id, or a reply that already is a callback, or both."""

    task_id: str | None
    reply: Callback | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """At most `requests` in any `seconds`, counted per `scope` (`ip` or `account`)."""

    scope: str
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How a vendor wants to be asked. Times in seconds; every one is a setting."""

    first_poll: float
    interval: float  # as the document advises; once lives are known, it only says how patient to be
    deadline: float  # a task still running after this is given up, class `timeout`
    call: float  # how long the paid call may take when it does not block until the picture is done
    blocking_call: float  # the same for a call that does
    windows: tuple[Window, ...] = ()
    keep_alive: float | None = None  # a task that is not asked for so long is lost
    least: float | None = None  # the shortest wait between two questions about one task; else 0.8 of the interval
    on_average: float | None = None  # over its life a task is asked no more often than once in so long, if at all told
    patience: float | None = None  # a task is asked when it has lain finished for so long on average; else 0.18 of it
    watchdog: float | None = None  # how long a vendor that announces may stay silent before it is asked
    max_concurrent: int = 16


# What Wirephoto takes as one result.
MAX_RESULT_BYTES = 256 * 1024 * 1024


class Accepted(StrEnum):
    """Whether the vendor took the paid call in, when it ended in an error."""

    NO = "no"  # it said no, or the request never left
    UNLIKELY = "unlikely"  # it said no, but not that nothing was begun: tried again at once, and the bill tells
    UNKNOWN = "unknown"  # a time-out or a lost answer: it may have


@dataclass(eq=False)
class VendorError(Exception):
    """A vendor said no, or nothing. `permanent`: another try of the same call cannot help; `retryable`: a new job may.

    `retry_after` is in seconds, where the vendor gave it. `sent` is False only where it is certain that the vendor
    never got the request.
    """

    message: str
    error_class: ErrorClass = ErrorClass.VENDOR
    code: str = "unknown"
    permanent: bool = False
    accepted: Accepted = Accepted.NO
    retry_after: float | None = None
    retryable: bool = False
    sent: bool = True

    def __str__(self) -> str:
        return f"{self.error_class}/{self.code}: {self.message}"

    def as_failure(self) -> Failure:
        return Failure(self.error_class, self.code, self.message, retryable=self.retryable or not self.permanent)


class Vendor(ABC):
    """One outside party that transforms pictures.

    The service calls `prepare` (free; may be repeated), saves what it gives, then `submit` (paid; once), then `ask`
    until `read` finds a final update, then `fetch` for each output. `read` is the only parser of what a vendor says.
    """

    name: str
    operations: Mapping[str, Operation]  # by name, without the vendor
    pace: Pace
    announces = False  # can it call us back?
    charges_at_download = False  # is the price due with the first fetch, and not with the work?
    resubmits_free = False  # does a second submit of the same `Prepared` cost nothing more?

    @abstractmethod
    async def try_credentials(self, account: Account) -> None:
        """One free call that only these credentials open. Raises VendorError, of class AUTH where they are refused."""

    @abstractmethod
    async def prepare(self, account: Account, work: Work) -> Prepared:
        """Upload what must be uploaded. Raises VendorError."""

    @abstractmethod
    async def submit(self, account: Account, prepared: Prepared, reply_to: str | None, work: Work) -> Submitted:
        """The paid call. `reply_to` is a callback URL that holds a secret, or None where we can't be reached.

        Raises VendorError; its `accepted` says whether the call may have been taken in all the same.
        """

    @abstractmethod
    async def ask(self, account: Account, task: Task) -> Callback:
        """What a webhook would have said of the task now. Raises VendorError where no answer came."""

    @abstractmethod
    def read(self, callback: Callback, task: Task | None) -> Update:
        """What the vendor's words mean; pure, and never raises, whatever the bytes."""

    @abstractmethod
    def fetch(self, account: Account, source: Mapping[str, Any]) -> AbstractAsyncContextManager[Stream]:
        """The result's bytes. Raises VendorError; `permanent` where they can't be had for good."""


@dataclass(frozen=True, slots=True)
class Credits:
    """What an account has left. `balance` is a decimal string in the vendor's own unit; `raw` is what it said."""

    balance: str | None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list that the vendor keeps, in its own words; `next` asks for the part after it."""

    entries: Sequence[Mapping[str, Any]]
    next: str | None


LARGEST_STYLE_PAGE = 20


class TellsCredits(ABC):
    """A vendor that can be asked, for free, what is left. Raises VendorError."""

    @abstractmethod
    async def credits(self, account: Account) -> Credits: ...


class TellsCreditHistory(TellsCredits):
    """One that also lists what was used. `after` is an earlier page's `next`. Raises VendorError."""

    @abstractmethod
    async def credit_history(self, account: Account, after: str | None, limit: int) -> Page: ...


class HasStyles(ABC):
    """A vendor whose operations take a style out of its own lists. Both raise VendorError.

    `after` is an earlier page's `next`, `limit` at most LARGEST_STYLE_PAGE. A group has `id` and `title`, a style a
    `thumbnail` too, a link or None. Ids leave as strings: they exceed what JSON numbers hold.
    """

    @abstractmethod
    def has_styles(self, operation: Operation) -> bool:
        """Whether there are any for this one."""

    @abstractmethod
    async def style_groups(self, account: Account, operation: Operation, after: str | None, limit: int) -> Page: ...

    @abstractmethod
    async def styles(
        self, account: Account, operation: Operation, group: str | None, after: str | None, limit: int
    ) -> Page: ...
