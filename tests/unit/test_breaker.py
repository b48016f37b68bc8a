"""What attempts say about a receiver, without a service around them."""

import pytest

from schemas.delivery import Attempt, Outcome
from service.pipeline.breaker import (
    AUTO_DISABLE_MS,
    FAILURES_BEFORE_BROKEN,
    FAILURES_BEFORE_CAUTION,
    Breaker,
    Mark,
)
from service.pipeline.retry import HOUR, MINUTE, SECOND

NOW = 1_765_000_000_000


def fails(it: Breaker, now: int, outcome: Outcome = Outcome.RETRY, retry_after: float | None = None) -> Mark | None:
    return it.judge(Attempt(outcome, now, 5, retry_after=retry_after), now, 0.0)


def broken() -> Breaker:
    it = Breaker()
    for number in range(FAILURES_BEFORE_BROKEN):
        fails(it, NOW + number)
    return it


def test_what_the_store_is_to_remember_is_said_once() -> None:
    it = Breaker()
    marks = [fails(it, NOW) for _ in range(FAILURES_BEFORE_BROKEN + 5)]
    assert [(number, mark) for number, mark in enumerate(marks, 1) if mark] == [
        (1, Mark.FAILING),
        (FAILURES_BEFORE_BROKEN, Mark.BROKEN),
    ]
    assert it.judge(Attempt(Outcome.DELIVERED, NOW, 5), NOW, 0.0) is Mark.WELL
    assert it.judge(Attempt(Outcome.DELIVERED, NOW, 5), NOW, 0.0) is None, "the hot path writes nothing"


def test_probes_are_a_second_apart_then_two_and_never_more_than_a_minute() -> None:
    it, now, waits = broken(), NOW, []
    for _ in range(9):
        waits.append(it.not_before - now)
        now = it.not_before
        fails(it, now)
    assert waits == [9 + SECOND, *(SECOND * seconds for seconds in (2, 4, 8, 16, 32, 60, 60, 60))]


@pytest.mark.parametrize("jitter", [-1.0, 0.5, 1.0])
def test_probes_are_jittered(jitter: float) -> None:
    it = broken()
    it.probe_at = 0
    it.judge(Attempt(Outcome.RETRY, NOW, 5), NOW, jitter)
    assert it.not_before == NOW + round(2 * SECOND * (1 + 0.1 * jitter))


def test_attempts_that_were_under_way_when_it_broke_put_no_probe_off() -> None:
    it = broken()
    first = it.not_before
    for late in range(20):
        fails(it, NOW + 20 + late)
    assert it.not_before == first


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.SLOW_DOWN])
def test_a_broken_receivers_retry_after_counts_up_to_ten_hours(outcome: Outcome) -> None:
    it = broken()
    now = it.not_before
    fails(it, now, outcome, 600)
    assert it.not_before == now + 10 * MINUTE
    now = it.not_before
    fails(it, now, outcome, 1e9)
    assert it.not_before == now + 10 * HOUR


def test_only_who_says_so_slows_a_receiver_down_that_is_not_broken() -> None:
    it = Breaker()
    fails(it, NOW, Outcome.RETRY, 600)
    assert it.not_before == 0, "a 502 puts off its own delivery"
    fails(it, NOW, Outcome.SLOW_DOWN)
    assert it.not_before == NOW + SECOND
    fails(it, NOW, Outcome.SLOW_DOWN, 600)
    assert it.not_before == NOW + 10 * MINUTE


def test_a_success_ends_the_probing_but_not_the_rest_that_was_asked_for() -> None:
    it = broken()
    fails(it, it.not_before, Outcome.SLOW_DOWN, 30)
    rest = it.rest_until
    it.judge(Attempt(Outcome.DELIVERED, NOW, 5), NOW, 0.0)
    assert not it.cautious
    assert it.not_before == rest > 0


def test_caution_comes_before_the_break() -> None:
    it = Breaker()
    cautious = []
    for _ in range(FAILURES_BEFORE_CAUTION):
        cautious.append(it.cautious)
        fails(it, NOW)
    assert (cautious, it.cautious, it.broken_at) == ([False] * FAILURES_BEFORE_CAUTION, True, None)


def test_who_gives_a_delivery_up_is_alive() -> None:
    it = broken()
    assert it.judge(Attempt(Outcome.ABORT, NOW, 5, status=413), NOW, 0.0) is Mark.WELL


def test_what_was_given_up_before_anybody_was_asked_says_nothing_of_the_receiver() -> None:
    it = broken()
    before = it.not_before
    assert it.judge(Attempt(Outcome.ABORT, NOW, 5), NOW, 0.0) is None
    assert (it.cautious, it.not_before) == (True, before)


def test_five_days_of_failures_and_nothing_less_are_hopeless() -> None:
    it = broken()
    assert fails(it, NOW + AUTO_DISABLE_MS - 1) is None
    assert fails(it, NOW + AUTO_DISABLE_MS) is Mark.HOPELESS


def test_who_has_failed_now_and_then_for_five_days_is_not_hopeless() -> None:
    it = Breaker()
    fails(it, NOW)
    assert fails(it, NOW + 2 * AUTO_DISABLE_MS) is None
