"""Whose turn it is, case by case: as the pacer's own description says."""

from dataclasses import dataclass, field, replace

import pytest

from handlers.vendors.contract import Pace, Purpose, Window
from service.pacing.lives import Lives
from service.pacing.pacer import PATIENT_MS, Pacer
from service.pacing.waits import Member, Tracked, Wait

NOW = 1_000_000
PACE = Pace(
    first_poll=5,
    interval=5,
    deadline=60,
    call=30,
    blocking_call=30,
    windows=(Window("ip", 100, 60.0), Window("account", 90, 60.0)),
    keep_alive=10.0,
    least=1.0,
)


def some_nine() -> Lives:
    """Nearly all of them between eight and ten seconds."""
    known = Lives()
    for _ in range(50):
        known.learn(8.0, 10.0)
    return known


@dataclass
class Line:
    """One host, and who stands there."""

    pace: Pace = PACE
    pacer: Pacer = field(default_factory=Pacer)
    now: int = NOW
    tasks: int = 0

    def __post_init__(self) -> None:
        self.member = self.account("first")

    def account(self, name: str) -> Member:
        member = Member(name, name, self.pace)
        self.pacer.join(member)
        return member

    def task(self, age: float, kept: float | None = None, *, lives: Lives | None = None) -> Tracked:
        """Submitted `age` seconds ago, and asked `kept` seconds ago."""
        self.tasks += 1
        begun_at = self.now - round(1000 * age)
        kept_at = begun_at if kept is None else self.now - round(1000 * kept)
        it = Tracked(self.tasks, lives or Lives(), begun_at, kept_at, begun_at + round(1000 * self.pace.deadline))
        self.pacer.track(self.member, it)
        return it

    def wait(self, purpose: Purpose | None, task: Tracked | None = None, *, since: int = 0) -> Wait:
        it = Wait(self.member, purpose, self.now - since, task=task)
        self.pacer.line_up(it)
        return it

    def admitted(self, purpose: Purpose) -> Wait:
        """A request of a job that was let through."""
        it = Wait(self.member, purpose, self.now, admission=self.pacer.admit(self.wait(None)))
        self.pacer.line_up(it)
        return it

    def next(self) -> Wait | None:
        return self.pacer.choose(self.now)[0]

    def order(self, count: int) -> list[Wait | None]:
        """Who goes, one after the other, all of them now."""
        gone = []
        for _ in range(count):
            wait = self.next()
            gone.append(wait)
            if wait is not None and wait.purpose is None:
                self.pacer.admit(wait)
            elif wait is not None:
                self.pacer.send(wait, self.now)
        return gone


def test_all_go_in_the_order_of_what_they_are_for() -> None:
    line = Line()
    look = line.wait(Purpose.LOOK)
    asked = line.wait(Purpose.POLL, line.task(7, 6))
    job = line.wait(None)
    likely = line.wait(Purpose.POLL, line.task(9.9, 2, lives=some_nine()))
    owed = line.admitted(Purpose.SUBMIT)
    late, due = line.wait(Purpose.POLL, line.task(20, 9.3)), line.wait(Purpose.POLL, line.task(30, 9.5))
    assert line.order(7) == [due, late, owed, likely, job, asked, look]


def test_a_task_that_is_most_likely_lost_takes_no_place_from_one_that_is_not() -> None:
    line = Line()
    lost, due = line.wait(Purpose.POLL, line.task(30, 12)), line.wait(Purpose.POLL, line.task(30, 9.5))
    assert line.order(2) == [due, lost]


def test_a_person_who_has_waited_long_goes_between_jobs() -> None:
    line = Line()
    job, look = line.wait(None), line.wait(Purpose.LOOK, since=PATIENT_MS)
    assert line.order(2) == [look, job]


def test_while_jobs_wait_in_the_store_nobody_only_looks_and_no_question_is_asked_in_passing() -> None:
    line = Line()
    line.member.hungry = True
    line.wait(Purpose.LOOK)
    line.wait(Purpose.POLL, line.task(7, 6))
    assert line.next() is None
    line.member.hungry = False
    assert None not in line.order(2)


def test_a_question_that_can_wait_is_asked_no_earlier_than_it_is_worth_it() -> None:
    line = Line(replace(PACE, windows=(), keep_alive=None))
    wait = line.wait(Purpose.POLL, line.task(3))
    nobody, look_at = line.pacer.choose(line.now)
    assert (nobody, look_at) == (None, NOW + 2_000)
    line.now += 2_000
    assert line.next() is wait


def test_a_task_is_asked_no_more_often_over_its_life_than_its_vendor_wants() -> None:
    line = Line(replace(PACE, windows=(), keep_alive=None, interval=1.0, least=1.0, on_average=5.0))
    task, asked = line.task(age=0), []
    wait = line.wait(Purpose.POLL, task)
    for line.now in range(NOW, NOW + 60_001, 250):
        if line.next() is wait:
            line.pacer.send(wait, line.now)
            line.pacer.heard(task, kept=True)
            asked.append(line.now - NOW)
            wait = line.wait(Purpose.POLL, task)
    assert asked == [5_000 * number for number in range(1, 13)]


def test_one_accounts_full_window_holds_up_no_other_account() -> None:
    line = Line(replace(PACE, windows=(Window("ip", 40, 60.0), Window("account", 4, 60.0)), keep_alive=None))
    for _ in range(4):
        line.wait(Purpose.LOOK)
    assert None not in line.order(4)
    line.wait(Purpose.LOOK)
    assert line.next() is None
    other = line.account("second")
    theirs = Wait(other, Purpose.LOOK, NOW)
    line.pacer.line_up(theirs)
    assert line.next() is theirs


def test_after_a_429_only_keep_alives_are_sent_and_where_it_says_how_long_not_even_those() -> None:
    line = Line()
    due = line.wait(Purpose.POLL, line.task(30, 9.5))
    line.wait(Purpose.LOOK)
    line.member.refused_until = NOW + 5_000
    assert line.order(2) == [due, None]
    line.wait(Purpose.POLL, line.task(31, 9.5))
    line.member.banned_until = NOW + 2_000
    assert line.pacer.choose(NOW) == (None, NOW + 2_000)


def test_a_question_that_was_refused_for_its_token_is_asked_again_at_once() -> None:
    line = Line()
    task = line.task(30, 9.0)
    line.member.hungry = True
    first = line.wait(Purpose.POLL, task)
    assert line.order(1) == [first]
    again = line.wait(Purpose.POLL, task)
    assert line.next() is again, "nothing has kept it alive yet"


def test_a_task_that_has_ended_makes_room_at_once() -> None:
    line = Line()
    tasks = [line.task(1) for _ in range(4)]
    before = line.pacer.room(line.member, line.now, 16)
    line.pacer.forget(line.member, tasks[0].key)
    assert line.pacer.room(line.member, line.now, 16) == before + 1


@pytest.mark.parametrize("jobs", [1, 3])
def test_there_is_room_for_as_many_as_are_let_through(jobs: int) -> None:
    line = Line(replace(PACE, windows=(Window("ip", 12 * jobs, 60.0),)))
    room = line.pacer.room(line.member, line.now, 16)
    for _ in range(16):
        line.wait(None)
    assert sum(1 for wait in line.order(16) if wait is not None) == room > 0
