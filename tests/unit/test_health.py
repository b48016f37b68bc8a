"""A vendor's health, word by word."""

from schemas.job import ErrorClass
from schemas.trouble import Kind, Trouble
from service.pacing.health import IN_A_ROW, PROBES_MS, REFUSALS_OF_A_JOB, Call, Change, Health

NOW = 1_765_000_000_000
DOWN = ErrorClass.VENDOR
AUTH, CREDITS = ErrorClass.AUTH, ErrorClass.CREDITS


def yes(health: Health, call: Call) -> None:
    health.answered(call, health.asks())


def no(health: Health, call: Call, error_class: ErrorClass, code: str = "x", now: int = NOW) -> None:
    health.failed(call, health.asks(), error_class, code, now)


def changes(health: Health) -> list[tuple[Kind | None, set[Kind]]]:
    """What has changed since it was asked last."""
    told = [(change.begun.kind if change.begun else None, set(change.over)) for change in health.changes]
    health.changes.clear()
    return told


def test_nothing_is_known_before_anything_was_heard() -> None:
    health = Health()
    assert (health.healthy, health.trouble) == (None, None)
    # Some vendors are prepared for without a word, and keep their results elsewhere.
    yes(health, Call.PREPARE)
    yes(health, Call.FETCH)
    assert health.healthy is None
    yes(health, Call.ASK)
    assert health.healthy is True
    assert not health.changes


def test_a_vendor_is_down_after_some_errors_in_a_row_since_the_first_of_them_and_pauses_nothing() -> None:
    health = Health()
    for n in range(IN_A_ROW):
        assert health.healthy is None
        no(health, Call.ASK, ErrorClass.TIMEOUT if n else DOWN, f"code {n}", NOW + n)
    assert health.healthy is False
    assert health.trouble is not None
    assert (health.trouble.since, health.trouble.code) == (NOW, f"code {IN_A_ROW - 1}")
    assert health.pausing == []
    no(health, Call.ASK, DOWN)
    assert changes(health) == [(Kind.DOWN, set())], "it is told once"
    yes(health, Call.SUBMIT)
    assert health.healthy is True
    assert changes(health) == [(None, {Kind.DOWN})]


def test_an_answer_in_between_begins_the_row_anew() -> None:
    health = Health()
    for n in range(10):
        no(health, Call.ASK, DOWN, "503", NOW + n)
        if n % 2:
            yes(health, Call.ASK)
    assert health.healthy is True
    assert not health.changes


def test_a_refused_key_is_known_by_its_first_word_and_pauses() -> None:
    health = Health()
    no(health, Call.FETCH, AUTH, "401")
    assert health.healthy is False
    no(health, Call.SUBMIT, AUTH, "401", NOW + 5)
    assert health.trouble is not None
    assert (health.trouble.since, health.trouble.reason) == (NOW, "auth: the vendor refuses our key (401)")
    assert health.pausing == [Trouble(Kind.REFUSED, NOW, Call.FETCH, AUTH, "401", NOW + PROBES_MS[0])]
    assert changes(health) == [(Kind.REFUSED, set())], "it is told once"
    yes(health, Call.PREPARE)
    assert health.healthy is False, "no key was shown"
    yes(health, Call.ASK)
    assert health.healthy is True
    assert changes(health) == [(None, {Kind.REFUSED})]


def test_a_key_that_is_refused_for_new_work_alone_is_not_taken_back_by_an_answer_about_old_work() -> None:
    health = Health()
    no(health, Call.SUBMIT, AUTH)
    yes(health, Call.ASK)
    yes(health, Call.LOOK)
    assert health.pausing
    yes(health, Call.SUBMIT)
    assert not health.pausing


def test_an_empty_account_is_not_filled_by_a_free_call() -> None:
    health = Health()
    no(health, Call.FETCH, CREDITS, "30004")
    yes(health, Call.ASK)
    yes(health, Call.SUBMIT)
    assert health.healthy is False
    yes(health, Call.FETCH)
    assert health.healthy is True


def test_an_upload_that_needs_credits_is_vouched_for_by_the_submission_after_it() -> None:
    health = Health()
    no(health, Call.PREPARE, CREDITS)
    yes(health, Call.FETCH)
    assert health.pausing
    yes(health, Call.SUBMIT)
    assert not health.pausing


def test_a_no_to_one_job_is_an_answer() -> None:
    health = Health()
    for n in range(IN_A_ROW - 1):
        no(health, Call.SUBMIT, DOWN, "503", NOW + n)
    no(health, Call.SUBMIT, ErrorClass.INPUT, "10012")
    no(health, Call.SUBMIT, DOWN, "503")
    assert health.healthy is True
    no(health, Call.SUBMIT, ErrorClass.RATE_LIMIT, "429")
    assert health.healthy is True


def test_what_says_most_is_told_first() -> None:
    health = Health()
    for error_class in (CREDITS, AUTH):
        no(health, Call.SUBMIT, error_class)
    for _ in range(IN_A_ROW):
        no(health, Call.ASK, DOWN, "503")
    assert health.trouble is not None
    assert health.trouble.error_class is AUTH
    assert {trouble.kind for trouble in health.pausing} == {Kind.REFUSED, Kind.BROKE}


def test_whoever_is_told_that_nothing_is_left_has_shown_a_good_key() -> None:
    health = Health()
    no(health, Call.SUBMIT, AUTH)
    no(health, Call.SUBMIT, CREDITS)
    assert changes(health) == [(Kind.REFUSED, set()), (Kind.BROKE, {Kind.REFUSED})]


def test_a_fault_of_ours_is_not_the_vendors() -> None:
    health = Health()
    for _ in range(2 * IN_A_ROW):
        no(health, Call.SUBMIT, DOWN, "unreadable_input")
    assert health.healthy is None


def test_little_is_told_and_harms_nobody_until_there_is_enough_again() -> None:
    health = Health()
    for balance in ("9", "8"):
        health.has_left(balance, low=True, now=NOW)
    assert (health.healthy, health.trouble, health.pausing) == (None, None, [])
    assert changes(health) == [(Kind.LOW, set())]
    health.has_left("500", low=False, now=NOW)
    assert changes(health) == [(None, {Kind.LOW})]


def test_an_account_that_was_filled_up_is_told_of_once() -> None:
    health = Health()
    health.has_left("1", low=True, now=NOW)
    no(health, Call.SUBMIT, CREDITS)
    changes(health)
    yes(health, Call.SUBMIT)
    health.has_left("500", low=False, now=NOW)
    assert changes(health) == [(None, {Kind.BROKE, Kind.LOW})]


# --- calls that overlap -----------------------------------------------------------------------------------------------


def test_a_yes_to_what_was_asked_before_the_no_takes_nothing_back() -> None:
    health = Health()
    earlier, later = health.asks(), health.asks()
    health.failed(Call.SUBMIT, later, CREDITS, "30004", NOW)
    health.answered(Call.SUBMIT, earlier)
    assert health.pausing
    yes(health, Call.SUBMIT)
    assert not health.pausing


def test_a_no_to_what_was_asked_before_the_yes_pauses_nothing() -> None:
    health = Health()
    no(health, Call.SUBMIT, CREDITS)
    stale = health.asks()
    yes(health, Call.SUBMIT)
    changes(health)
    health.failed(Call.SUBMIT, stale, CREDITS, "30004", NOW)
    assert (health.pausing, changes(health)) == ([], [])
    no(health, Call.SUBMIT, CREDITS)
    assert changes(health) == [(Kind.BROKE, set())]


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_what_the_store_knew_at_the_start_still_is_so_and_is_not_told_again() -> None:
    known = [
        Trouble(Kind.BROKE, NOW, "submit", CREDITS, "30004", NOW + 5, 2),
        Trouble(Kind.DOWN, NOW, "ask", DOWN, "503"),
    ]
    health = Health()
    health.take_up(known)
    assert (health.healthy, health.pausing) == (False, known[:1])
    for _ in range(IN_A_ROW):
        no(health, Call.ASK, DOWN)
    no(health, Call.SUBMIT, CREDITS)
    assert changes(health) == [(None, {Kind.DOWN})], "a no is an answer"
    yes(health, Call.SUBMIT)
    assert list(health.changes) == [Change(over=frozenset({Kind.BROKE}))]


def test_a_job_that_a_good_key_is_refused_for_is_itself_what_is_refused() -> None:
    health = Health()
    told = []
    for _ in range(REFUSALS_OF_A_JOB):
        told.append(health.is_the_jobs(7))
        no(health, Call.SUBMIT, AUTH)
        # Another job is served.
        yes(health, Call.SUBMIT)
    assert told == [False] * (REFUSALS_OF_A_JOB - 1) + [True]


def test_a_bad_key_is_no_jobs_own_however_often_it_is_tried() -> None:
    health = Health()
    for _ in range(10 * REFUSALS_OF_A_JOB):
        assert not health.is_the_jobs(7)
        no(health, Call.SUBMIT, AUTH)
