"""What every step is handed: the store, the clock, this node, and who is to be told after a commit."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import structlog

from schemas.asset import StoredFile
from schemas.delivery import Owed
from schemas.event import Event, EventType
from schemas.job import Job
from service.clock import Clock
from service.metrics import Metrics
from service.security.links import AssetLinks
from service.security.vault import Vault
from service.store.database import Database, StoreUnavailable, Tx
from service.store.incoming import Incoming

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

PAUSE_WITHOUT_STORE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Announced:
    """An event that a unit wrote, and the deliveries of it that this node has to send.

    `completed_at`: when the vendor's last word on the job came, at a job's end.
    """

    event: Event
    owed: Sequence[Owed]
    job: Job | None = None  # as it is now, where the event is about one
    completed_at: int | None = None


Topic = tuple[str, int, str]


def job_topic(job: int) -> Topic:
    """Anything told of one job."""
    return ("job", job, "")


def log_topic(project: int, event_type: str | None) -> Topic:
    """A new event in a project's log, of one type or (None) of any."""
    return ("log", project, event_type or "")


def endpoint_topic(endpoint: int) -> Topic:
    """An endpoint was changed, or something is queued for it that rings for no event."""
    return ("endpoint", endpoint, "")


class Bells:
    """Wakes who waits for something about a topic; what they wait for they look up in the store."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Topic, set[asyncio.Event]] = defaultdict(set)
        self.closed = False

    @property
    def waiting(self) -> int:
        """How many listen now."""
        return sum(len(waiters) for waiters in self._waiting.values())

    def ring(self, topic: Topic) -> None:
        for waiter in self._waiting.get(topic, ()):
            waiter.set()

    def close(self) -> None:
        """The service stops: nobody waits any longer."""
        self.closed = True
        for topic in list(self._waiting):
            self.ring(topic)

    def listen(self, topic: Topic, event: asyncio.Event | None = None) -> asyncio.Event:
        """`event`: one that listens already, to hear of several topics."""
        event = event or asyncio.Event()
        self._waiting[topic].add(event)
        return event

    def forget(self, topic: Topic, event: asyncio.Event) -> None:
        self._waiting[topic].discard(event)
        if not self._waiting[topic]:
            del self._waiting[topic]


class AssetStore(Protocol):
    """Where the bytes of pictures lie, under their SHA-256: a local folder or a bucket.

    A bucket that is away is StoreUnavailable; a disk that will not take more is OSError.
    """

    def incoming(self, max_bytes: int) -> AbstractAsyncContextManager[Incoming]:
        """Take bytes in; `keep` makes them durable, before any row speaks of them."""

    async def exists(self, stored: StoredFile) -> bool: ...

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """From `start` up to, not with, `end` (None: to the last). FileNotFoundError."""

    def local(self, stored: StoredFile) -> AbstractAsyncContextManager[Path]:
        """A file to read these bytes from, while the context lasts."""

    async def claim(self, owner: str) -> str:
        """Whose pictures these are: the `owner`'s, unless another was first."""

    async def owner(self) -> str | None:
        """Whose they are; None where nobody has claimed them."""

    async def delete(self, sha256: str) -> None: ...

    async def sweep(self, known: Callable[[Sequence[str]], Awaitable[set[str]]], older_than_ms: int, now: int) -> int:
        """Remove what no row knows and nobody has just kept; how many files went."""


@dataclass
class Core:
    """Made once, by the composition root. What others are told by is set when these others exist."""

    db: Database
    clock: Clock
    node: int
    vault: Vault
    links: AssetLinks
    files: AssetStore
    asset_retention_ms: int
    installation: str
    bells: Bells = field(default_factory=Bells)
    metrics: Metrics = field(default_factory=Metrics)
    nodes: int = 1  # that live, this one too: what all may do together, each may do its part of
    hand_over: Callable[[Announced], None] = lambda _: None
    # Deliveries are due that nobody here was told of.
    wake_deliveries: Callable[[], None] = lambda: None
    # Something that a replay owes is settled.
    replayed: Callable[[], None] = lambda: None
    wake: Callable[[str, str], None] = lambda _step, _vendor: None
    job_ended: Callable[[Job], None] = lambda _: None

    async def commit(
        self,
        unit: Callable[Concatenate[Tx, P], Awaitable[Announced | None]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> bool:
        """Run a unit that may announce something. What it announced goes out only after the commit.

        False where the unit found nothing to do: somebody else was first.
        """
        announced = await self.insist(unit, *args, **kwargs)
        if announced is None:
            return False
        self.tell(announced)
        return True

    async def insist(self, unit: Callable[Concatenate[Tx, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write down what only we know, such as the answer to a paid call: while the store is away, wait for it."""
        return await self.patiently(partial(self.db.write, unit, *args, **kwargs))

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """What must not be done anew from the start: tried until the store, of rows or of pictures, is there again."""
        while True:
            try:
                return await work()
            except StoreUnavailable as error:
                log.warning("store.unavailable", error=str(error))
                await self.clock.sleep(PAUSE_WITHOUT_STORE_SECONDS)

    def tell(self, announced: Announced) -> None:
        """Only after the commit."""
        self._count(announced)
        if announced.owed:
            self.hand_over(announced)
        event = announced.event
        for topic in (log_topic(event.project, event.type), log_topic(event.project, None)):
            self.bells.ring(topic)
        if event.job is not None:
            self.bells.ring(job_topic(event.job))
        if announced.job is not None and announced.job.finished_at is not None:
            self.job_ended(announced.job)

    def _count(self, announced: Announced) -> None:
        event, job = announced.event, announced.job
        self.metrics.events.bump(event.type)
        if job is None:
            return
        if event.type is EventType.JOB_QUEUED:
            self.metrics.accepted.bump(job.vendor, job.operation)
        elif job.finished_at is not None:
            error_class = "" if job.failure is None else job.failure.error_class
            self.metrics.concluded.bump(job.vendor, job.state, error_class)
            self.metrics.job_time.note((job.finished_at - job.created_at) / 1000, job.vendor, job.state)
            if announced.completed_at is not None:
                self.metrics.told_in.note(max(event.created_at - announced.completed_at, 0) / 1000, job.vendor)
