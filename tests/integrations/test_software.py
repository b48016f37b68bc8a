"""The software that integrations are run with: pinned, and installed or named."""

import json
import re
from pathlib import Path

import pytest

from tests import node_tools
from tests.integrations import software
from tests.integrations.software import PACKAGES


@pytest.mark.parametrize("lock", sorted(PACKAGES.glob("*/package-lock.json")), ids=lambda path: path.parent.name)
def test_what_is_installed_is_pinned_by_hashes_and_by_no_address(lock: Path) -> None:
    entries = json.loads(lock.read_text())["packages"]
    for name, entry in entries.items():
        assert "resolved" not in entry, name
        assert name == "" or entry.get("link") or entry.get("inBundle") or entry["integrity"].startswith("sha512-"), (
            name
        )
    own = json.loads(lock.with_name("package.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in own["devDependencies"].values())


def test_what_is_not_needed_is_not_kept() -> None:
    assert {path.name for path in PACKAGES.iterdir()} <= set(software.SOFTWARE)


def test_what_can_not_be_installed_is_named_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> bool:
        raise node_tools.NotInstalled("the registry is away")

    monkeypatch.setattr(software, "SOFTWARE", {"first": refuse, "second": lambda: True})
    with pytest.raises(SystemExit) as ended:
        software.main()
    assert ended.value.code
    told = capsys.readouterr()
    assert "first: CAN'T BE INSTALLED: the registry is away" in told.err
    assert "second: installed" in told.out
