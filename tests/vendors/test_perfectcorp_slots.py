"""One file call opens the slots of all who wait: each call counts against a window of a hundred in five minutes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.vendors.contract import InputFile
from handlers.vendors.perfectcorp import PerfectCorp
from handlers.vendors.perfectcorp_auth import MEMORY, Token
from handlers.vendors.perfectcorp_slots import MOST_AHEAD, TRUSTED_MS
from tests.vendors import clients
from tests.vendors.clients import Client, error_of, work

pytestmark = pytest.mark.anyio

DAY = 24 * 3_600_000


@dataclass
class Storage:
    """The file call, and storage that takes each slot once; `dead` slots are refused."""

    url: str = ""
    now: int = 1_800_000_000_000
    calls: list[int] = field(default_factory=list)
    opened: int = 0
    dead: set[str] = field(default_factory=set)
    stored: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/file/"):
            await request.read()
            if request.path in self.dead or request.path in self.stored:
                return web.Response(status=403)
            self.stored.append(request.path)
            return web.Response()
        files = (await request.json())["files"]
        self.calls.append(len(files))
        return web.json_response({"status": 200, "result": {"files": [self._slot(entry) for entry in files]}})

    def _slot(self, entry: dict[str, str]) -> dict[str, Any]:
        self.opened += 1
        slot = {"method": "PUT", "url": f"{self.url}/bucket/{self.opened}", "headers": {}}
        return {**entry, "file_id": f"file {self.opened}", "requests": [slot]}


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Client, Storage]]:
    storage = Storage()
    async with (
        clients.serving(storage.handle) as url,
        clients.client(PerfectCorp(), url, now=lambda: storage.now) as client,
    ):
        storage.url = url
        await client.account.memory.keep(MEMORY, Token("a-token-of-some-length", storage.now + 9 * DAY).as_text())
        yield client, storage


@pytest.fixture
def image(photos: Path, tmp_path: Path) -> InputFile:
    return clients.picture(photos, "astronaut.jpg", tmp_path)


async def prepared(client: Client, image: InputFile, behind: int, operation: str = "colorize") -> str:
    job = replace(work(client.vendor, operation, image), behind=behind)
    done = await client.vendor.prepare(client.account, job)
    (file_id,) = done.data["payload"]["file_sets"]["src_ids"]
    return str(file_id)


async def test_the_jobs_behind_need_no_call_of_their_own(image: InputFile) -> None:
    async with serving() as (client, storage):
        used = [await prepared(client, image, behind) for behind in (3, 2, 1, 0)]
        assert storage.calls == [4]
        assert len(set(used)) == len(storage.stored) == 4, "each picture in a slot of its own"
        await prepared(client, image, 0)
        assert storage.calls == [4, 1]


async def test_no_call_opens_more_than_are_soon_used(image: InputFile) -> None:
    async with serving() as (client, storage):
        await prepared(client, image, 1_000)
        assert storage.calls == [1 + MOST_AHEAD]


async def test_another_operation_has_slots_of_its_own(image: InputFile) -> None:
    async with serving() as (client, storage):
        await prepared(client, image, 1)
        await prepared(client, image, 0, "sod")
        assert storage.calls == [2, 1]


async def test_a_slot_that_waited_too_long_is_not_used(image: InputFile) -> None:
    async with serving() as (client, storage):
        await prepared(client, image, 1)
        storage.now += TRUSTED_MS + 1
        await prepared(client, image, 0)
        assert storage.calls == [2, 1]


async def test_slots_that_died_meanwhile_cost_one_more_call_and_no_job(image: InputFile) -> None:
    async with serving() as (client, storage):
        await prepared(client, image, 3)
        storage.dead = {"/bucket/2", "/bucket/3", "/bucket/4"}
        await prepared(client, image, 2)
        assert storage.calls == [4, 1]
        assert storage.stored == ["/bucket/1", "/bucket/5"]


async def test_a_storage_that_refuses_everything_is_told(image: InputFile) -> None:
    async with serving() as (client, storage):
        storage.dead = {f"/bucket/{number}" for number in range(99)}
        error = await error_of(prepared(client, image, 0))
        assert (error.code, error.permanent) == ("upload_403", False)
