"""Streams at once: a project alone may have them all, and no project keeps another out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from schemas.event import EventType
from service.pipeline.presence import GRACE_MS
from service.web import places
from tests.acceptance.listening import listening, made
from tests.acceptance.sse import Stream, stream
from tests.acceptance.test_api_tenants import tenant
from tests.acceptance.test_event_stream import LOG, happen, sequences, until
from tests.clock import ManualClock
from tests.harness import PATIENCE, Client, Stand, stand

pytestmark = pytest.mark.anyio

MOST = 5


@dataclass
class House:
    """A service with few places, two projects, and what they have open until the test's end."""

    it: Stand
    clock: ManualClock
    stack: AsyncExitStack
    stranger: Client

    @property
    def ours(self) -> Client:
        return self.it.client

    async def open(self, client: Client, **query: str) -> Stream:
        return await self.stack.enter_async_context(stream(client, LOG, None, **query))

    async def refused(self, client: Client) -> dict[str, Any]:
        status, problem, headers = await client.call_full("GET", LOG)
        assert (status, problem["type"]) == (503, "urn:wirephoto:problem:too_many_streams"), problem
        assert int(headers["Retry-After"]) >= 1
        found: dict[str, Any] = problem
        return found

    async def all_open(self, *streams: Stream) -> None:
        """None of them was closed: each has another heartbeat."""
        beats = asyncio.gather(*(found.block() for found in streams))
        async with asyncio.timeout(PATIENCE):
            while not beats.done():
                await self.clock.advance(1_000)
        assert await beats == [None] * len(streams)


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(places, "MOST", MOST)
    clock = ManualClock()
    async with stand(tmp_path, clock=clock) as it, AsyncExitStack() as stack:
        it.client.http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield House(it, clock, stack, (await tenant(it)).client)


@asynccontextmanager
async def crowded_out(found: Stream) -> AsyncIterator[None]:
    """It has been told so, and then it ended."""
    last = found.last_id
    yield
    (closed,) = await found.rest()
    assert (closed.kind, closed.json) == ("closed", {"reason": "crowded_out"})
    assert found.last_id == last, "its cursor is where it was"


async def test_a_project_alone_has_every_place_and_is_told_when_there_is_none(house: House) -> None:
    mine = [await house.open(house.ours) for _ in range(MOST)]
    problem = await house.refused(house.ours)
    assert "this project has its share: 5" in problem["detail"]
    await happen(house.it)
    assert [await sequences(found, 1) for found in mine] == [[1]] * MOST, "and none of its own was closed for it"
    mine[0].answer.close()
    await until(house.it, lambda: house.it.wirephoto.site.places.open == MOST - 1)
    await house.open(house.ours)


async def test_however_many_come_at_once_no_more_are_open(house: House) -> None:
    answers = await asyncio.gather(
        *(house.ours.http.get(house.ours.url + LOG, headers=_key(house.ours)) for _ in range(12))
    )
    try:
        assert sorted(answer.status for answer in answers) == [200] * MOST + [503] * (12 - MOST)
    finally:
        for answer in answers:
            answer.close()


def _key(client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.key}"}


async def test_whoever_has_none_takes_the_place_of_the_greediest_projects_idlest(house: House) -> None:
    mine = [await house.open(house.ours, type="job.failed") for _ in range(MOST - 1)]
    idle = await house.open(house.ours, type="job.canceled")
    house.clock.leap(1)
    await happen(house.it, 1, EventType.JOB_FAILED)
    for found in mine:
        await sequences(found, 1)
    async with crowded_out(idle):
        theirs = await house.open(house.stranger)
    # It comes back with its cursor when there is room, and has missed nothing.
    await happen(house.it, 1, EventType.JOB_CANCELED)
    mine.pop().answer.close()
    await until(house.it, lambda: house.it.wirephoto.site.places.open == MOST - 1)
    async with stream(house.ours, LOG, {"Last-Event-ID": idle.last_id}, type="job.canceled") as again:
        assert await sequences(again, 1) == [2]
    await house.all_open(*mine, theirs)


async def test_those_who_want_more_than_there_is_end_with_as_many_and_take_no_more(house: House) -> None:
    mine = [await house.open(house.ours) for _ in range(MOST)]
    theirs = []
    for first in mine[:2]:
        async with crowded_out(first):
            theirs.append(await house.open(house.stranger))
    for _ in range(3):
        await house.refused(house.stranger)
        await house.refused(house.ours)
    third = await tenant(house.it, "a third")
    async with crowded_out(mine[2]):
        others = await house.open(third.client)
    await house.refused(third.client)
    left = [*mine[3:], *theirs, others]
    assert len(left) == MOST == house.it.wirephoto.site.places.open
    await house.all_open(*left)


async def test_an_endpoint_that_lives_by_its_stream_is_spared_while_a_reader_of_the_log_is_there(house: House) -> None:
    endpoints = [await made(house.ours) for _ in range(MOST - 1)]
    listeners = [await house.stack.enter_async_context(listening(house.ours, endpoint)) for endpoint in endpoints]
    house.clock.leap(1_000)
    async with crowded_out(await house.open(house.ours)):
        await house.open(house.stranger)
    async with crowded_out(listeners[0].stream):
        await house.open(house.stranger)
    # Room for it, and it takes its endpoint up again.
    await until(house.it, lambda: len(house.it.wirephoto.site.streams.connected) == MOST - 2)
    listeners[1].stream.answer.close()
    await until(house.it, lambda: house.it.wirephoto.site.places.open == MOST - 1)
    async with listening(house.ours, endpoints[0]):
        pass


async def test_an_endpoint_whose_client_knocks_in_vain_does_not_go_away(house: House) -> None:
    endpoint = await made(house.ours)
    listener = await house.stack.enter_async_context(listening(house.ours, endpoint))
    for _ in range(MOST - 1):
        await house.stack.enter_async_context(listening(house.ours, await made(house.ours)))
    async with crowded_out(listener.stream):
        await house.open(house.stranger)
    path = f"/v1/endpoints/{endpoint['id']}"
    for _ in range(12):
        await house.clock.advance(GRACE_MS // 4)
        assert (await house.ours.call_full("GET", f"{path}/stream"))[0] == 503
    await house.clock.settle()
    status, found = await house.ours.call("GET", path)
    assert (status, found["state"]) == (200, "enabled")


async def test_what_is_refused_for_another_reason_takes_no_place(house: House) -> None:
    for _ in range(MOST + 1):
        assert (await house.ours.call("GET", f"{LOG}?after=99"))[0] == 409
        assert (await house.ours.call("HEAD", LOG))[0] == 200
    await until(house.it, lambda: house.it.wirephoto.site.places.open == 0)
