"""`wirephoto check` with its store on a PostgreSQL server."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.checkup.findings import Level
from tests.acceptance.checked import Checked, checked
from tests.acceptance.command_line import ONE_DATABASE, SECRET_KEY, environment
from tests.acceptance.neighbours import vendors
from tests.harness import stand
from tests.postgres import Server, server

pytestmark = [pytest.mark.anyio, ONE_DATABASE]  # they name theirs themselves

NEVER_SHOWN = "hunter2"


@pytest.fixture(scope="module")
def vendor_settings() -> Iterator[dict[str, str]]:
    with vendors() as settings:
        yield settings


@pytest.fixture(scope="module")
def careful() -> Iterator[Server]:
    """A server as it comes: the tests' common one has its safeguards off, to be quick."""
    with server(fast=False) as it:
        yield it


async def beside(look: Callable[..., None], *expected: str, **changes: str) -> None:
    """A check in another thread, for a service runs in this one."""
    await asyncio.to_thread(partial(look, *expected, **changes))


@pytest.fixture
def check(tmp_path: Path, vendor_settings: dict[str, str]) -> Checked:
    return checked(tmp_path, vendor_settings)


async def test_a_database_of_its_own_is_read_beside_the_service_that_works_on_it(
    check: Checked, careful: Server, tmp_path: Path
) -> None:
    url = careful.new_database()
    own = {"DATABASE_URL": url, "DATA_DIR": str(tmp_path / "data")}
    await beside(check.fit, "store", "its tables will be made at the first start", **own)
    async with stand(tmp_path / "data", database_url=SecretStr(url), secret_key=SecretStr(SECRET_KEY)) as it:
        up = {**own, "PORT": it.client.url.rpartition(":")[2]}
        for about, says in (
            ("database server", "what it commits is durable"),
            ("store", "in use by the Wirephoto that is up"),
            ("schema", "as this version knows it"),
            ("address", "a Wirephoto is up"),
        ):
            await beside(check.fit, about, says, **up)
        await beside(check.wrong, "store", "another process works on it", **own)
    await beside(check.fit, "store", "no process works on it", **own)
    await beside(check.wrong, "secret key", "were sealed with", **own, SECRET_KEY="x" * 32)


def test_a_server_that_would_lose_commits_at_a_power_cut_is_found(check: Checked, postgres: Server) -> None:
    check.wrong("database server", "fsync and full_page_writes off", DATABASE_URL=postgres.new_database())


def test_a_database_that_cannot_be_reached_is_found_and_its_password_is_not_shown(
    check: Checked, postgres: Server
) -> None:
    nobody = f"postgresql://wirephoto:{NEVER_SHOWN}@127.0.0.1:1/wirephoto"
    missing = postgres.url("no_such_database").replace("postgres@", f"postgres:{NEVER_SHOWN}@")
    for url, says in ((nobody, "can't be reached"), (missing, "does not exist")):
        check.wrong("store", says, DATABASE_URL=url)
    check.wrong("settings", "DATABASE_URL: can't be read", DATABASE_URL=f"postgresql://me:{NEVER_SHOWN}/@127.0.0.1/x")


def test_a_database_without_its_driver_names_the_extra(check: Checked) -> None:
    code = "import sys; sys.modules['asyncpg'] = None; from service.cli import main; main(['check'])"
    env = environment({**check.settings, "WIREPHOTO_DATABASE_URL": "postgresql://127.0.0.1/wirephoto"})
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=check.folder, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1, ran.stderr
    assert "FAULT store: WIREPHOTO_DATABASE_URL: PostgreSQL needs the extra" in ran.stdout


async def test_a_store_of_the_sandboxes_is_told(check: Checked, tmp_path: Path) -> None:
    await asyncio.to_thread(check.start_once, sandbox=True)
    own = {"DATA_DIR": str(tmp_path / "data")}
    await beside(check.fit, "store", "only serve --sandbox takes it", Level.NOTE, **own)
