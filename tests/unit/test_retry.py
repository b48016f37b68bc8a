"""When, if ever, next: the schedule, its jitter, and what a receiver may ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.delivery import Attempt, DeliveryState, Outcome
from service.pipeline.retry import (
    HOUR,
    JITTER,
    LONGEST_RETRY_AFTER,
    MINUTE,
    SCHEDULE,
    SECOND,
    Verdict,
    backoff,
    next_attempt_at,
    verdict,
)

NOW = 1_765_000_000_000


def test_the_schedule_is_the_documented_one_of_about_three_days() -> None:
    seconds = [wait / SECOND for wait in SCHEDULE]
    assert seconds == [5, 60, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert 72 * HOUR < sum(SCHEDULE) < 80 * HOUR


def test_each_failure_waits_its_turn_of_the_schedule_and_the_last_ends_it() -> None:
    for attempts, wait in enumerate(SCHEDULE, 1):
        assert next_attempt_at(SCHEDULE, attempts, NOW, 0.0) == NOW + wait
    assert next_attempt_at(SCHEDULE, len(SCHEDULE) + 1, NOW, 0.0) is None
    assert next_attempt_at(SCHEDULE, len(SCHEDULE) + 1, NOW, 0.0, retry_after=60) is None


@given(attempts=st.integers(1, len(SCHEDULE)), jitter=st.floats(-1, 1))
def test_jitter_stays_within_ten_percent(attempts: int, jitter: float) -> None:
    at = next_attempt_at(SCHEDULE, attempts, NOW, jitter)
    assert at is not None
    wait = SCHEDULE[attempts - 1]
    assert wait * (1 - JITTER) - 1 <= at - NOW <= wait * (1 + JITTER) + 1


def test_retry_after_only_ever_makes_the_wait_longer_and_ten_hours_at_most() -> None:
    def wait(attempts: int, retry_after: float) -> int:
        at = next_attempt_at(SCHEDULE, attempts, NOW, 0.0, retry_after)
        assert at is not None
        return at - NOW

    assert wait(1, 0) == 5 * SECOND
    assert wait(1, 4) == 5 * SECOND
    assert wait(1, 6.5) == 6500
    assert wait(1, 3600) == HOUR
    assert wait(1, 10 * 3600 + 1) == LONGEST_RETRY_AFTER == 10 * HOUR
    assert wait(1, 1e308) == 10 * HOUR
    assert wait(10, 60) == 24 * HOUR


@given(
    st.sampled_from([Outcome.RETRY, Outcome.SLOW_DOWN]),
    st.integers(1, 30),
    st.floats(-1, 1),
    st.none() | st.floats(0, allow_infinity=False, allow_nan=False),
    st.lists(st.integers(1, 10 * HOUR), min_size=1, max_size=20).map(tuple),
)
def test_a_failure_is_tried_again_in_time_or_is_exhausted(
    outcome: Outcome, attempts: int, jitter: float, retry_after: float | None, schedule: tuple[int, ...]
) -> None:
    attempt = Attempt(outcome, NOW, 1, retry_after=retry_after)
    found = verdict(schedule, attempt, attempts, NOW, jitter)
    if attempts > len(schedule):
        assert found == Verdict(DeliveryState.EXHAUSTED)
    else:
        assert found.state is DeliveryState.PENDING
        assert found.next_at is not None
        assert NOW <= found.next_at <= NOW + max(max(schedule) * (1 + JITTER), LONGEST_RETRY_AFTER) + 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.DELIVERED, DeliveryState.DELIVERED),
        (Outcome.ABORT, DeliveryState.ABORTED),
        (Outcome.GONE, DeliveryState.HELD),
        (Outcome.LAST, DeliveryState.DELIVERED),
    ],
)
def test_a_final_outcome_is_final_at_any_attempt(outcome: Outcome, state: DeliveryState) -> None:
    for attempts in (1, len(SCHEDULE), len(SCHEDULE) + 1):
        assert verdict(SCHEDULE, Attempt(outcome, NOW, 1), attempts, NOW, 0.0) == Verdict(state)


def test_a_step_of_ours_backs_off_to_a_minute_and_no_further() -> None:
    assert [backoff(tries) for tries in range(8)] == [1000, 2000, 4000, 8000, 16000, 32000, MINUTE, MINUTE]
    assert backoff(10**6) == MINUTE
