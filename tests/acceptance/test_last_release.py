"""A rolling change: the last release's code runs on today's schema, before it is itself replaced.

`tests/store/releases` holds that release as it was. Tried on SQLite.
"""

import asyncio
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from service.config import PREFIX
from service.store.migrate import migrate
from service.store.sqlite import Sqlite
from tests.acceptance.helpers import ENLARGE
from tests.harness import API_KEY, PATIENCE, Client, receiver, settings_for, stand, terminal_events

pytestmark = pytest.mark.anyio

RELEASES = Path(__file__).parents[1] / "store" / "releases"


@pytest.fixture
def everywhere() -> str:
    return "sqlite"


@pytest.fixture
def last_release(tmp_path: Path) -> Path:
    (archive,) = RELEASES.glob("*.tar.xz")
    folder = tmp_path / "last-release"
    with tarfile.open(archive) as it:
        it.extractall(folder, filter="data")
    return folder


@asynccontextmanager
async def served_by(code: Path, settings: Mapping[str, str]) -> AsyncIterator[str]:
    """That code's `wirephoto serve`; its base URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from service.commands.serve import serve; serve.main([])"),
        cwd=code,
        env={**environment, "PYTHONPATH": str(code), **{PREFIX + name: value for name, value in settings.items()}},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            said = ""
            while "is ready on " not in said:
                said = (await process.stdout.readline()).decode()
                assert said, f"it ended with {await process.wait()}"
        yield said.partition("is ready on ")[2].split()[0]
    finally:
        process.terminate()
        await process.communicate()


async def test_the_last_release_works_on_todays_schema_and_today_goes_on_from_there(
    tmp_path: Path, photo: Path, last_release: Path
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    today = Sqlite(settings_for(data_dir).database_file)
    try:
        await today.open()
        assert await migrate(today, 0) > 1
    finally:
        await today.close()
    async with VanceAISandbox(VanceAIPlay(work_seconds=0, poll_seconds=0)) as vanceai, receiver() as told:
        settings = {
            "PORT": "0",
            "DATA_DIR": str(data_dir),
            "API_KEY": API_KEY,
            "ALLOW_NETWORKS": "127.0.0.0/8",
            "VANCEAI__BASE_URL": vanceai.base_url,
            "VANCEAI__API_TOKEN": vanceai.key,
            "VANCEAI__POLL_SECONDS": "0.05",
        }
        async with served_by(last_release, settings) as url, aiohttp.ClientSession() as http:
            old = Client(url, http)
            await old.subscribe(told.url, events=["job.*"])
            status, job = await old.submit(ENLARGE, photo, metadata={"product_id": "8411"})
            assert status == 202, job
            event = await told.event_of(job["id"], "job.succeeded")
        async with stand(data_dir, vanceai=vanceai) as it:
            ends = terminal_events(await it.client.events(), job["id"])
            assert [entry["id"] for entry in ends] == [event["id"]]
            found = await it.client.job(job["id"])
            status, picture = await it.client.call("GET", f"/v1/assets/{found['outputs'][0]['asset']}/content")
            assert (status, len(picture)) == (200, found["outputs"][0]["bytes"])
            status, listed = await it.client.call("GET", "/v1/jobs?metadata.product_id=8411")
            assert (status, [entry["id"] for entry in listed["data"]]) == (200, [job["id"]])
            status, second = await it.client.submit(ENLARGE, photo)
            assert status == 202, second
            await told.event_of(second["id"], "job.succeeded")
