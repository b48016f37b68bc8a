"""The door to a vendor, and the times at which it is looked whether it may be opened."""

import pytest

from schemas.job import ErrorClass
from service.pacing.doors import Door
from service.pacing.health import Call, Health, probe_at

NOW = 1_765_000_000_000


@pytest.mark.parametrize(
    ("probes", "seconds"), [(0, 30), (1, 60), (2, 120), (3, 300), (4, 600), (5, 600), (10_000, 600)]
)
def test_probes_come_at_growing_intervals_up_to_ten_minutes(probes: int, seconds: int) -> None:
    assert probe_at(probes, NOW) == NOW + seconds * 1000


def broke() -> Health:
    health = Health()
    health.failed(Call.SUBMIT, health.asks(), ErrorClass.CREDITS, "30004", NOW)
    return health


def test_a_door_is_open_until_something_pauses_the_account() -> None:
    health = Health()
    door = Door(health)
    for _ in range(5):
        health.failed(Call.ASK, health.asks(), ErrorClass.VENDOR, "503", NOW)
    assert (door.shut, door.ajar, door.bars(1)) == (False, False, False)
    health.failed(Call.SUBMIT, health.asks(), ErrorClass.CREDITS, "30004", NOW)
    assert (door.shut, door.ajar, door.bars(1)) == (True, False, True)


def test_ajar_it_lets_one_job_through_and_bars_all_others() -> None:
    health = broke()
    door = Door(health)
    (trouble,) = health.pausing
    door.set_ajar(trouble)
    assert (door.shut, door.ajar, door.bars(1)) == (True, True, True)
    door.let_through(1)
    assert (door.shut, door.ajar, door.bars(1), door.bars(2)) == (True, False, False, True)
    health.answered(Call.SUBMIT, health.asks())
    assert (door.shut, door.bars(2)) == (False, False)


def test_a_door_that_was_ajar_when_the_trouble_ended_is_shut_at_the_next_one() -> None:
    health = broke()
    door = Door(health)
    (trouble,) = health.pausing
    door.set_ajar(trouble)
    health.answered(Call.SUBMIT, health.asks())
    health.failed(Call.SUBMIT, health.asks(), ErrorClass.CREDITS, "30004", NOW + 1)
    assert (door.shut, door.ajar) == (True, False)
