"""How long tasks live is learned from questions alone, and never believed for ever."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.pacing.lives import ENOUGH, Lives

MEDIAN, SPREAD = 20.0, 0.3


def taught(life: Callable[[], float], answers: int, known: Lives | None = None, *, patience: float = 1.0) -> Lives:
    """By asking as the service does, each task until it is found finished."""
    known = known or Lives()
    for _ in range(answers):
        ends, alive = life(), 0.0
        while (asked := known.age_when(alive, patience) if known.known else alive + 5.0) < ends:
            alive = asked
        known.learn(alive, asked)
    return known


def log_normal(dice: random.Random, median: float) -> Callable[[], float]:
    return lambda: median * math.exp(dice.gauss(0, SPREAD))


def share_finished(age: float) -> float:
    """Of log-normal lives, in truth."""
    return 0.5 * math.erfc(-math.log(age / MEDIAN) / SPREAD / math.sqrt(2))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lives_are_learned_from_questions_alone(seed: int) -> None:
    known = taught(log_normal(random.Random(seed), MEDIAN), 200)
    assert known.age_finished(0, 0.5) == pytest.approx(MEDIAN, rel=0.2)
    for age in (12, 16, 20, 25, 30, 40):
        assert known.finished(0, age) == pytest.approx(share_finished(age), abs=0.12)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_vendor_that_becomes_faster_or_slower_is_found_out(seed: int, factor: float) -> None:
    dice = random.Random(seed)
    known = taught(log_normal(dice, MEDIAN), 300)
    taught(log_normal(dice, MEDIAN * factor), 600, known)
    assert known.age_finished(0, 0.5) == pytest.approx(MEDIAN * factor, rel=0.3)


def test_a_few_answers_are_no_knowledge() -> None:
    known = Lives()
    for _ in range(ENOUGH):
        assert not known.known
        known.learn(5, 6)
    assert known.known


answers = st.lists(st.tuples(st.floats(0, 20_000), st.floats(0, 20_000)).map(lambda pair: (min(pair), max(pair))))
ages = st.floats(0, 1e6)


def learned(told: list[tuple[float, float]]) -> Lives:
    known = Lives()
    for alive, ended in told:
        known.learn(alive, ended)
    return known


@settings(max_examples=60, deadline=None, derandomize=True)
@given(answers, ages, ages, ages)
def test_with_age_a_task_is_ever_more_likely_finished(
    told: list[tuple[float, float]], one: float, two: float, three: float
) -> None:
    known = learned(told)
    alive, age, older = sorted((one, two, three))
    assert 0 <= known.finished(alive, age) <= known.finished(alive, older) + 1e-9 <= 1 + 2e-9
    assert -1e-6 <= known.unnoticed(alive, age) <= known.unnoticed(alive, older) + 1e-6
    assert known.unnoticed(alive, age) <= age - alive + 1e-6


@settings(max_examples=60, deadline=None, derandomize=True)
@given(answers, st.floats(0, 14_400), st.floats(0.01, 60), st.floats(0.01, 0.99))
def test_when_to_ask_is_the_age_at_which_it_is_worth_it(
    told: list[tuple[float, float]], alive: float, patience: float, chance: float
) -> None:
    known = learned(told)
    worth, likely = known.age_when(alive, patience), known.age_finished(alive, chance)
    assert worth > alive
    assert known.unnoticed(alive, worth) >= patience * 0.999
    # Found to a hundredth of a second.
    assert worth - 0.02 <= alive or known.unnoticed(alive, worth - 0.02) <= patience * 1.001
    assert known.finished(alive, likely) == pytest.approx(chance, abs=1e-6)


@given(answers)
def test_what_was_learned_outlives_a_restart(told: list[tuple[float, float]]) -> None:
    known = learned(told)
    again = Lives.from_json(known.as_json(), known.seen)
    assert (again.seen, again.known) == (known.seen, known.known)
    for age in (1, 5, 25, 125, 3_000):
        assert again.finished(0, age) == pytest.approx(known.finished(0, age), abs=1e-4)


@pytest.mark.parametrize("text", ["[]", "[1, 2, 3]"])
def test_what_another_release_has_kept_is_forgotten(text: str) -> None:
    known = Lives.from_json(text, 100)
    assert not known.known
    assert known.age_when(0, 1.0) > 0


@pytest.mark.parametrize("ended", [0.0, 20_000.0, 1e9])
def test_an_answer_at_no_age_or_beyond_all_ages_does_no_harm(ended: float) -> None:
    known = learned([(0.0, ended), (ended, ended)] * ENOUGH)
    assert known.age_when(ended, 0.5) > ended
    assert 0 <= known.finished(0, 10) <= 1
