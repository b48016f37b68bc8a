"""A backup of a busy service, made by another process, becomes the same service elsewhere."""

import asyncio
import json
import sqlite3
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers import standardwebhooks
from service.commands.codes import Code
from tests import stores
from tests.acceptance.command_line import environment
from tests.acceptance.helpers import ENLARGE, begun, done, pictures
from tests.harness import API_KEY, PATIENCE, Receiver, Stand, receiver, stand, terminal_events

pytestmark = pytest.mark.anyio

# Refused attempts come back at once, for as long as the test lasts.
AGAIN: Mapping[str, Any] = {"retry_schedule": [0.2] * 50}
JWKS = "/.well-known/jwks.json"


async def wirephoto(command: str, file: Path, data: Path, *options: str) -> tuple[int, str, str]:
    """A command in a process of its own, while this one goes on serving."""
    url = stores.url_for(data)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.cli", command, str(file), "--data-dir", str(data), *options),
        env=environment({} if url is None else {"WIREPHOTO_DATABASE_URL": url}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def refuse(request: web.Request) -> web.Response:
    _ = request
    return web.Response(status=503)


def closed(subscriber: Receiver) -> None:
    subscriber.answers = [refuse] * 10_000


async def events_owed(it: Stand) -> set[str]:
    """The events of all deliveries that are pending."""
    status, body = await it.client.call("GET", "/v1/deliveries?state=pending&limit=200")
    assert status == 200
    return {delivery["event"] for delivery in body["data"]}


@asynccontextmanager
async def crowd(it: Stand, photo: Path, **job: Any) -> AsyncIterator[list[str]]:
    """Four clients that never stop submitting; the ids of all jobs that were acknowledged so far."""
    acknowledged: list[str] = []

    async def client() -> None:
        while True:
            acknowledged.append(await begun(it.client, ENLARGE, photo, **job))

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(client()) for _ in range(4)]
        yield acknowledged
        for one in clients:
            one.cancel()


def raw(file: Path) -> bytes:
    """All that is in an archive."""
    with tarfile.open(file) as tar:
        return b"".join(found.read() for member in tar if (found := tar.extractfile(member)))


def assert_sound(data: Path) -> None:
    if stores.url_for(data) is not None:
        return  # PostgreSQL has looked at each row as it came
    with closing(sqlite3.connect(data / "wirephoto.sqlite3")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_a_backup_under_load_holds_all_that_was_acknowledged(tmp_path: Path, photo: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "busy.tar.gz"
    async with receiver() as subscriber:
        closed(subscriber)
        async with stand(old, **AGAIN) as it:
            terms = {"signatures": ["v1", "v1a"], "events": ["job.succeeded"]}
            endpoint = await it.client.subscribe(subscriber.url, **terms)
            _, old_key = await it.client.call("GET", "/v1/signing-key")
            _, new_key = await it.client.call("POST", "/v1/signing-key/rotate")
            _, published = await it.client.call("GET", JWKS, key="")
            finished = [await done(it.client, ENLARGE, photo) for _ in range(3)]
            async with crowd(it, photo) as acknowledged:
                await subscriber.wait_for(8)
                before, owed = list(acknowledged), await events_owed(it)
                code, out, errors = await wirephoto("backup", file, old, "--json")
                during = len(acknowledged) - len(before)
            assert code == Code.SUCCESS, errors
            assert during > 0  # the service was at work while it was copied
            assert "secret key is NOT in" in errors
        manifest = json.loads(out)
        assert manifest["rows"]["jobs"] >= len(before) + len(finished)
        assert manifest["damaged"] == manifest["missing"] == []

        everything = raw(file)
        for secret in ((old / "secret.key").read_text().strip(), API_KEY, endpoint["secret"]):
            assert secret.encode() not in everything

        code, out, errors = await wirephoto("restore", file, new)
        assert code == Code.SUCCESS, errors
        assert "secret.key" in errors
        assert_sound(new)
        (new / "secret.key").write_text((old / "secret.key").read_text())

        subscriber.answers.clear()
        subscriber.got.clear()
        async with stand(new, **AGAIN) as again:
            for job_id in before:
                await again.client.job(job_id)
            for job in finished:
                told = await again.client.job(job["id"])
                assert [output["sha256"] for output in told["outputs"]] == [out["sha256"] for out in job["outputs"]]
                await pictures(again.client, told)
                assert len(terminal_events(await again.client.events(), job["id"])) == 1
            assert owed
            await subscriber.until(lambda: owed <= {entry.headers["webhook-id"] for entry in subscriber.got})
            assert await again.client.call("GET", JWKS, key="") == (200, published)
            for entry in subscriber.got:
                assert entry.verified(endpoint["secret"])["id"] == entry.headers["webhook-id"]
                for key in (old_key, new_key):
                    standardwebhooks.verify(
                        key["public_key"], entry.headers, entry.body, int(entry.headers["webhook-timestamp"])
                    )
    assert_sound(new)
