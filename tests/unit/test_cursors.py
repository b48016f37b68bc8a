"""Cursors of lists: sealed, and each good in its own place alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.security.cursors import Cursors
from service.security.vault import Vault

KEY, NEW = "k" * 32, "n" * 32
CURSORS = Cursors(Vault(KEY))


@given(st.integers(0, 2**63 - 1))
def test_a_cursor_tells_its_position_to_us_and_nothing_to_others(position: int) -> None:
    cursor = CURSORS.after("jobs", 7, position)
    assert CURSORS.position("jobs", 7, cursor) == position
    assert cursor.isascii()
    assert len(cursor) == len(CURSORS.after("jobs", 7, position)) < 200
    for listing, project in (("jobs", 8), ("keys", 7), ("jobs of 7", 7)):
        with pytest.raises(ValueError, match="no cursor"):
            CURSORS.position(listing, project, cursor)


@given(st.text(max_size=600))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        CURSORS.position("jobs", 7, text)


def test_a_cursor_is_good_after_the_key_was_changed() -> None:
    cursor = CURSORS.after("jobs", 7, 12)
    assert Cursors(Vault(NEW, [KEY])).position("jobs", 7, cursor) == 12
    with pytest.raises(ValueError, match="no cursor"):
        Cursors(Vault(NEW)).position("jobs", 7, cursor)
