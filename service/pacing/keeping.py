"""What has been promised at one host, and what may be promised beside it: pure.

A task in flight is promised its questions until its deadline. A job that was let through is promised nothing yet: its
requests go out where those in flight do not need them, the submission last of all, and that is when its task's promise
is made. Before a job is let through, all of this is tried out with it and with those that were let through before it.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from handlers.vendors.contract import Window
from service.pacing.promises import NOTHING, Chain, Ledger, Timetable, followed, place_from, timetable
from service.pacing.waits import OPENING, Admission, Member, Tracked, Wait
from service.pacing.windows import Windows

# A poll's way to the vendor, and our own delays: kept off the keep-alive. Twice the slowest of the last polls.
LEAST_GUARD_MS = 1_000
MOST_GUARD_MS = 3_000
# And what a vendor wants between two questions, if it is not much.
MOST_AGAIN_MS = 2_000
_FIRST_ROAD_MS = 500
_ROADS = 20
# By how much a question may come later than it was planned, because of another that did: less than the least guard.
_SLIP_MS = 200
# What is newly promised must be kept although ways become longer meanwhile, and although requests go out that nobody
# foresaw: for a token, for what is asked again after a fault. A large window keeps some back for these.
SPARE_MS = 250
_SPARES: Mapping[int, int] = {100: 2, 10: 1}


@dataclass(frozen=True, slots=True)
class Care:
    """How carefully a promise is judged: whether a question is given an ample time to arrive, and what is kept back.

    `doubts`: who was in flight at a start is asked at once, whenever the store says that it was last asked.
    """

    ample: bool
    doubts: bool = True
    spare_ms: int = 0
    spares: bool = False


_NEW = Care(ample=True, spare_ms=SPARE_MS, spares=True)
_AMPLE = Care(ample=True)
# What the store says is true, if not all there is to it: where there is no place for more, that is enough.
_SURE = Care(ample=True, doubts=False)
_BARE = Care(ample=False, doubts=False)


class Keeping:
    """The promises of all accounts at a host. `ip` and `members` are the pacer's own."""

    def __init__(self, ip: Windows, members: Sequence[Member]) -> None:
        self._ip = ip
        self._members = members
        self._roads: deque[int] = deque([_FIRST_ROAD_MS], maxlen=_ROADS)
        self._promised = NOTHING
        self._valid = True

    # -- what happens ----------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """What was found out holds no longer."""
        self._valid = False

    def arrived(self, ms: int) -> None:
        """How long a question and its answer took: the way there is at most that."""
        self._roads.append(ms)

    def tracked(self, member: Member, task: Tracked) -> None:
        """Of the admissions whose task is not known yet, the one submitted right before it is its own: its promise."""
        own = [
            admission
            for admission in member.admissions
            if not admission.made and admission.submitted_at is not None and admission.submitted_at <= task.begun_at
        ]
        if own:
            admission = max(own, key=lambda admission: admission.submitted_at or 0)
            admission.made = True
            instants = self._promised.instants
            self._promised = Timetable({**instants, task.key: instants.get(_key(admission), ())}, self._promised.kept)

    # -- what is promised ------------------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        return any(member.pace.keep_alive for member in self._members)

    def period(self, member: Member, care: Care = _AMPLE) -> int:
        """From one question to the next at the latest, from sending to sending (0: no keep-alive)."""
        if member.pace.keep_alive is None:
            return 0
        whole = round(1000 * member.pace.keep_alive)
        # Of the ways one that was slow says little, where there were others.
        ways = 2 * self._road_ms if care.ample else sorted(self._roads)[-2:][0]
        # Where a question is in vain, there is time for another.
        guard = min(member.least_ms, MOST_AGAIN_MS) + min(max(ways, LEAST_GUARD_MS), MOST_GUARD_MS)
        return whole - min(guard, whole // 2) - care.spare_ms

    def due_at(self, member: Member, task: Tracked, now: int) -> int:
        """When it must be asked for its keep-alive."""
        at = self._promises(now).next_at(task.key)
        return task.kept_at + self.period(member) if at is None else at

    def last_known_due_at(self, key: int) -> int | None:
        return self._promised.next_at(key)

    def _promises(self, now: int) -> Timetable:
        """With an ample time for each question to arrive; as before, or with a short one, where that is too much."""
        if not self._valid:
            self._promised = self._anew(now)
            self._valid = True
        return self._promised

    def _anew(self, now: int) -> Timetable:
        found = timetable(self._chains(now, _AMPLE), now)
        if not found.kept and self._in_doubt:
            found = timetable(self._chains(now, _SURE), now)
        if not found.kept:
            found = followed(self._promised, self._chains(now, _BARE), now, _SLIP_MS)
        return found if found.kept else timetable(self._chains(now, _BARE), now)

    # -- what may be promised --------------------------------------------------------------------------------------

    def fits(self, wait: Wait, now: int, *, jobs: int = 1) -> bool:
        """Whether all promises can be kept beside this request, or beside `jobs` new jobs."""
        if not self.any:
            return True
        if wait.admission is not None and wait.purpose in OPENING:
            return self._opens(wait, wait.admission, now)
        found = timetable(self._chains(now, _NEW, wait, jobs), now)
        if found.kept and wait.purpose is not None:
            self._promised, self._valid = found, True
        return found.kept or (wait.purpose is None and jobs == 1 and self._never_fits(_NEW, wait, Admission(), now))

    def _opens(self, wait: Wait, admission: Admission, now: int) -> bool:
        """What was let through goes on, unless it has taken so long that those in flight now need its place."""
        for care in (_AMPLE, _BARE):
            found = timetable(self._chains(now, care, wait, only=admission), now)
            if found.kept:
                self._promised, self._valid = found, True
                return True
        return self._never_fits(_BARE, wait, admission, now)

    def _never_fits(self, care: Care, wait: Wait, admission: Admission, now: int) -> bool:
        """Not one task could be kept alive to its deadline: waiting would never end, so it has its chance alone."""
        return (
            not self._in_flight and not timetable(self._chains(now, care, wait, only=admission, empty=True), now).kept
        )

    @property
    def _in_doubt(self) -> bool:
        return any(task.unsure for member in self._members for task in member.tasks.values())

    @property
    def _in_flight(self) -> bool:
        return any(
            member.tasks or any(admission.submitted_at is not None for admission in member.admissions)
            for member in self._members
        )

    # -- what it would take ----------------------------------------------------------------------------------------

    @property
    def _road_ms(self) -> int:
        return max(self._roads)

    def _chains(
        self,
        now: int,
        care: Care,
        extra: Wait | None = None,
        jobs: int = 1,
        *,
        only: Admission | None = None,
        empty: bool = False,
    ) -> Sequence[Chain]:
        """Those in flight. With `extra`, what would be: that request, or so many jobs, and all that was let through.

        `only`: no more than this one of what was let through. `empty`: were nothing sent before now.
        """
        ip = self._ledgers(self._ip, now, care, empty=empty)
        chains: list[Chain] = []
        asked = extra.task if extra is not None else None
        for member in self._members:
            mine = extra is not None and extra.member is member
            ledgers = ip + self._ledgers(member.windows, now, care, empty=empty)
            if mine and extra is not None and extra.purpose is not None and extra.admission is None:
                place_from(now, ledgers)
            if not self.period(member):
                continue
            for admission in self._openings(member, extra if mine else None, jobs, only, all_=extra is not None):
                chains += self._opened(member, admission, now, care, ledgers)
            for task in member.tasks.values():
                if task.nameless and now > task.kept_at + round(1000 * (member.pace.keep_alive or 0)):
                    continue  # too late
                # Of an unsure one nobody knows how it fared: it is due at once.
                last = now - self.period(member, care) if task.unsure and care.doubts else task.kept_at
                chain = Chain(
                    task.key,
                    now if task is asked else task.asking_since or last,
                    task.again_at,
                    task.earliest_at,
                    max(member.least_ms, 1),
                    self.period(member, care),
                    task.deadline_at,
                    ledgers,
                )
                chains.append(chain)
        return chains

    @staticmethod
    def _openings(
        member: Member, extra: Wait | None, jobs: int, only: Admission | None, *, all_: bool
    ) -> Iterator[Admission]:
        """`extra`: where it is this member's."""
        for admission in member.admissions:
            if not admission.made and (admission.submitted_at is not None or (all_ and only is None)):
                yield admission
        if extra is not None and only is not None:
            yield only
        elif extra is not None and extra.purpose is None:
            yield from (Admission() for _ in range(jobs))

    def _opened(
        self, member: Member, admission: Admission, now: int, care: Care, ledgers: tuple[Ledger, ...]
    ) -> Iterator[Chain]:
        begun_at = admission.submitted_at
        for _ in range(admission.unsent):
            begun_at = place_from(now, ledgers)
        if begun_at is not None:
            until = begun_at + round(1000 * member.pace.deadline)
            period = self.period(member, care)
            yield Chain(_key(admission), begun_at, 0, begun_at, max(member.least_ms, 1), period, until, ledgers)

    def _ledgers(self, windows: Windows, now: int, care: Care, *, empty: bool) -> tuple[Ledger, ...]:
        """What was sent, as a promise sees it: a request counts from its sending until its answer and the window."""
        road = self._road_ms + care.spare_ms
        taken = [] if empty else [min(entry.counted_by, now + road) - road for entry in windows.sent]
        return tuple(
            Ledger(window.requests - (_spares(window) if care.spares else 0), length + road, taken)
            for window, length in windows.lengths()
        )


def _key(admission: Admission) -> int:
    return -id(admission)


def _spares(window: Window) -> int:
    return next((spares for least, spares in _SPARES.items() if window.requests >= least), 0)
