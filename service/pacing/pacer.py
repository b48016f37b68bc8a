"""Whose turn is it? One host's requests, of all its accounts, in the order that loses no task and wastes none: pure.

1. A task whose keep-alive is due: at the latest instant that its promise allows, for each question costs a request.
2. What an admitted job still has to send, and a token without which nobody can ask.
3. A question to a task that is most likely finished: its last one, sooner or later.
4. A new job, where all promises can be kept beside it; fetches, and people who have waited long.
5. Any other question worth its price: where nobody waits for the windows.
6. Styles and credits.

What is behind never takes what those before it wait for; only a full window of one account holds up no other. Times are
milliseconds of a clock that is never set.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

from handlers.vendors.contract import Purpose
from service.pacing import outlook
from service.pacing.keeping import Keeping
from service.pacing.waits import OPENING, Admission, Member, Tracked, Wait
from service.pacing.windows import Sent, Windows

# What does not fit beside the promises may fit later although no window opens: a task's end comes nearer.
LOOK_AGAIN_MS = 2_000
# A person who waits for credits or styles has waited long enough to be let in between jobs.
PATIENT_MS = 10_000


class Rank(IntEnum):
    KEEP = 1
    OWED = 2
    LIKELY = 3
    JOB = 4
    ASK = 5
    LOOK = 6


_RANKS: Mapping[Purpose | None, Rank] = {
    None: Rank.JOB,
    Purpose.UPLOAD: Rank.JOB,
    Purpose.SUBMIT: Rank.JOB,
    Purpose.FETCH: Rank.JOB,
    Purpose.LOOK: Rank.LOOK,
}


class Pacer:
    """All accounts at one host: they share what is counted per IP."""

    def __init__(self) -> None:
        self.ip = Windows([])
        self.members: list[Member] = []
        self.waiting: list[Wait] = []
        self._keeping = Keeping(self.ip, self.members)

    # -- what happens ----------------------------------------------------------------------------------------------

    def changed(self) -> None:
        self._keeping.changed()

    def join(self, member: Member) -> None:
        """Where two members know different limits of the host, all of them are kept."""
        self.members.append(member)
        new = [window for window in member.pace.windows if window.scope == "ip" and window not in self.ip.limits]
        self.ip.limits = [*self.ip.limits, *new]

    @property
    def longest_ms(self) -> int:
        return max([self.ip.longest_ms, *(member.windows.longest_ms for member in self.members)])

    def track(self, member: Member, task: Tracked) -> None:
        member.tasks[task.key] = task
        self._keeping.tracked(member, task)
        self.changed()

    def forget(self, member: Member, key: int) -> None:
        """The task has ended, or is somebody else's."""
        if member.tasks.pop(key, None) is not None:
            self.changed()

    def line_up(self, wait: Wait) -> None:
        self.waiting.append(wait)
        if wait.task is not None and wait.task.asking_since is not None:
            # Its question was refused on the way, for its token perhaps: it is as unasked as before.
            wait.task.asking_since = None
            self.changed()

    def send(self, wait: Wait, now: int) -> list[tuple[Windows, Sent]]:
        """Count a request that goes out now."""
        self.waiting.remove(wait)
        windows = [self.ip] if wait.purpose is Purpose.AUTH else [self.ip, wait.member.windows]
        entries = [(each, each.send(now, blocks=wait.blocks)) for each in windows if each.limits]
        if wait.task is not None and wait.purpose is Purpose.POLL:
            wait.task.asking_since = now
        if wait.admission is not None and wait.purpose is Purpose.UPLOAD:
            # However many uploads it makes, its submission is still to come.
            wait.admission.unsent = max(wait.admission.unsent - 1, 1)
        elif wait.admission is not None and wait.purpose is Purpose.SUBMIT:
            wait.admission.unsent, wait.admission.submitted_at = 0, now
        self.changed()
        return entries

    def unsend(self, wait: Wait, entries: Sequence[tuple[Windows, Sent]]) -> None:
        """It was counted, and then never sent."""
        for windows, entry in entries:
            # The store may have been away for longer than a window remembers.
            if entry in windows.sent:
                windows.sent.remove(entry)
        if wait.task is not None:
            wait.task.asking_since = None
        self.changed()

    def admit(self, wait: Wait) -> Admission:
        self.waiting.remove(wait)
        # What was promised has been prepared before.
        admission = Admission(unsent=1, promised=True) if wait.promised else Admission()
        wait.member.admissions.append(admission)
        self.changed()
        return admission

    def dismiss(self, member: Member, admission: Admission) -> None:
        """The job's task is tracked, or there will be none."""
        if admission in member.admissions:
            member.admissions.remove(admission)
        self.changed()

    def arrived(self, purpose: Purpose, ms: int) -> None:
        """A request has been answered, after so many milliseconds."""
        if purpose is Purpose.POLL:
            self._keeping.arrived(ms)
        self.changed()

    def heard(self, task: Tracked, *, kept: bool) -> None:
        """A question has ended; `kept`: with an answer that the vendor counts as a question."""
        if task.asking_since is not None:
            task.questions += 1
        if task.asking_since is not None and kept:
            task.kept_at, task.unsure = task.asking_since, False
        task.asking_since = None
        self.changed()

    # -- who is next -----------------------------------------------------------------------------------------------

    def choose(self, now: int) -> tuple[Wait | None, int | None]:
        """Who may go now; else, when to look again (None: when something changes)."""
        looks: list[int] = []
        order: list[tuple[Rank, float, int, Wait]] = []
        for number, wait in enumerate(self.waiting):
            rank = self._rank(wait, now)
            shut_until = self._shut_until(wait, rank)
            if shut_until > now:
                looks.append(shut_until)
                continue
            if rank is not Rank.KEEP:
                looks += self._ripens_at(wait, now)
            if rank is not None:
                order.append((rank, self._place(wait, rank, now), number, wait))
        order.sort()
        ip_free_at = self.ip.free_at(now)
        full, late = set[Member](), False
        for rank, _, _, wait in order:
            counted = wait.purpose is not Purpose.AUTH
            if counted and wait.member in full:
                continue
            if ip_free_at > now:
                looks.append(ip_free_at)
                break
            if counted and (free_at := wait.member.windows.free_at(now)) > now:
                looks.append(free_at)
                full.add(wait.member)
                continue
            # What is behind must not take what an earlier one waits for; but a question may end what it waits for.
            if rank > Rank.LIKELY and late:
                break
            if rank is Rank.KEEP or not counted or self._is_promised(wait) or self._keeping.fits(wait, now):
                return wait, None
            looks.append(self._next_change(now))
            if rank is not Rank.OWED:
                break
            late = True
        return None, min(looks, default=None)

    def room(self, member: Member, now: int, most: int) -> int:
        """How many more jobs may be begun now, up to `most`; the others are better off in the store.

        With a keep-alive, those that can be admitted; without one, a few to stand in the line.
        """
        if member.refused_until > now:
            return 0
        mine = [wait for wait in self.waiting if wait.member is member]
        if not self._keeping.any:
            standing = sum(1 for wait in mine if self._rank(wait, now) is Rank.JOB)
            line = min((window.requests for each in (self.ip, member.windows) for window in each.limits), default=most)
            return max(min(most, line - standing), 0)
        standing = sum(1 for wait in mine if wait.purpose is None and not wait.promised)
        most -= standing
        free = max(self.ip.free_at(now), member.windows.free_at(now)) <= now
        room = 0
        while free and room < most and self._keeping.fits(Wait(member, None, now), now, jobs=standing + room + 1):
            room += 1
        return room

    def next_room_at(self, member: Member, now: int) -> int:
        """When `room` may have grown by itself; a task that ends makes room too."""
        return member.refused_until if member.refused_until > now else self._next_change(now)

    def due_at(self, key: int) -> int | None:
        """When the task's keep-alive will be sent; None where it has none."""
        return self._keeping.last_known_due_at(key)

    def worth_at(self, member: Member, task: Tracked) -> int:
        """When a question to it is first worth its price, by what is known of such tasks."""
        return max(min(outlook.of(member, task).worth_at, task.deadline_at), outlook.floor(member, task))

    # -- judgement -------------------------------------------------------------------------------------------------

    def _rank(self, wait: Wait, now: int) -> Rank | None:
        """None: not worth a request yet."""
        if wait.purpose is Purpose.AUTH or wait.promised or (wait.admission is not None and wait.purpose in OPENING):
            return Rank.OWED
        if wait.purpose is Purpose.LOOK and now - wait.since >= PATIENT_MS:
            return Rank.JOB
        if wait.purpose is Purpose.LOOK and wait.member.hungry:
            return None
        if wait.purpose is not Purpose.POLL:
            return _RANKS[wait.purpose]
        if wait.task is None:
            return Rank.LIKELY
        return self._rank_of_question(wait.member, wait.task, now)

    def _rank_of_question(self, member: Member, task: Tracked, now: int) -> Rank | None:
        if self._keeping.period(member) and self._keep_at(member, task, now) <= now:
            return Rank.KEEP
        if now < outlook.floor(member, task):
            return None
        likely_at = outlook.of(member, task).likely_at
        if likely_at is not None and likely_at <= now:
            return Rank.LIKELY
        if now < self.worth_at(member, task) or (member.hungry and self._keeping.period(member)):
            return None
        return Rank.ASK

    @staticmethod
    def _is_promised(wait: Wait) -> bool:
        """Its task may be dying now: what others need in two minutes, should they live so long, counts for less."""
        return wait.promised or (wait.admission is not None and wait.admission.promised)

    def _place(self, wait: Wait, rank: Rank, now: int) -> float:
        """Among those of its rank, the least first."""
        if rank is Rank.KEEP and wait.task is not None:
            # Who is most likely lost must not take the window from those that are not.
            lost_at = wait.task.kept_at + round(1000 * (wait.member.pace.keep_alive or 0))
            return lost_at if lost_at > now else math.inf
        if wait.task is not None:
            return -outlook.unnoticed(wait.task, now)
        # A person's one request goes before jobs that may need many.
        return wait.since if wait.purpose is not Purpose.LOOK else 0

    def _shut_until(self, wait: Wait, rank: Rank | None) -> int:
        member = wait.member
        return member.banned_until if rank is Rank.KEEP else max(member.refused_until, member.banned_until)

    def _ripens_at(self, wait: Wait, now: int) -> Iterator[int]:
        """When it may be worth more than now."""
        member, task = wait.member, wait.task
        if task is None:
            at = [wait.since + PATIENT_MS] if wait.purpose is Purpose.LOOK else []
        else:
            floor = outlook.floor(member, task)
            ages = [
                outlook.of(member, task).likely_at,
                None if member.hungry and self._keeping.period(member) else self.worth_at(member, task),
            ]
            at = [max(age, floor) for age in ages if age is not None]
            if self._keeping.period(member):
                at.append(self._keep_at(member, task, now))
        yield from (each for each in at if each > now)

    def _keep_at(self, member: Member, task: Tracked, now: int) -> int:
        """When it must be asked for its keep-alive."""
        return max(self._keeping.due_at(member, task, now), task.again_at)

    def _next_change(self, now: int) -> int:
        """When something may fit that does not now: the next request falls out of a window, or time has passed."""
        return min(self._expiries(now), default=now + LOOK_AGAIN_MS)

    def _expiries(self, now: int) -> Iterator[int]:
        if self._keeping.any:
            yield now + LOOK_AGAIN_MS
        for windows in (self.ip, *(member.windows for member in self.members)):
            for _, length in windows.lengths():
                yield from (end for entry in windows.sent if (end := entry.counted_by + length) > now)
