"""A vendor's health, word by word."""

from schemas.job import ErrorClass
from service.pacing.health import IN_A_ROW, Call, Health

NOW = 1_765_000_000_000
DOWN = ErrorClass.VENDOR


def test_nothing_is_known_before_anything_was_heard() -> None:
    health = Health()
    assert (health.healthy, health.trouble) == (None, None)
    # Some vendors are prepared for without a word, and keep their results elsewhere.
    health.answered(Call.PREPARE)
    health.answered(Call.FETCH)
    assert health.healthy is None
    health.answered(Call.ASK)
    assert health.healthy is True


def test_a_vendor_is_down_after_some_errors_in_a_row_since_the_first_of_them() -> None:
    health = Health()
    for n in range(IN_A_ROW):
        assert health.healthy is None
        health.failed(Call.ASK, ErrorClass.TIMEOUT if n else DOWN, f"code {n}", NOW + n)
    assert health.healthy is False
    assert health.trouble is not None
    assert (health.trouble.since, health.trouble.times, health.trouble.code) == (NOW, IN_A_ROW, f"code {IN_A_ROW - 1}")
    health.answered(Call.SUBMIT)
    assert health.healthy is True


def test_an_answer_in_between_begins_the_row_anew() -> None:
    health = Health()
    for n in range(10):
        health.failed(Call.ASK, DOWN, "503", NOW + n)
        if n % 2:
            health.answered(Call.ASK)
    assert health.healthy is True


def test_a_refused_key_is_known_by_its_first_word_and_any_served_call_takes_it_back() -> None:
    health = Health()
    health.failed(Call.FETCH, ErrorClass.AUTH, "401", NOW)
    assert health.healthy is False
    health.failed(Call.SUBMIT, ErrorClass.AUTH, "401", NOW + 5)
    assert health.trouble is not None
    assert (health.trouble.since, health.trouble.reason) == (NOW, "auth: the vendor refuses our key (401)")
    health.answered(Call.PREPARE)
    assert health.healthy is False, "no key was shown"
    health.answered(Call.ASK)
    assert health.healthy is True


def test_an_empty_account_is_not_filled_by_a_free_call() -> None:
    health = Health()
    health.failed(Call.FETCH, ErrorClass.CREDITS, "30004", NOW)
    health.answered(Call.ASK)
    health.answered(Call.SUBMIT)
    assert health.healthy is False
    health.answered(Call.FETCH)
    assert health.healthy is True


def test_a_no_to_one_job_is_an_answer() -> None:
    health = Health()
    for n in range(IN_A_ROW - 1):
        health.failed(Call.SUBMIT, DOWN, "503", NOW + n)
    health.failed(Call.SUBMIT, ErrorClass.INPUT, "10012", NOW)
    health.failed(Call.SUBMIT, DOWN, "503", NOW)
    assert health.healthy is True
    health.failed(Call.SUBMIT, ErrorClass.RATE_LIMIT, "429", NOW)
    assert health.healthy is True


def test_what_says_most_is_told_first() -> None:
    health = Health()
    for error_class in (ErrorClass.CREDITS, ErrorClass.AUTH):
        health.failed(Call.SUBMIT, error_class, "x", NOW)
    for _ in range(IN_A_ROW):
        health.failed(Call.ASK, DOWN, "503", NOW)
    assert health.trouble is not None
    assert health.trouble.error_class is ErrorClass.AUTH


def test_a_fault_of_ours_is_not_the_vendors() -> None:
    health = Health()
    for _ in range(2 * IN_A_ROW):
        health.failed(Call.SUBMIT, DOWN, "unreadable_input", NOW)
    assert health.healthy is None
