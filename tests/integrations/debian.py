"""Debian's packages for the tests: fetched by apt and unpacked into a folder of ours, so that no system is changed.

Nothing is installed, configured or started by it: no root is needed, no service is left running, and what the system
has already is used as it is there.
"""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.node_tools import NotInstalled

PATIENCE = 600
# Hidden, so that no tool looks for tests or sources in it.
ROOT = ".root"


def install(folder: Path) -> bool:
    """What `packages.txt` in the folder names is unpacked in its `.root`; whether anything had to be done.

    Raises NotInstalled.
    """
    listed = folder / "packages.txt"
    wanted = hashlib.sha256(listed.read_bytes()).hexdigest()
    stamp = folder / ROOT / ".wirephoto-installed"
    # Test workers run side by side, and one installs for all.
    with listed.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return False
        shutil.rmtree(folder / ROOT, ignore_errors=True)
        _unpack(listed.read_text().split(), folder / ROOT)
        stamp.write_text(wanted)
    return True


def _unpack(names: list[str], root: Path) -> None:
    fetched = root / "fetched"
    for part in ("lists", "archives"):
        (fetched / part / "partial").mkdir(parents=True)
    # Lists and archives of its own: the system's stay as they are, and belong to root.
    own = {
        "Dir::State::lists": f"{fetched}/lists",
        "Dir::Cache::archives": f"{fetched}/archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(word for name, value in own.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"])
    _run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *names])
    for archive in sorted((fetched / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(root)])
    shutil.rmtree(fetched)


def _run(command: list[str]) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        raise NotInstalled(f"{command[0]} is missing: the tests need Debian, or a system made from it") from None
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{command[0]} took longer than {PATIENCE} s") from None
    if ran.returncode:
        raise NotInstalled(f"{' '.join(command[-3:])} failed:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
