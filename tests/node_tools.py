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


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: the tests need Node 20 or newer, with npm: others judge our signatures")
    return found


def installed() -> Path:
    """The folder with its packages there, by `npm ci`; the hashes in the lock file are kept to."""
    lock = FOLDER / "package-lock.json"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    modules = FOLDER / "node_modules"
    stamp = modules / ".wirephoto-installed"
    # Test workers run side by side, and one installs for all.
    with (FOLDER / "package.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            command = [_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=PATIENCE, check=False)
            if ran.returncode:
                pytest.fail(f"npm ci in tests/node failed:\n{ran.stdout}{ran.stderr}")
            stamp.write_text(wanted)
    return FOLDER


def judged(cases: Sequence[dict[str, Any]]) -> list[bool]:
    """What Node's own and others' software says to each case; see `node/judge.mjs`."""
    ran = subprocess.run(
        [_program("node"), "judge.mjs"],
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
