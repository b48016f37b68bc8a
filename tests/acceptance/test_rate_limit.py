"""No more attempts begin in any span than the endpoint allows, whatever they are and however many wait."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.store import nodes
from tests.acceptance.delivery_rig import QUEUED, Gate, Rig, at, rig, says
from tests.clock import ManualClock
from tests.harness import PATIENCE, receiver
from tests.store.rows import run

pytestmark = pytest.mark.anyio

LIMIT = {"requests": 3, "seconds": 10}
SPAN = 10_000


async def attempts(it: Rig, endpoint: dict[str, Any]) -> list[int]:
    """When each attempt for the endpoint began, in order."""
    _, listed = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}&limit=200")
    found = [(await it.client.call("GET", f"/v1/deliveries/{entry['id']}"))[1] for entry in listed["data"]]
    return sorted(at(attempt["at"]) for delivery in found for attempt in delivery["attempts"])


async def all_delivered(it: Rig, step: int = 1000) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await it.client.call("GET", "/v1/deliveries?state=pending&limit=1"))[1]["data"]:
            await it.clock.advance(step)


def keeps(limit: dict[str, int], began: list[int]) -> bool:
    """Whether no span holds more of them than is allowed."""
    following = zip(began, began[limit["requests"] :], strict=False)
    return all(later - first >= limit["seconds"] * 1000 for first, later in following)


async def test_no_span_holds_more_attempts_than_are_allowed(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, rate_limit=LIMIT)
        for _ in range(8):
            await it.event()
            await it.clock.advance(700)
        await all_delivered(it)
        began = await attempts(it, endpoint)
        assert len(began) == 8
        assert keeps(LIMIT, began)
        assert began[-1] - began[0] < 3 * SPAN, "nor does it wait for longer than it must"


async def test_a_backlog_that_is_released_comes_no_faster(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, rate_limit=LIMIT, max_in_flight=1)
        path = f"/v1/endpoints/{endpoint['id']}"
        # Long after the start, when nothing is looked up in the store any more.
        await it.clock.advance(2 * SPAN)
        made = [await it.event() for _ in range(3)]
        for event in made:
            await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        await it.client.call("POST", f"{path}/pause")
        made += [await it.event() for _ in range(7)]
        await it.client.call("POST", f"{path}/resume")
        await it.client.call("PATCH", path, json={"description": "asked anew"})
        await all_delivered(it)
        assert keeps(LIMIT, await attempts(it, endpoint))
        assert [got.headers["webhook-id"] for got in shop.got[3:]] == made[3:], "oldest first"


async def test_retries_count(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as flaky:
        flaky.answers = [says(500), says(204)] * 5
        endpoint = await it.client.subscribe(flaky.url, events=QUEUED, rate_limit=LIMIT, retry_schedule=[1] * 9)
        for _ in range(5):
            await it.event()
        await all_delivered(it)
        began = await attempts(it, endpoint)
        assert len(began) == len(flaky.got) == 10
        assert keeps(LIMIT, began)


async def test_a_restart_is_no_way_around_the_limit(tmp_path: Path) -> None:
    clock = ManualClock()
    async with receiver() as shop:
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(shop.url, events=QUEUED, rate_limit=LIMIT)
            for _ in range(5):
                await it.event()
            await shop.wait_for(3)
            await it.client.call("GET", "/v1/deliveries")
            async with asyncio.timeout(PATIENCE):
                while len(await attempts(it, endpoint)) < 3:
                    pass
        async with rig(tmp_path, clock) as it:
            await all_delivered(it)
            began = await attempts(it, endpoint)
            assert len(began) == 5
            assert keeps(LIMIT, began)


async def test_a_limit_that_is_taken_away_lets_the_backlog_flow(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, rate_limit={"requests": 1, "seconds": 3600})
        for _ in range(6):
            await it.event()
        await shop.wait_for(1)
        status, _ = await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"rate_limit": None})
        assert status == 200
        # No time has passed.
        await shop.wait_for(6)


async def test_what_waits_for_its_rate_is_no_task(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url, events=QUEUED, rate_limit={"requests": 1, "seconds": 3600})
        await it.event()
        await shop.wait_for(1)
        await it.clock.settle()
        before = len(_of_deliveries())
        for _ in range(20):
            await it.event()
        await it.clock.settle()
        assert len(_of_deliveries()) <= before + 1


def _of_deliveries() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "Deliver." in repr(task.get_coro())]


async def test_nodes_share_a_limit_evenly(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        db = it.stand.wirephoto.core.db
        await db.write(_joins, it.clock.now() + 3_600_000)
        await it.clock.advance(2000)
        async with asyncio.timeout(PATIENCE):
            while it.stand.wirephoto.core.nodes < 2:
                await it.clock.advance(1000)
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, rate_limit={"requests": 4, "seconds": 10})
        for _ in range(6):
            await it.event()
        await all_delivered(it)
        assert keeps({"requests": 2, "seconds": 10}, await attempts(it, endpoint))


async def _joins(tx: Any, at: int) -> None:
    """Another node, whose heart beats for as long as the test lasts."""
    row = await nodes.add(tx, at)
    await run(tx, "UPDATE nodes SET beat_at = :at WHERE id = :row", {"at": at, "row": row})


@pytest.mark.parametrize("schedule", [[], [7], [7, 30]])
async def test_an_endpoint_has_its_own_schedule(tmp_path: Path, schedule: list[int]) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        bad.answers = [says(500)] * 5
        endpoint = await it.client.subscribe(bad.url, events=QUEUED, retry_schedule=schedule)
        event = await it.event()
        for number, wait in enumerate(schedule, 1):
            delivery = await it.tried(event, endpoint, number)
            waits = at(delivery["next_attempt_at"]) - at(delivery["attempts"][-1]["at"])
            assert 900 * wait <= waits <= 1100 * wait
            it.pass_until(delivery["next_attempt_at"])
        ended = await it.until(event, endpoint, lambda found: found["state"] == "exhausted")
        assert len(ended["attempts"]) == len(schedule) + 1


async def test_a_schedule_that_is_taken_away_leaves_the_services_own(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        bad.answers = [says(500)] * 5
        endpoint = await it.client.subscribe(bad.url, events=QUEUED, retry_schedule=[])
        await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"retry_schedule": None})
        delivery = await it.tried(await it.event(), endpoint, 1)
        assert delivery["state"] == "pending"
        assert 4500 <= at(delivery["next_attempt_at"]) - at(delivery["attempts"][0]["at"]) <= 5500


async def test_a_round_begins_its_schedule_anew(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        bad.answers = [says(500)] * 2
        endpoint = await it.client.subscribe(bad.url, events=QUEUED, retry_schedule=[7])
        event = await it.event()
        first = await it.tried(event, endpoint, 1)
        # As one that is sent once more: another round, and its attempts go on being numbered.
        await it.stand.wirephoto.core.db.write(run, "UPDATE deliveries SET round_from = 1", {})
        it.pass_until(first["next_attempt_at"])
        second = await it.tried(event, endpoint, 2)
        assert second["state"] == "pending", "the schedule of the first round has ended here"
        it.pass_until(second["next_attempt_at"])
        found = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert [attempt["number"] for attempt in found["attempts"]] == [1, 2, 3]


async def test_what_is_sent_once_more_never_goes_before_what_is_live(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as slow:
        slow.answers = [gate]
        endpoint = await it.client.subscribe(slow.url, events=QUEUED, max_in_flight=1)
        path = f"/v1/endpoints/{endpoint['id']}"
        await it.client.call("POST", f"{path}/pause")
        again = [await it.event() for _ in range(3)]
        await it.stand.wirephoto.core.db.write(run, "UPDATE deliveries SET replay = 1", {})
        await it.client.call("POST", f"{path}/resume")
        # Nothing live is there: one is under way.
        await gate.holds(1)
        live = [await it.event() for _ in range(2)]
        gate.opened.set()
        await slow.wait_for(5)
        assert [got.headers["webhook-id"] for got in slow.got] == [again[0], *live, *again[1:]]
