"""An installation as `wirephoto check` sees it, for tests that put something wrong."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from service.app import running
from service.checkup.findings import Level
from service.config import Settings
from tests.acceptance.command_line import SECRET_KEY, within
from tests.ports import free_port
from tests.s3 import CREDENTIALS

SECRETS = (SECRET_KEY, CREDENTIALS["AWS_SECRET_ACCESS_KEY"], "hunter2")


@dataclass
class Checked:
    """An installation of its own, nothing of which is running; `wrong` and `fine` check it."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def __call__(self, **changes: str) -> tuple[int, Mapping[str, Mapping[str, str]], str]:
        given = {f"WIREPHOTO_{name}": value for name, value in changes.items()}
        ran = within("check", "--json", env={**self.settings, **given})
        told = json.loads(ran.stdout)
        for secret in (*SECRETS, *(value for name, value in given.items() if "KEY" in name or "TOKEN" in name)):
            assert secret not in ran.output
        for finding in told["findings"]:
            assert finding["level"] != Level.FAULT or finding["mend"], finding
        assert told["fine"] == (ran.exit_code == 0)
        return ran.exit_code, {finding["about"]: finding for finding in told["findings"]}, ran.stdout

    def wrong(self, about: str, says: str, **changes: str) -> None:
        """It is unfit to run, and this is why."""
        code, findings, _ = self(**changes)
        assert (code, findings[about]["level"]) == (1, Level.FAULT), findings
        assert says in findings[about]["says"]

    def fit(self, about: str, says: str, level: Level = Level.OK, **changes: str) -> None:
        """It is fit to run, and this is said beside it."""
        code, findings, told = self(**changes)
        assert code == 0, told
        assert findings[about]["level"] == level, findings
        assert says in findings[about]["says"]

    def start_once(self, *, sandbox: bool = False) -> None:
        async def start() -> None:
            async with running(Settings(data_dir=self.data, secret_key=SecretStr(SECRET_KEY)), sandbox=sandbox):
                pass

        asyncio.run(start())

    def change(self, sql: str) -> None:
        with sqlite3.connect(self.data / "wirephoto.sqlite3") as connection:
            connection.execute(sql)
        connection.close()


def checked(folder: Path, vendors: Mapping[str, str]) -> Checked:
    """In `folder`, with a port that nobody has and these vendors."""
    own = {"PORT": str(free_port()), "DATA_DIR": str(folder / "data"), "SECRET_KEY": SECRET_KEY}
    return Checked(folder, {**vendors, **{f"WIREPHOTO_{name}": value for name, value in own.items()}})
