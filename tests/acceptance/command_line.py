"""What the tests of the command line share: a real `serve --sandbox`, and commands as a user calls them."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main

ROOT = Path(__file__).parents[2]
PATIENCE = 60
# For modules whose commands are processes that name their databases themselves: once is enough.
ONE_DATABASE = pytest.mark.parametrize("everywhere", ["sqlite"], indirect=True)
SECRET_KEY = "0123456789abcdef0123456789abcdef"
ENLARGE = ("--operation", "vanceai/enlarge3", "--param", "scale=2")

Ran = subprocess.CompletedProcess[str]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This machine's own, without its Wirephoto settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WIREPHOTO_")}
    return {**own, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


def wirephoto(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Ran:
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment(env or {}), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def within(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Result:
    """A command in this process: a second sooner, for what needs no process of its own."""
    own = dict.fromkeys(name for name in os.environ if name.startswith("WIREPHOTO_"))
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env={**own, **(env or {})})


@dataclass(frozen=True)
class Service:
    """A running `serve --sandbox`, and a folder to call commands in."""

    url: str
    key: str
    data: Path
    cwd: Path

    def __call__(self, *arguments: str | Path) -> Ran:
        """As a user calls it: a process of its own."""
        return wirephoto(*arguments, cwd=self.cwd, env=self.env)

    def within(self, *arguments: str | Path, key: str | None = None) -> Result:
        """In this process, but from the same folder."""
        env = self.env if key is None else {**self.env, "WIREPHOTO_KEY": key}
        with contextlib.chdir(self.cwd):
            return within(*arguments, env=env)

    @property
    def env(self) -> dict[str, str]:
        return {"WIREPHOTO_URL": self.url, "WIREPHOTO_KEY": self.key}


@contextmanager
def serving(folder: Path, port: int = 0, key: str | None = None) -> Iterator[Service]:
    """`wirephoto serve --sandbox`; that it ends kindly, with 0, is a promise too."""
    key, data = key or f"wp_{secrets.token_hex(16)}", folder / "data"
    command = [sys.executable, "-m", "service.cli", "serve", "--sandbox", "--port", str(port), "--data-dir", str(data)]
    env = environment({"WIREPHOTO_API_KEY": key, "WIREPHOTO_SECRET_KEY": SECRET_KEY})
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            found = re.search(r"http://[0-9.:]+", greeting)
            assert found is not None, (folder / "log").read_text()
            cwd = folder / "work"
            cwd.mkdir(exist_ok=True)
            yield Service(found[0], key, data, cwd)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, (folder / "log").read_text()
