"""Debian's packages are unpacked once, and one that can't be had is named."""

from pathlib import Path

import pytest

from tests.integrations import debian
from tests.node_tools import NotInstalled


def _apt(folder: Path, script: str) -> None:
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)


def test_what_is_there_is_not_fetched_again_and_what_can_not_be_had_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages.txt").write_text("wordpress\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    _apt(tmp_path, "echo Unable to locate package wordpress >&2; exit 100")
    with pytest.raises(NotInstalled, match="Unable to locate package wordpress"):
        debian.install(tmp_path)
    _apt(tmp_path, "exit 0")
    assert debian.install(tmp_path)
    _apt(tmp_path, "exit 100")
    assert not debian.install(tmp_path)
    (tmp_path / "packages.txt").write_text("wordpress\nphp-cli\n")
    with pytest.raises(NotInstalled):
        debian.install(tmp_path)


def test_a_system_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packages.txt").write_text("wordpress\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match="apt-get is missing"):
        debian.install(tmp_path)
