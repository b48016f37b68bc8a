"""After a restore a log goes on from its backup's last number: whoever had read further is told so, and never waits."""

import asyncio
import json
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from schemas.event import EventType
from service.commands.codes import Code
from service.store import events
from service.store.database import Tx
from tests import stores
from tests.acceptance.command_line import within
from tests.acceptance.sse import stream
from tests.acceptance.test_api_tenants import tenant
from tests.acceptance.test_event_stream import LOG, happen, sequences
from tests.harness import API_KEY, PATIENCE, Stand, stand

pytestmark = pytest.mark.anyio

AHEAD = "urn:wirephoto:problem:cursor_ahead"
WAYS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/v1/events?after={}", {}),
    ("/v1/events?after={}&wait=60", {}),
    ("/v1/events?after={}&wait=60&type=job.failed", {}),
    (f"{LOG}?after={{}}", {}),
    (f"{LOG}?after=0", {"Last-Event-ID": "{}"}),
)


async def read_on(it: Stand, after: int) -> list[tuple[int, Any]]:
    """In every way in which the log is read on from a cursor."""
    return [
        await it.client.call(
            "GET", path.format(after), headers={name: text.format(after) for name, text in more.items()}
        )
        for path, more in WAYS
    ]


async def test_a_cursor_beyond_the_newest_event_is_refused_at_once(it: Stand) -> None:
    await happen(it, 2)
    for after in (3, 2**63 - 1):
        for status, problem in await read_on(it, after):
            assert (status, problem["type"], problem["newest"]) == (409, AHEAD, 2)
            assert f"The newest event is 2, and {after} lies beyond it" in problem["detail"]
    # As the problem says.
    async with stream(it.client, LOG, after=0) as all_of_them, stream(it.client, LOG, after=2) as new_ones:
        await happen(it)
        assert await sequences(all_of_them, 3) == [1, 2, 3]
        assert await sequences(new_ones, 1) == [3]


async def test_the_newest_event_of_another_project_is_nothing_to_go_by(it: Stand) -> None:
    await happen(it, 5)
    stranger = await tenant(it)
    for status, problem in await read_on(stranger, 1):
        assert (status, problem["type"], problem["newest"]) == (409, AHEAD, 0)
    async with stream(stranger.client, LOG, after=0) as log:
        assert log.last_id == "0", "where nothing has happened yet everybody begins"
    assert (await stranger.client.call("GET", "/v1/events?after=0"))[1] == {"data": [], "next": None}


async def _cut_off(tx: Tx, first: int, last: int) -> None:
    for event in await events.after(tx, 1, first - 1, None, last - first + 1):
        assert await events.remove(tx, event.row, event.created_at)


async def test_what_is_no_longer_kept_is_not_forgotten_to_have_been(it: Stand) -> None:
    """The newest number is known, though its own project's log is empty."""
    await happen(it, 3)
    stranger = await tenant(it)
    await stranger.client.submit("vanceai/enlarge3", inputs={"image": {"url": "http://127.0.0.1:9/none.jpg"}})
    await it.wirephoto.core.db.write(_cut_off, 1, 3)
    assert (await it.client.call("GET", "/v1/events?after=3"))[1] == {"data": [], "next": None}
    async with stream(it.client, LOG, {"Last-Event-ID": "3"}) as log:
        await happen(it)
        assert await sequences(log, 1) == [4]


async def test_a_cursor_that_was_just_handed_out_is_never_refused(it: Stand) -> None:
    """Whoever hears of an event first, and whoever is told of it: the other asks at once with its number."""
    readers, writers, each = 4, 4, 15
    newest = asyncio.Queue[int]()

    async def write() -> None:
        for _ in range(each):
            await happen(it, 1, EventType.JOB_FAILED)

    async def ask() -> None:
        while (after := await newest.get()) >= 0:
            for path in ("/v1/events", LOG):
                status, problem = await it.client.call("GET", f"{path}?after={after}&type=job.queued")
                assert status == 200, problem

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        for _ in range(readers):
            tasks.create_task(ask())
        async with stream(it.client, LOG, after=0) as log:
            for _ in range(writers):
                tasks.create_task(write())
            for _ in range(writers * each):
                newest.put_nowait(int((await log.next()).id))
        for _ in range(readers):
            newest.put_nowait(-1)


async def at_rest(command: str, file: Path, data: Path) -> Result:
    """A command that looks at the store itself."""
    url = stores.url_for(data)
    env = {} if url is None else {"WIREPHOTO_DATABASE_URL": url}
    return await asyncio.to_thread(within, command, file, "--data-dir", data, env=env)


async def test_whoever_read_further_than_the_backup_hears_of_it_and_of_what_comes(tmp_path: Path) -> None:
    """A real backup, restored; and the command line, which says how to go on."""
    old, new = tmp_path / "old", tmp_path / "new"
    async with stand(old) as it:
        await happen(it, 2)
        assert (await at_rest("backup", tmp_path / "b.tar", old)).exit_code == Code.SUCCESS
        async with stream(it.client, LOG, after=0) as log:
            await happen(it, 3)
            assert await sequences(log, 5) == [1, 2, 3, 4, 5]
    restored = await at_rest("restore", tmp_path / "b.tar", new)
    assert restored.exit_code == Code.SUCCESS, restored.stderr
    shutil.copy(old / "secret.key", new)
    async with stand(new) as it:
        for status, problem in await read_on(it, int(log.last_id)):
            assert (status, problem["type"], problem["newest"]) == (409, AHEAD, 2)
        server = ("--url", it.client.url, "--key", API_KEY)
        command = (sys.executable, "-m", "service.cli", "events", "--after", log.last_id, *server)
        for more in ("--follow", "--type=job.failed"):
            ran = await asyncio.create_subprocess_exec(*command, more, stdout=PIPE, stderr=PIPE)
            out, errors = await asyncio.wait_for(ran.communicate(), PATIENCE)
            assert (ran.returncode, out) == (Code.REFUSED, b"")
            assert errors.decode() == (
                "Error: The newest event is 2, and 5 lies beyond it: this log was set back, as by restoring a backup; "
                "begin again with --after 0, which tells all that is kept, or with --last 0, for what comes from now "
                "on.\n"
            )
        told = await asyncio.to_thread(within, "events", "--after", log.last_id, "--json", *server)
        assert json.loads(told.stderr)["type"] == AHEAD
        for how, wanted in (("--after", [1, 2]), ("--last", [])):
            again = await asyncio.to_thread(within, "events", how, "0", "--json", *server)
            assert [json.loads(line)["sequence"] for line in again.stdout.splitlines()] == wanted
