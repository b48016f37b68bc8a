"""Node and the packages that the tests let judge us: installed once, beside their lock file, and kept."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).with_name("node")
PATIENCE = 120


class NotInstalled(Exception):
    """Says which software is missing, and why."""


def program(name: str) -> str:
    """Raises NotInstalled."""
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(f"{name} is missing: the tests need Node 20 or newer, with npm: others judge our work")
    return found


def install(folder: Path, *, built: Sequence[str] = (), patience: float = PATIENCE) -> bool:
    """`npm ci` in the folder, unless what its lock file names is there; whether anything had to be done.

    The hashes in the lock file are kept to. `built`: of these packages the own install steps are run; they are
    arbitrary programs, so only where one can't do without. Raises NotInstalled.
    """
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".wirephoto-installed"
    # Test workers run side by side, and one installs for all.
    with (folder / "package.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return False
        _npm(folder, patience, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        if built:
            _npm(folder, patience, "rebuild", "--foreground-scripts", *built)
        stamp.write_text(wanted)
    return True


def _npm(folder: Path, patience: float, verb: str, *arguments: str) -> None:
    command = [program("npm"), verb, *arguments]
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{folder.name}: npm {verb} took longer than {patience:.0f} s") from None
    if ran.returncode:
        raise NotInstalled(f"{folder.name}: npm {verb} failed:\n{ran.stdout}{ran.stderr}")


def installed(folder: Path = FOLDER, *, built: Sequence[str] = (), patience: float = PATIENCE) -> Path:
    """The folder with its packages there; without them the test fails, and is never skipped."""
    try:
        install(folder, built=built, patience=patience)
    except NotInstalled as missing:
        pytest.fail(str(missing))
    return folder


def judged(cases: Sequence[dict[str, Any]]) -> list[bool]:
    """What Node's own and others' software says to each case; see `node/judge.mjs`."""
    ran = subprocess.run(
        [program("node"), "judge.mjs"],
        cwd=installed(),
        input=json.dumps({"cases": list(cases)}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    verdicts: list[bool] = json.loads(ran.stdout)
    return verdicts
