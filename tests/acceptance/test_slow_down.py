"""A receiver that asks for time gets it, whatever happens meanwhile."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.delivery_rig import QUEUED, Gate, Rig, rig, says
from tests.acceptance.listening import listening, made
from tests.acceptance.made import queue
from tests.clock import ManualClock
from tests.harness import PATIENCE, Receiver, receiver

pytestmark = pytest.mark.anyio

REST = 600
WAIT = says(429, Retry_After=str(REST))


async def asked_for_time(it: Rig, shop: Receiver, **fields: Any) -> dict[str, Any]:
    """An endpoint whose receiver has just answered 429."""
    shop.answers = [WAIT]
    endpoint = await it.client.subscribe(shop.url, events=QUEUED, **fields)
    await it.tried(await it.event(), endpoint, 1)
    return endpoint


async def rests(it: Rig, shop: Receiver, endpoint: dict[str, Any]) -> None:
    """What happens now waits until the time is over."""
    tried, event = len(shop.got), await it.event()
    await it.clock.advance((REST - 5) * 1000)
    await it.delivery(event, endpoint)
    assert len(shop.got) == tried
    await it.clock.advance(5_000)
    await it.until(event, endpoint, lambda found: found["state"] == "delivered")


async def test_other_deliveries_wait_too(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        await rests(it, shop, await asked_for_time(it, shop))


async def test_a_success_of_what_was_under_way_does_not_end_the_rest(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [gate, WAIT]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        under_way = await it.event()
        await gate.holds(1)
        await it.tried(await it.event(), endpoint, 1)
        gate.opened.set()
        await it.until(under_way, endpoint, lambda found: found["state"] == "delivered")
        await rests(it, shop, endpoint)


@pytest.mark.parametrize(
    ("method", "door", "body"),
    [
        ("PATCH", "", {"description": "the shop in the north"}),
        ("PATCH", "", {"max_in_flight": 4}),
        ("POST", "/rotate-secret", {"overlap_seconds": 60}),
    ],
)
async def test_a_change_that_says_nothing_of_the_receiver_does_not_end_the_rest(
    tmp_path: Path, method: str, door: str, body: dict[str, Any]
) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await asked_for_time(it, shop)
        assert (await it.client.call(method, f"/v1/endpoints/{endpoint['id']}{door}", json=body))[0] == 200
        await rests(it, shop, endpoint)


async def test_a_new_address_does(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await asked_for_time(it, shop)
        await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": shop.url + "/new"})
        # No time passes.
        event = await it.event()
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")


async def test_who_resumes_it_does(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await asked_for_time(it, shop)
        for verb in ("pause", "resume"):
            assert (await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/{verb}"))[0] == 200
        event = await it.event()
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")


async def test_a_late_answer_of_the_old_address_is_no_wish_of_the_new_one(tmp_path: Path) -> None:
    late = Gate(WAIT)
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [late]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        under_way = await it.event()
        await late.holds(1)
        await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": shop.url + "/new"})
        # No time passes.
        event = await it.event()
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        late.opened.set()
        await it.tried(under_way, endpoint, 1)
        event = await it.event()
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")


# Over a restart. The clock is ours, and goes on.

HOUR = 3_600_000
LONG = says(503, Retry_After="3600")


async def nothing_before_the_hour(it: Rig, shop: Receiver, endpoint: dict[str, Any], other: Receiver) -> None:
    """Another endpoint is served at once: by then this one would have been, too."""
    tried, asked_at = len(shop.got), ManualClock().now()
    events = []
    for passing in (0, HOUR - 1 - (it.clock.now() - asked_at)):
        it.clock.leap(passing)
        events.append(await it.event())
        await other.until(lambda: events[-1] in {got.headers["webhook-id"] for got in other.got})
        await it.clock.settle()
        assert len(shop.got) == tried
    assert (await it.delivery(events[0], endpoint))["attempts"] == []
    it.clock.leap(1)
    for event in events:
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")


async def test_a_restart_does_not_end_the_rest(tmp_path: Path) -> None:
    clock = ManualClock()
    async with receiver() as shop, receiver() as other:
        shop.answers = [LONG]
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(shop.url, events=QUEUED)
            await it.client.subscribe(other.url, events=QUEUED)
            await it.tried(await it.event(), endpoint, 1)
        clock.leap(60_000)
        async with rig(tmp_path, clock) as it:
            await nothing_before_the_hour(it, shop, endpoint, other)


async def test_a_shorter_wish_does_not_cut_a_longer_one(tmp_path: Path) -> None:
    clock, gate = ManualClock(), Gate(says(429, Retry_After="1"))
    async with receiver() as shop, receiver() as other:
        shop.answers = [gate, LONG]
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(shop.url, events=QUEUED, retry_schedule=[36_000])
            await it.client.subscribe(other.url, events=QUEUED)
            under_way = await it.event()
            await gate.holds(1)
            await it.tried(await it.event(), endpoint, 1)
            gate.opened.set()
            await it.tried(under_way, endpoint, 1)
        async with rig(tmp_path, clock) as it:
            await nothing_before_the_hour(it, shop, endpoint, other)


@pytest.mark.parametrize("ends", [{"url": ""}, {"headers": {}}, "enable", "pause"])
async def test_what_ended_the_rest_has_ended_it_for_the_next_start_too(
    tmp_path: Path, ends: dict[str, Any] | str
) -> None:
    clock = ManualClock()
    async with receiver() as shop:
        shop.answers = [LONG]
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(shop.url, events=QUEUED)
            await it.tried(await it.event(), endpoint, 1)
            path = f"/v1/endpoints/{endpoint['id']}"
            if isinstance(ends, dict):
                ends = {"url": shop.url + "/new"} if "url" in ends else ends
                assert (await it.client.call("PATCH", path, json=ends))[0] == 200
            else:
                for verb in {"enable": ["enable"], "pause": ["pause", "resume"]}[ends]:
                    assert (await it.client.call("POST", f"{path}/{verb}"))[0] == 200
        async with rig(tmp_path, clock) as it:
            # No time passes.
            event = await it.event()
            await it.until(event, endpoint, lambda found: found["state"] == "delivered")


@pytest.mark.parametrize("restart", [False, True])
async def test_a_jobs_own_webhook_rests_too(tmp_path: Path, restart: bool) -> None:
    """Nothing of it is kept in memory between two events of its job."""
    clock = ManualClock()
    async with receiver() as own:
        own.answers = [LONG]
        async with AsyncExitStack() as services:
            it = await services.enter_async_context(rig(tmp_path, clock))
            job = await queue(it.stand, webhook=own.url, webhook_events=["job.queued", "job.canceled"])
            (queued,) = await it.client.events(job["id"])
            await it.ledger(queued["id"], lambda found: found["attempt_count"] == 1)
            if restart:
                await services.aclose()
                it = await services.enter_async_context(rig(tmp_path, clock))
            assert (await it.client.call("POST", f"/v1/jobs/{job['id']}/cancel"))[0] == 200
            canceled = (await it.client.events(job["id"]))[-1]
            assert canceled["type"] == "job.canceled"
            clock.leap(HOUR - 1)
            await clock.settle()
            await it.ledger(canceled["id"], lambda found: found["attempt_count"] == 0)
            assert len(own.got) == 1
            clock.leap(1)
            await it.ledger(canceled["id"], lambda found: found["state"] == "delivered")


@pytest.mark.parametrize("restart", [False, True])
async def test_a_stream_rests_too_whoever_comes_for_it(tmp_path: Path, restart: bool) -> None:
    clock = ManualClock()
    async with AsyncExitStack() as services:
        it = await services.enter_async_context(rig(tmp_path, clock))
        endpoint = await made(it.client)
        await it.event()
        async with listening(it.client, endpoint) as listener:
            await listener.answer(await listener.take(), 503, headers={"retry-after": "40"})
        if restart:
            await services.aclose()
            it = await services.enter_async_context(rig(tmp_path, clock))
        began, event = clock.now(), await it.event()
        async with listening(it.client, endpoint) as listener, asyncio.timeout(PATIENCE):
            handed = asyncio.create_task(listener.take())
            while not handed.done():
                await clock.advance(1_000)
            assert clock.now() - began >= 40_000
            assert {(await handed)["headers"]["webhook-id"], (await listener.take())["headers"]["webhook-id"]} >= {
                event
            }
