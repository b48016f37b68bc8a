"""Whose turn is it? One host's requests, of all its accounts, in the order that loses no task and wastes none: pure.

1. A task whose keep-alive is due: at the latest instant that its promise allows, for each question costs a request.
2. What an admitted job still has to send, and a token without which nobody can ask.
3. A question to a task that is most likely finished: its last one, sooner or later.
4. A new job, where all promises can be kept beside it; fetches, and people who have waited long.
5. Any other question worth its price: where nobody waits for the windows.
6. Styles and credits.

What is behind never takes what those before it wait for. Times are milliseconds of a clock that is never set.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

from handlers.vendors.contract import Purpose
from service.pacing.promises import Chain, Ledger, Timetable, place_from, timetable
from service.pacing.waits import OPENING, Admission, Member, Tracked, Wait
from service.pacing.windows import Sent, Windows

# From here on a question is taken to be the last one: few are wasted, and a place is free earlier.
LIKELY = 0.9
# A poll's way to the vendor, and our own delays: kept off the keep-alive. Twice the slowest of the last polls.
LEAST_GUARD_MS = 500
MOST_GUARD_MS = 3_000
_FIRST_ROAD_MS = 500
# What is newly promised must be kept although ways become longer meanwhile.
SPARE_MS = 250
_ROAD_AFTER_FAILURE_MS = 1_000
_ROADS = 20
# Between two tries to keep a task alive, after one that was in vain.
_AGAIN_MS = 200
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
        self._roads: deque[int] = deque([_FIRST_ROAD_MS], maxlen=_ROADS)
        # Kept until something changes: the promises, and whether they can all be kept.
        self._promised = Timetable({}, kept=True)
        self._valid = True

    # -- what happens ----------------------------------------------------------------------------------------------

    def changed(self) -> None:
        self._valid = False

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
        self.changed()

    def forget(self, member: Member, key: int) -> None:
        """The task has ended, or is somebody else's."""
        if member.tasks.pop(key, None) is not None:
            self.changed()

    def send(self, wait: Wait, now: int) -> list[tuple[Windows, Sent]]:
        """Count a request that goes out now."""
        self.waiting.remove(wait)
        windows = [self.ip] if wait.purpose is Purpose.AUTH else [self.ip, wait.member.windows]
        entries = [(each, each.send(now, blocks=wait.blocks)) for each in windows if each.limits]
        if wait.task is not None and wait.purpose is Purpose.POLL:
            wait.task.asking_since = now
        if wait.admission is not None and wait.purpose in OPENING:
            wait.admission.unsent = max(wait.admission.unsent - 1, 0)
            if wait.purpose is Purpose.SUBMIT:
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
        admission = Admission()
        wait.member.admissions.append(admission)
        self.changed()
        return admission

    def dismiss(self, member: Member, admission: Admission) -> None:
        """The job's task is tracked, or there will be none."""
        if admission in member.admissions:
            member.admissions.remove(admission)
        self.changed()

    def arrived(self, purpose: Purpose, ms: int) -> None:
        """How long a request and its answer took: the way there is at most that."""
        if purpose is Purpose.POLL:
            self._roads.append(ms)
        self.changed()

    def failed(self) -> None:
        """A question was in vain: the next ones are sent earlier, so that there is time for another."""
        self._roads.append(_ROAD_AFTER_FAILURE_MS)
        self.changed()

    def heard(self, task: Tracked, *, kept: bool) -> None:
        """A question has ended; `kept`: with an answer that the vendor counts as a question."""
        if task.asking_since is not None and kept:
            task.kept_at, task.unsure = task.asking_since, False
        elif task.asking_since is not None:
            task.tried_at = task.asking_since
        task.asking_since = None
        self.changed()

    # -- who is next -----------------------------------------------------------------------------------------------

    def choose(self, now: int) -> tuple[Wait | None, int | None]:
        """Who may go now; else, when to look again (None: when something changes)."""
        looks: list[int] = []
        for wait in sorted(self.waiting, key=lambda wait: self._place(wait, now)):
            member = wait.member
            rank = self._rank(wait, now)
            shut_until = member.banned_until if rank is Rank.KEEP else max(member.refused_until, member.banned_until)
            if shut_until > now:
                looks.append(shut_until)
                continue
            if rank is None:
                looks.append(self._worth_at(wait, now))
                continue
            free_at = max(self.ip.free_at(now), 0 if wait.purpose is Purpose.AUTH else member.windows.free_at(now))
            if free_at > now:
                looks.append(free_at)
            elif rank <= Rank.OWED or self._fits(wait, now):
                return wait, None
            elif (later := self._next_change(now)) is not None:
                looks.append(later)
            # What is behind must not take what this one waits for.
            break
        looks += [at for at in self._promises(now).next_at.values() if at > now]
        return None, min(looks, default=None)

    def room(self, member: Member, now: int, most: int) -> int:
        """How many more jobs may be begun now, up to `most`; the others are better off in the store.

        With a keep-alive, those that can be admitted; without one, a few to stand in the line.
        """
        if member.refused_until > now:
            return 0
        if not self._keeps_alive:
            standing = sum(1 for wait in self.waiting if wait.member is member and self._rank(wait, now) is Rank.JOB)
            line = min((window.requests for each in (self.ip, member.windows) for window in each.limits), default=most)
            return max(min(most, line - standing), 0)
        most -= sum(1 for wait in self.waiting if wait.member is member and wait.purpose is None)
        free = max(self.ip.free_at(now), member.windows.free_at(now)) <= now
        room = 0
        while free and room < most and self._fits(Wait(member, None, now), now, jobs=room + 1):
            room += 1
        return room

    def next_room_at(self, member: Member, now: int) -> int | None:
        """When `room` may have grown by itself; None: only when a task ends."""
        if member.refused_until > now:
            return member.refused_until
        return self._next_change(now)

    def due_at(self, key: int) -> int | None:
        """When the task's keep-alive will be sent; None where it has none."""
        return self._promised.next_at.get(key)

    def worth_at(self, member: Member, task: Tracked) -> int:
        """When a question to it is first worth its price, by what is known of such tasks."""
        base, pace = task.begun_at, member.pace
        least = max(task.kept_at + member.least_ms, task.earliest_at)
        alive = max(task.kept_at - base, 0) / 1000
        if task.unsure:
            return least
        if task.lives.known:
            at = base + round(1000 * task.lives.age_when(alive, member.patience))
        elif task.kept_at <= base:
            at = base + round(1000 * pace.first_poll)
        else:
            # After a minute a task is a long one, and is asked half as often.
            at = task.kept_at + round(1000 * pace.interval * (2 if alive > 60 else 1))
        return min(max(at, least), max(task.deadline_at, least))

    # -- judgement -------------------------------------------------------------------------------------------------

    def _place(self, wait: Wait, now: int) -> tuple[int, float]:
        rank = self._rank(wait, now)
        if rank is None:
            return (len(Rank) + 1, 0)
        if rank is Rank.KEEP and wait.task is not None:
            return (rank, self._promises(now).next_at.get(wait.task.key, wait.task.kept_at))
        if rank in (Rank.LIKELY, Rank.ASK) and wait.task is not None:
            return (rank, -_unnoticed(wait.task, now))
        # A person's one request goes before jobs that may need many.
        return (rank, wait.since if wait.purpose is not Purpose.LOOK else 0)

    def _rank(self, wait: Wait, now: int) -> Rank | None:
        """None: not worth a request yet."""
        task = wait.task
        if wait.purpose is Purpose.AUTH or (wait.admission is not None and wait.purpose in OPENING):
            return Rank.OWED
        if wait.purpose is Purpose.LOOK and now - wait.since >= PATIENT_MS:
            return Rank.JOB
        if wait.purpose is Purpose.LOOK and wait.member.hungry:
            return None
        if wait.purpose is not Purpose.POLL:
            return _RANKS[wait.purpose]
        if task is None:
            return Rank.LIKELY
        if self._period(wait.member) and self._keep_again_at(wait.member, task, now) <= now:
            return Rank.KEEP
        if now < max(task.kept_at + wait.member.least_ms, task.earliest_at) and now < task.deadline_at:
            return None
        if task.unsure:
            return Rank.KEEP
        alive, age = (task.kept_at - task.begun_at) / 1000, (now - task.begun_at) / 1000
        if task.lives.known and task.lives.finished(max(alive, 0), age) >= LIKELY:
            return Rank.LIKELY
        if now < self.worth_at(wait.member, task):
            return None
        return None if wait.member.hungry and self._period(wait.member) else Rank.ASK

    def _worth_at(self, wait: Wait, now: int) -> int:
        """When a question that is not worth asking now may be."""
        if wait.task is None:
            return wait.since + PATIENT_MS
        worth = self.worth_at(wait.member, wait.task)
        keep = self._keep_again_at(wait.member, wait.task, now) if self._period(wait.member) else worth
        if max(worth, keep) > now:
            return min(at for at in (worth, keep) if at > now)
        # Hungry: then only its being likely counts, and that is looked at now and then.
        return max(now, wait.task.tried_at) + min(wait.member.least_ms, _AGAIN_MS)

    def _keep_at(self, member: Member, task: Tracked, now: int) -> int:
        return self._promises(now).next_at.get(task.key, task.kept_at + self._period(member))

    def _keep_again_at(self, member: Member, task: Tracked, now: int) -> int:
        """When to keep it alive, at the soonest; after a question in vain soon again, while it can be saved."""
        may_live = now < task.kept_at + round(1000 * (member.pace.keep_alive or 0))
        # Once it is most likely lost, the windows belong to those that are not.
        again_ms = _AGAIN_MS if may_live else max(round(1000 * member.pace.interval), _AGAIN_MS)
        return max(self._keep_at(member, task, now), task.tried_at + again_ms)

    # -- promises --------------------------------------------------------------------------------------------------

    @property
    def _keeps_alive(self) -> bool:
        return any(member.pace.keep_alive for member in self.members)

    @property
    def _road_ms(self) -> int:
        return max(self._roads)

    def _period(self, member: Member) -> int:
        """From one question to the next at the latest, from sending to sending (0: no keep-alive)."""
        if member.pace.keep_alive is None:
            return 0
        whole = round(1000 * member.pace.keep_alive)
        guard = min(max(2 * self._road_ms, LEAST_GUARD_MS), MOST_GUARD_MS, whole // 2)
        return whole - guard

    def _promises(self, now: int) -> Timetable:
        if not self._valid:
            self._promised = self._timetable(now)
            self._valid = True
        return self._promised

    def _fits(self, wait: Wait, now: int, *, jobs: int = 1) -> bool:
        """Whether all promises can be kept beside this request, or beside `jobs` new jobs."""
        return not self._keeps_alive or self._timetable(now, wait, jobs, SPARE_MS).kept

    def _timetable(self, now: int, extra: Wait | None = None, jobs: int = 0, spare: int = 0) -> Timetable:
        """What is promised now; with `extra`, what would be. `spare` makes every way longer."""
        ip = self._ledgers(self.ip, now, spare)
        promised: list[Chain] = []
        asked = extra.task if extra is not None else None
        for member in self.members:
            ledgers = ip + self._ledgers(member.windows, now, spare)
            period = max(self._period(member) - spare, 0)
            new = jobs if extra is not None and extra.purpose is None and extra.member is member else 0
            if extra is not None and extra.purpose is not None and extra.member is member:
                place_from(now, ledgers)
            if not period:
                continue
            for admission in [*member.admissions, *(Admission() for _ in range(new))]:
                begun = admission.submitted_at
                for _ in range(admission.unsent):
                    begun = place_from(now, ledgers)
                if begun is not None:
                    until = begun + round(1000 * member.pace.deadline)
                    promised.append(Chain(-id(admission), begun + period, period, until, ledgers))
            for task in member.tasks.values():
                kept = now if task is asked else task.asking_since or task.kept_at
                # What is late already is due now.
                due = now if task.unsure else max(kept + period, now)
                promised.append(Chain(task.key, due, period, task.deadline_at, ledgers))
        return timetable(promised, now)

    def _ledgers(self, windows: Windows, now: int, spare: int) -> tuple[Ledger, ...]:
        """What was sent, as a promise sees it: a request counts from its sending until its answer and the window."""
        road = self._road_ms + spare
        return tuple(
            Ledger(window.requests, length + road, [min(entry.counted_by, now + road) - road for entry in windows.sent])
            for window, length in windows.lengths()
        )

    def _next_change(self, now: int) -> int | None:
        """When the next request falls out of a window."""
        return min(self._expiries(now), default=None)

    def _expiries(self, now: int) -> Iterator[int]:
        for windows in (self.ip, *(member.windows for member in self.members)):
            for _, length in windows.lengths():
                yield from (end for entry in windows.sent if (end := entry.counted_by + length) > now)


def _unnoticed(task: Tracked, now: int) -> float:
    """For how long it may have lain finished; where nothing is known of such tasks, since when nobody has asked."""
    alive, age = max(task.kept_at - task.begun_at, 0) / 1000, (now - task.begun_at) / 1000
    return task.lives.unnoticed(alive, age) if task.lives.known else age - alive
