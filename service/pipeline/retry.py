"""Ninth step, pure: when, if ever, next."""

from dataclasses import dataclass

from schemas.delivery import Attempt, DeliveryState, Outcome

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

# At once, then these waits: about three days in all. Source: delivery.md, "Outcomes".
SCHEDULE = (
    5 * SECOND,
    1 * MINUTE,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
JITTER = 0.1
LONGEST_RETRY_AFTER = 10 * HOUR

_FINAL = {
    Outcome.DELIVERED: DeliveryState.DELIVERED,
    Outcome.SUPERSEDED: DeliveryState.DELIVERED,
    Outcome.LAST: DeliveryState.DELIVERED,
    Outcome.ABORT: DeliveryState.ABORTED,
    Outcome.GONE: DeliveryState.HELD,
    Outcome.REFUSED: DeliveryState.HELD,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery after an attempt: a final state, or the time of the next attempt."""

    state: DeliveryState
    next_at: int | None = None


def next_attempt_at(
    schedule: tuple[int, ...], attempts: int, now: int, jitter: float, retry_after: float | None = None
) -> int | None:
    """When to try again after `attempts` failed ones, in milliseconds; None: never.

    `jitter` is a random number from -1 to 1; `retry_after` (seconds) only ever makes the wait longer.
    """
    if attempts > len(schedule):
        return None
    wait = schedule[attempts - 1] * (1 + JITTER * jitter)
    if retry_after is not None:
        wait = max(wait, min(retry_after * SECOND, LONGEST_RETRY_AFTER))
    return now + round(wait)


def verdict(schedule: tuple[int, ...], attempt: Attempt, attempts: int, now: int, jitter: float) -> Verdict:
    """`attempts` counts this one, and those before it since its schedule began."""
    final = _FINAL.get(attempt.outcome)
    if final is not None:
        return Verdict(final)
    next_at = next_attempt_at(schedule, attempts, now, jitter, attempt.retry_after)
    return Verdict(DeliveryState.EXHAUSTED) if next_at is None else Verdict(DeliveryState.PENDING, next_at)


def backoff(tries: int, *, first: int = SECOND, longest: int = MINUTE) -> int:
    """The wait before try `tries + 1` of a step of our own, in milliseconds: doubling, capped."""
    return min(first << min(tries, 30), longest)
