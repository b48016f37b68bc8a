"""Who waits at a vendor, and for what: accounts, their tasks in flight, and the jobs that were let through. No logic.

Times are milliseconds of a clock that is never set.
"""

from dataclasses import dataclass, field

from handlers.vendors.contract import Pace, Purpose
from service.pacing.lives import Lives, Outlook
from service.pacing.windows import Windows

# The requests that a job sends before its task lives: an upload's slots, and the submission.
OPENING = (Purpose.UPLOAD, Purpose.SUBMIT)


@dataclass(slots=True, eq=False)
class Tracked:
    """A task in flight. `kept_at`: when it was last asked with an answer, or submitted: before the request was sent."""

    key: int
    lives: Lives
    begun_at: int
    kept_at: int
    deadline_at: int
    job: int = 0
    operation: str = ""
    earliest_at: int = 0  # no sooner, its keep-alive excepted
    again_at: int = 0  # no sooner at all: the vendor may have counted the last question until then
    asking_since: int | None = None
    unsure: bool = False  # in flight at a start: nobody knows how it fared, so it is due at once
    nameless: bool = False  # its submission had no answer: it can't be asked, but its promise is kept for the next one
    missed: int = 0  # answers in which the vendor did not know it
    questions: int = 0  # how often it was asked; of one that was in flight at a start: at most
    outlook: Outlook | None = None  # worked out once for each question


@dataclass(slots=True, eq=False)
class Admission:
    """A job that was let through: its opening requests and its task's keep-alives are promised until it ends.

    `unsent`: how many requests it still sends, the submission included, which is the last of them.
    """

    unsent: int = len(OPENING)
    submitted_at: int | None = None
    made: bool = False  # its task is known
    promised: bool = False  # to what was promised a nameless task


@dataclass(slots=True, eq=False)
class Wait:
    """Somebody who waits for a turn."""

    member: "Member"
    purpose: Purpose | None  # None: for an admission
    since: int
    blocks: bool = False
    task: Tracked | None = None
    admission: Admission | None = None
    promised: bool = False  # for an admission: as there


@dataclass(eq=False)
class Member:
    """One account at the host. `hungry`: jobs wait in the store, and only the windows keep them there."""

    name: str
    account: str
    pace: Pace
    windows: Windows = field(init=False)
    tasks: dict[int, Tracked] = field(default_factory=dict)
    admissions: list[Admission] = field(default_factory=list)
    hungry: bool = False
    refused_until: int = 0  # after a 429: nothing but keep-alives
    banned_until: int = 0  # and where it said until when: not even those

    def __post_init__(self) -> None:
        self.windows = Windows([window for window in self.pace.windows if window.scope == "account"])

    @property
    def least_ms(self) -> int:
        least = self.pace.least
        return round(1000 * (0.8 * self.pace.interval if least is None else least))

    @property
    def on_average_ms(self) -> int:
        return round(1000 * (self.pace.on_average or 0))

    @property
    def patience(self) -> float:
        """Seconds."""
        return 0.18 * self.pace.interval if self.pace.patience is None else self.pace.patience
