"""What the vendor clients share reads what it is given, whatever that is."""

from typing import Any

import pytest

from handlers.vendors import reading

DATE = "Sat, 01 Aug 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "7", "Date": "nonsense"}, 7.0),
        ({"Retry-After": "Sat, 01 Aug 2026 12:00:30 GMT", "Date": DATE}, 30.0),
        ({"Retry-After": "Sat, 01 Aug 2026 12:00:30 GMT"}, None),
        ({"Retry-After": "soon", "Date": DATE}, None),
        ({}, None),
    ],
)
def test_a_wait_that_the_vendor_asks_for_is_measured_without_a_clock(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert reading.asked_to_wait(headers) == seconds


@pytest.mark.parametrize(("value", "number"), [(1, 1), ("1", 1), (1.0, 1), ("-7.0", -7), (" 3 ", 3), (10**30, 10**30)])
def test_a_whole_number_is_read_from_any_type(value: Any, number: int) -> None:
    assert reading.whole(value) == number


@pytest.mark.parametrize("value", [None, True, "", "x", 1.5, "nan", "1e999", [], {}, float("inf"), "9" * 5000])
def test_what_is_no_whole_number_is_none(value: Any) -> None:
    assert reading.whole(value) is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"msg": "\xe9"}', "application/json; charset=ISO-8859-1"),
        ('{"msg": "é"}'.encode("utf-8-sig"), ""),
        ('{"msg": "é"}'.encode("utf-16-be"), "application/json"),
        ('{"msg": "é"}'.encode(), "application/json; charset=unicode_escape"),
    ],
)
def test_words_are_read_in_the_encoding_they_come_in(body: bytes, content_type: str) -> None:
    assert reading.json_object(body, content_type) == {"msg": "é"}


@pytest.mark.parametrize(
    ("value", "amount"), [("500.000", "500.000"), (" 7 ", "7"), (107.8, "107.8"), (3, "3"), ("-1", "-1")]
)
def test_an_amount_is_read_to_the_digit(value: Any, amount: str) -> None:
    assert str(reading.decimal(value)) == amount


@pytest.mark.parametrize("value", [None, True, "", "x", "nan", "inf", "1e400", "9" * 5000, 10**400, [], {}, 1e300])
def test_what_no_account_holds_is_no_amount(value: Any) -> None:
    assert reading.decimal(value) is None


def test_what_cannot_be_stored_is_taken_out_of_a_vendors_words() -> None:
    words = reading.json_object(b'{"a": "x\\u0000\\ud800", "b": [NaN, -Infinity, 1e999]}')
    assert words == {"a": "x?", "b": [None, None, None]}


@pytest.mark.parametrize("text", ["key=k%2F1&a", "key=k/1", '{"key": "k/1"}'])
def test_a_secret_is_taken_out_in_either_spelling(text: str) -> None:
    assert "1" not in reading.redacted(text, ["k/1"])
    assert b"1" not in reading.redacted_bytes(text.encode(), ["k/1"])


def test_a_message_of_any_shape_and_length_becomes_one_readable_line() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = {"x": deep}
    assert reading.readable({"a": ["one\n two", 3], "b": None, "c": deep}) == "a: one two; 3"
    assert len(reading.readable(["x" * 400] * 400)) <= 500


@pytest.mark.parametrize("value", ["https://cdn.example/1.png", " https://cdn.example/1.png\n"])
def test_a_result_that_was_paid_for_is_not_lost_for_a_blank_around_its_link(value: str) -> None:
    assert reading.link(value) == "https://cdn.example/1.png"
