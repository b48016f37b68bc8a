"""How an endpoint is doing, as its owner asks: what came of its attempts, how long they took, and what is owed."""

from pathlib import Path
from typing import Any

import pytest

from service.pipeline.retry import HOUR
from service.store import endpoints, stats
from tests.acceptance.delivery_rig import QUEUED, Rig, failing, rig, says
from tests.acceptance.made import fields
from tests.acceptance.replay_rig import replay_rig
from tests.harness import receiver

pytestmark = pytest.mark.anyio


async def _stats(it: Rig, endpoint: dict[str, Any], hours: int | None = None) -> dict[str, Any]:
    query = "" if hours is None else f"?hours={hours}"
    status, told = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/stats{query}")
    assert status == 200
    found: dict[str, Any] = told
    return found


async def test_an_endpoint_that_was_owed_nothing_has_nothing_to_judge_by(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        told = await _stats(it, await it.client.subscribe(shop.url))
        assert told["attempts"] == {
            "total": 0,
            "by_outcome": {},
            "success_rate": None,
            **dict.fromkeys(("p50_ms", "p95_ms", "p99_ms")),
        }
        assert told["deliveries"] == {"total": 0, "by_state": {}, "success_rate": None}
        for name in ("oldest_pending_at", "last_success", "last_failure", "sampled_since"):
            assert told[name] is None


async def test_what_came_of_attempts_and_deliveries_is_told_with_the_last_failure(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as shop, receiver() as other:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        await it.client.subscribe(other.url, events=QUEUED)
        for event in [await it.event() for _ in range(3)]:
            good = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        it.clock.leap(1000)
        failing(shop)
        lost = await it.event()
        await it.exhausted([lost], endpoint)
        waiting = await it.event()
        last = await it.tried(waiting, endpoint, 1)
        told = await _stats(it, endpoint)
        assert told["attempts"]["total"] == 6
        assert told["attempts"]["by_outcome"] == {"delivered": 3, "retry": 3}
        assert told["attempts"]["success_rate"] == 0.5
        assert 0 <= told["attempts"]["p50_ms"] <= told["attempts"]["p95_ms"] <= told["attempts"]["p99_ms"]
        assert told["deliveries"] == {
            "total": 5,
            "by_state": {"delivered": 3, "exhausted": 1, "pending": 1},
            "success_rate": 0.75,
        }
        assert (told["pending"], told["held"], told["oldest_pending_at"]) == (1, 0, last["created_at"])
        assert told["last_success"] == {"at": good["attempts"][-1]["at"], "status": 204, "error": None}
        failed = last["attempts"][-1]
        assert told["last_failure"] == {"at": failed["at"], "status": 500, "error": failed["error"]}


async def test_what_a_receiver_took_as_its_last_is_no_failure(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        shop.answers = [says(200, webhook_delivery="disable")]
        event = await it.event()
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        told = await _stats(it, endpoint)
        assert (told["attempts"]["by_outcome"], told["attempts"]["success_rate"]) == ({"last": 1}, 1.0)
        assert (told["last_failure"], told["last_success"]["status"]) == (None, 200)


async def test_only_the_hours_that_are_asked_for_count_but_what_is_owed_is_owed(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        first = await it.event()
        delivered = await it.until(first, endpoint, lambda found: found["state"] == "delivered")
        shop.answers = [says(410)]
        held = await it.event()
        await it.until(held, endpoint, lambda found: found["state"] == "held")
        it.clock.leap(30 * HOUR)
        day, week = await _stats(it, endpoint), await _stats(it, endpoint, 168)
        assert (day["attempts"]["total"], day["deliveries"]["total"], day["held"], day["state"]) == (
            0,
            0,
            1,
            "disabled",
        )
        assert (week["attempts"]["by_outcome"], week["deliveries"]["total"]) == ({"delivered": 1, "gone": 1}, 2)
        assert day["last_success"] == week["last_success"] is not None
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        await it.until(held, endpoint, lambda found: found["state"] == "delivered")
        # An old delivery that is sent once more is tried today.
        await it.client.call("POST", f"/v1/deliveries/{delivered['id']}/redeliver")
        await it.until(first, endpoint, lambda found: found["attempt_count"] == 2)
        assert (await _stats(it, endpoint, 1))["attempts"]["by_outcome"] == {"delivered": 2}
        for hours in ("0", "169", "x"):
            status, problem = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/stats?hours={hours}")
            assert (status, fields(problem)) == (422, {"hours"})


async def test_however_much_there_is_only_the_newest_is_looked_at_and_that_is_said(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        old, *_ = await it.log(4)
        await shop.wait_for(4)
        it.clock.leap(HOUR)
        for event in await it.log(3):
            newest = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        core = it.stand.wirephoto.core
        found = await core.db.read(endpoints.get, 1, endpoint["id"])
        assert found is not None
        since = it.clock.now() - 2 * HOUR
        few = await core.db.read(stats.of_endpoint, found.row, since, 3)
        assert (few.sampled_since, sum(few.attempts.values())) == (it.clock.now(), 3)
        assert newest["state"] == "delivered"
        # What was opened again is looked at too, however old it is.
        delivery = await it.delivery(old, endpoint)
        await it.client.call("POST", f"/v1/deliveries/{delivery['id']}/redeliver")
        await it.until(old, endpoint, lambda found: found["attempt_count"] == 2)
        few = await core.db.read(stats.of_endpoint, found.row, since, 3)
        assert sum(few.attempts.values()) == 5
        assert (await core.db.read(stats.of_endpoint, found.row, since)).sampled_since is None
