"""Secrets at rest: opened by their own row and their own key alone."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.security.vault import Vault, WrongKey, key_file

KEY, NEW, STRANGE = "k" * 32, "n" * 48, "s" * 32


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_opens_unchanged_and_shows_nothing(secret: str) -> None:
    vault = Vault(KEY)
    sealed = vault.seal("ep_1", secret)
    assert vault.open("ep_1", sealed) == secret
    assert len(secret) < 8 or secret not in sealed
    assert vault.seal("ep_1", secret) != sealed, "two equal secrets can't be told from what is sealed"


def test_a_sealed_text_moved_to_another_row_does_not_open() -> None:
    vault = Vault(KEY)
    sealed = vault.seal("ep_1", "ep_2\nsecret")
    for owner in ("ep_2", "ep_1\nep_2", "", "ep_11"):
        with pytest.raises(WrongKey, match="another row"):
            vault.open(owner, sealed)


def test_another_key_does_not_open_and_the_error_holds_no_secret() -> None:
    sealed = Vault(KEY).seal("ep_1", "hidden")
    with pytest.raises(WrongKey) as caught:
        Vault(STRANGE).open("ep_1", sealed)
    assert "hidden" not in str(caught.value)
    assert sealed not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("at", [0, 10, -1])
def test_a_sealed_text_that_was_tampered_with_does_not_open(at: int) -> None:
    vault = Vault(KEY)
    sealed = list(vault.seal("ep_1", "secret"))
    sealed[at] = "A" if sealed[at] != "A" else "B"
    with pytest.raises(WrongKey):
        vault.open("ep_1", "".join(sealed))


@pytest.mark.parametrize("text", ["", "plain text", "gAAAA"])
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    with pytest.raises(WrongKey):
        Vault(KEY).open("ep_1", text)


def test_after_a_rotation_old_secrets_open_and_new_ones_need_the_new_key() -> None:
    before = Vault(KEY).seal("ep_1", "old")
    rotated = Vault(NEW, [KEY])
    assert rotated.open("ep_1", before) == "old"
    after = rotated.seal("ep_1", "new")
    assert Vault(NEW).open("ep_1", after) == "new"
    with pytest.raises(WrongKey):
        Vault(KEY).open("ep_1", after)


def test_fingerprints_name_keys_without_telling_them() -> None:
    one, rotated = Vault(KEY), Vault(NEW, [KEY])
    assert one.fingerprint != rotated.fingerprint
    assert rotated.fingerprints == {one.fingerprint, rotated.fingerprint}
    assert KEY not in one.fingerprint
    assert one.link_key in rotated.old_link_keys, "links that were given out before a rotation stay good"
    assert one.link_key.decode() not in one.fingerprint


@pytest.mark.parametrize("keys", [("short", []), (KEY, ["short"]), ("", [])])
def test_a_short_key_is_refused_without_being_shown(keys: tuple[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="at least 32 characters") as caught:
        Vault(*keys)
    assert "short" not in str(caught.value)


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    mask = os.umask(0)
    try:
        made = key_file(path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made) >= 32
    assert key_file(path) == made
    assert key_file(tmp_path / "other.key") != made
    Vault(made)
