"""A vendor, the ways to it, and what the service keeps of it, in virtual time: where the pacer is proved and measured.

The service before it is in pacing_node.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from handlers.vendors.contract import Accepted, Pace, Purpose, VendorError
from schemas.job import ErrorClass
from service.store.lives import Learned
from service.store.submissions import Submission
from service.store.vendor_requests import Request
from tests.pacing_vendor import StrictVendor
from tests.virtual_time import VirtualClock

T = TypeVar("T")

QUESTION_SECONDS = 8.0


@dataclass(frozen=True)
class Ways:
    """How a request travels, in milliseconds, and what goes wrong with how many of a thousand.

    `lost`: it is counted, and its answer never comes. `refused`: a 429 out of the blue; `told`: one with a Retry-After,
    in seconds. `slow`: it takes so many milliseconds longer.
    """

    there_and_back: tuple[float, float] = (50, 150)
    upload: tuple[float, float] = (100, 300)
    store: tuple[float, float] = (0, 5)
    lost: int = 0
    refused: int = 0
    told: int = 0
    retry_after: float = 2.0
    slow: int = 0
    slower_by: float = 2_000
    most: int = 1_000_000  # faults in all


@dataclass
class Job:
    """`life` in seconds. It ends once: `ended` is succeeded, lost, timeout or canceled."""

    number: int
    life: float
    operation: str = "op"
    project: int = 1
    account: str = "first"
    state: str = "queued"  # held, sending, running
    due_at: int = 0
    tries: int = 0
    prepared: bool = False  # for a call that is made again
    unanswered_since: int | None = None
    ended: str | None = None
    ended_at: float = 0

    @property
    def lane(self) -> tuple[int, str]:
        return (self.project, self.operation)

    @property
    def name(self) -> str:
        """What the vendor knows it by: the same one twice is the same task."""
        return f"task {self.number}"


@dataclass
class Row:
    """A submission as the store has it."""

    it: Submission
    job: Job
    due_at: int
    held: bool = False


@dataclass
class Store:
    """What outlives a kill."""

    jobs: list[Job] = field(default_factory=list)
    rows: dict[int, Row] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    learned: dict[tuple[str, str], Learned] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    faulted: set[str] = field(default_factory=set)


class World:
    """One host with its accounts, each of which has a pace. To be made on a VirtualLoop.

    `shared`: how many more jobs' slots a file call opens. `token_seconds`: how long a token lasts; None needs none.
    """

    def __init__(
        self,
        seed: int,
        paces: Mapping[str, Pace],
        ways: Ways | None = None,
        *,
        shared: int = 0,
        token_seconds: float | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.paces, self.ways = paces, ways or Ways()
        self.shared, self.token_seconds = shared, token_seconds
        pace = next(iter(paces.values()))
        self.vendor = StrictVendor(pace.windows, pace.keep_alive)
        self.store = Store()
        self.clock = VirtualClock()
        self.sent: Counter[Purpose] = Counter()
        self._faults = 0
        self.looked: list[float] = []
        self.all_ended = asyncio.Event()
        # One more than are to come can't be told beforehand: whoever adds jobs says when the last one is in.
        self.all_added = False

    def ended(self, job: Job, how: str) -> None:
        assert job.ended is None, "a job ends once"
        job.ended, job.state, job.ended_at = how, "ended", self.clock.ms
        for key in [key for key, row in self.store.rows.items() if row.job is job]:
            del self.store.rows[key]
        self.look_around()

    def look_around(self) -> None:
        if self.all_added and all(job.ended for job in self.store.jobs):
            self.all_ended.set()

    async def exchange(
        self, account: str, purpose: Purpose, act: Callable[[float], T], *, task: str | None = None
    ) -> T:
        """A request and its answer. It arrives at some instant between, whatever becomes of us meanwhile.

        `task`: whose it is. Raises VendorError.
        """
        self.sent[purpose] += 1
        fault = self._fault(purpose)
        takes = self.random.uniform(*self.ways.there_and_back) + (self.ways.slower_by if fault == "slow" else 0)
        if fault is not None and task is not None:
            self.store.faulted.add(task)
        said: list[T | VendorError] = []

        def arrive() -> None:
            at = self.clock.ms
            if self.vendor.takes(None if purpose is Purpose.AUTH else account, at) and fault not in ("refused", "told"):
                said.append(act(at))
            else:
                wait = self.ways.retry_after if fault == "told" else None
                said.append(VendorError("429", ErrorClass.RATE_LIMIT, retry_after=wait))

        asyncio.get_running_loop().call_later(takes * self.random.random() / 1000, arrive)
        deadline = QUESTION_SECONDS if purpose is Purpose.POLL else self.paces[account].call
        in_time = fault != "lost" and takes / 1000 < deadline
        await asyncio.sleep(takes / 1000 if in_time else deadline)
        if not in_time:
            raise VendorError("no answer", ErrorClass.TIMEOUT, accepted=Accepted.UNKNOWN)
        answer = said[0]
        if isinstance(answer, VendorError):
            raise answer
        return answer

    def _fault(self, purpose: Purpose) -> str | None:
        if purpose is Purpose.AUTH:
            return None
        left = self.random.randrange(1000)
        for fault in ("lost", "refused", "told", "slow"):
            left -= getattr(self.ways, fault)
            if left < 0:
                self._faults += 1
                return fault if self._faults <= self.ways.most else None
        return None
