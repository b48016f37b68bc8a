"""Faults of ours on the way to a stream's client: each is one delivery's own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.store import events
from tests.acceptance.delivery_rig import Rig, rig
from tests.acceptance.listening import listening, made
from tests.harness import PATIENCE
from tests.store.rows import run

pytestmark = pytest.mark.anyio

SET_PAYLOAD = "UPDATE events SET payload = :payload WHERE public_id = :event"


@pytest.fixture
async def it(tmp_path: Path, everywhere: str) -> AsyncIterator[Rig]:  # noqa: ARG001 - it says which database
    async with rig(tmp_path) as running:
        yield running


@pytest.mark.parametrize("most", [1, 3])
async def test_one_that_can_not_be_written_holds_up_no_other_and_comes_when_it_can(it: Rig, most: int) -> None:
    endpoint = await made(it.client, format="flat", max_in_flight=most)
    told = [await it.event() for _ in range(3)]
    core = it.stand.wirephoto.core
    event = await core.db.read(events.get, 1, told[0])
    assert event is not None
    await core.db.write(run, SET_PAYLOAD, {"payload": event.payload[:-1], "event": told[0]})
    async with listening(it.client, endpoint) as listener:
        for following in told[1:]:
            handed = await listener.take()
            assert handed["headers"]["webhook-id"] == following
            assert (await listener.answer(handed))[0] == 200
        assert (await it.delivery(told[0], endpoint))["state"] == "pending"
        await core.db.write(run, SET_PAYLOAD, {"payload": event.payload, "event": told[0]})
        async with asyncio.timeout(PATIENCE):
            coming = asyncio.create_task(listener.take())
            while not coming.done():
                await it.clock.advance(1_000)
        handed = await coming
        assert (handed["headers"]["webhook-id"], handed["attempt"]) == (told[0], 1)
        assert (await listener.answer(handed))[0] == 200
