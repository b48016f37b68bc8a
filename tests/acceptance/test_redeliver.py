"""One delivery once more, whatever had come of it; and a ledger that says who has what, since when, and why not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.pipeline.retry import HOUR, JITTER, SCHEDULE
from service.store import endpoints
from service.store.database import Tx
from tests.acceptance.delivery_rig import QUEUED, Gate, Rig, at, failing, rig, says
from tests.acceptance.test_api_tenants import tenant
from tests.harness import PATIENCE, receiver
from tests.store.rows import run

pytestmark = pytest.mark.anyio

TWICE: dict[str, Any] = {"retry_schedule": [1]}  # the second failure is the last


async def _again(it: Rig, delivery: dict[str, Any]) -> dict[str, Any]:
    status, answer = await it.client.call("POST", f"/v1/deliveries/{delivery['id']}/redeliver")
    assert status == 202, answer
    told: dict[str, Any] = answer
    return told


async def _ledger(it: Rig, event: str) -> dict[str, Any]:
    status, ledger = await it.client.call("GET", f"/v1/events/{event}")
    assert status == 200
    found: dict[str, Any] = ledger
    return found


async def test_what_was_delivered_is_sent_again_under_the_same_id_and_stays_delivered(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        event = await it.event()
        first = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        it.clock.leap(HOUR)
        again = await _again(it, first)
        assert (again["state"], again["delivered_at"], again["finished_at"]) == ("pending", first["delivered_at"], None)
        second = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert (second["attempt_count"], second["delivered_at"]) == (2, first["finished_at"])
        assert second["finished_at"] > first["finished_at"]
        await shop.wait_for(2)
        assert [got.headers["webhook-id"] for got in shop.got] == [event, event]
        assert shop.got[0].body == shop.got[1].body


async def test_an_event_that_was_delivered_once_is_delivered_though_sending_it_again_has_failed(tmp_path: Path) -> None:
    async with rig(tmp_path, **TWICE) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        event = await it.event()
        first = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        gate = Gate()

        async def refuse(request: Any) -> Any:
            await gate(request)
            return await says(500, "not again")(request)

        shop.answers = [refuse, refuse]
        await _again(it, first)
        await gate.holds(1)
        assert (await _ledger(it, event))["status"] == "pending"
        gate.opened.set()
        it.pass_until((await it.tried(event, endpoint, 2))["next_attempt_at"])
        await it.until(event, endpoint, lambda found: found["state"] == "exhausted")
        ledger = await _ledger(it, event)
        (entry,) = ledger["deliveries"]
        assert (ledger["status"], entry["delivered_at"], entry["undelivered"]) == (
            "delivered",
            first["finished_at"],
            None,
        )
        assert (entry["last_attempt"]["status"], entry["last_attempt"]["response_head"]) == (500, "not again")


async def test_an_exhausted_delivery_begins_its_schedule_anew_and_goes_on_counting(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        failing(bad)
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        event = await it.event()
        for number in range(1, len(SCHEDULE) + 1):
            it.pass_until((await it.tried(event, endpoint, number))["next_attempt_at"])
        ended = await it.until(event, endpoint, lambda found: found["state"] == "exhausted")
        assert (ended["undelivered"], ended["delivered_at"]) == ("exhausted", None)
        tries = len(SCHEDULE) + 1
        await _again(it, ended)
        for number, wait in enumerate(SCHEDULE[:2], tries + 1):
            tried = await it.tried(event, endpoint, number)
            last = tried["attempts"][-1]
            assert last["number"] == number
            waits = at(tried["next_attempt_at"]) - at(last["at"])
            assert wait * (1 - JITTER) <= waits <= wait * (1 + JITTER)
            it.pass_until(tried["next_attempt_at"])
        third = await it.tried(event, endpoint, tries + 3)
        bad.answers = []
        it.pass_until(third["next_attempt_at"])
        done = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert [attempt["number"] for attempt in done["attempts"]] == list(range(1, tries + 5))
        assert (await _ledger(it, event))["status"] == "delivered"


async def test_what_waits_for_its_next_attempt_is_tried_now(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as flaky:
        flaky.answers = [says(500), says(500)]
        endpoint = await it.client.subscribe(flaky.url, events=QUEUED)
        event = await it.event()
        waiting = await it.tried(event, endpoint, 1)
        now = it.clock.now()
        told = await _again(it, waiting)
        assert (told["state"], at(told["next_attempt_at"])) == ("pending", now)
        tried = await it.tried(event, endpoint, 2)
        # Its schedule goes on: it was never given up.
        assert at(tried["next_attempt_at"]) - now >= SCHEDULE[1] * (1 - JITTER)
        await _again(it, tried)
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert it.clock.now() == now


async def test_an_attempt_that_is_under_way_is_not_made_twice(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as slow:
        slow.answers = [gate]
        endpoint = await it.client.subscribe(slow.url, events=QUEUED)
        event = await it.event()
        await gate.holds(1)
        told = await _again(it, await it.delivery(event, endpoint))
        assert told["state"] == "pending"
        gate.opened.set()
        done = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert done["attempt_count"] == 1
        await it.event()
        await slow.wait_for(2)
        assert [got.event["id"] for got in slow.got].count(event) == 1


async def test_who_asks_ten_times_at_once_is_sent_it_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        event = await it.event()
        delivery = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        gate = Gate()
        shop.answers = [gate] * 20
        await asyncio.gather(*(_again(it, delivery) for _ in range(10)))
        await gate.holds(1)
        await _again(it, delivery)
        gate.opened.set()
        done = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert (done["attempt_count"], len(shop.got)) == (2, 2)


async def test_of_a_disabled_endpoint_it_is_held_until_that_is_enabled(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        old = await it.event()
        delivered = await it.until(old, endpoint, lambda found: found["state"] == "delivered")
        shop.answers = [says(410)]
        gone = await it.event()
        held = await it.until(gone, endpoint, lambda found: found["state"] == "held")
        assert held["undelivered"] == "endpoint_disabled"
        assert (await _ledger(it, gone))["status"] == "undelivered"
        again = await _again(it, delivered)
        assert (again["state"], again["delivered_at"]) == ("held", delivered["delivered_at"])
        assert (await _ledger(it, old))["status"] == "delivered"
        assert (await _again(it, held))["state"] == "held"
        assert (await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable"))[0] == 200
        for event in (old, gone):
            await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert (await it.delivery(old, endpoint))["attempt_count"] == 2


async def test_the_ledger_says_why_a_paused_endpoint_has_nothing(tmp_path: Path) -> None:
    async def pause(tx: Tx, row: int) -> None:
        await run(tx, "UPDATE endpoints SET state = 'paused' WHERE id = :row", {"row": row})

    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        core = it.stand.wirephoto.core
        found = await core.db.read(endpoints.get, 1, endpoint["id"])
        assert found is not None
        await core.db.write(pause, found.row)
        (entry,) = (await _ledger(it, await it.event()))["deliveries"]
        assert (entry["state"], entry["undelivered"], entry["last_attempt"]) == ("held", "endpoint_paused", None)


async def test_of_a_deleted_endpoint_it_is_refused_and_the_ledger_says_why(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        failing(bad)
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        event = await it.event()
        waiting = await it.tried(event, endpoint, 1)
        await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}")
        status, problem = await it.client.call("POST", f"/v1/deliveries/{waiting['id']}/redeliver")
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:endpoint_deleted")
        ledger = await _ledger(it, event)
        (entry,) = ledger["deliveries"]
        assert (ledger["status"], entry["undelivered"]) == ("undelivered", "endpoint_deleted")
        _, page = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}")
        assert [delivery["id"] for delivery in page["data"]] == [waiting["id"]], "a deleted endpoint's ledger stays"


async def test_the_own_webhook_of_a_job_is_sent_again_too(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as own:
        job: dict[str, Any] = {"inputs": {"image": {"url": "http://127.0.0.1:9/none.jpg"}}, "webhook_events": QUEUED}
        await it.client.submit("vanceai/enlarge3", webhook=own.url, **job)
        (got,) = await own.wait_for(1)
        async with asyncio.timeout(PATIENCE):
            while (page := await _page(it, got.event["id"]))[0]["state"] != "delivered":
                pass
        await _again(it, page[0])
        await own.wait_for(2)
        assert own.got[1].headers["webhook-id"] == got.event["id"]


async def _page(it: Rig, event: str) -> list[dict[str, Any]]:
    _, page = await it.client.call("GET", f"/v1/deliveries?event={event}")
    found: list[dict[str, Any]] = page["data"]
    return found


async def test_another_projects_delivery_is_not_sent_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        event = await it.event()
        delivery = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        stranger = await tenant(it.stand)
        status, _ = await stranger.client.call("POST", f"/v1/deliveries/{delivery['id']}/redeliver")
        assert status == 404
        assert (await it.delivery(event, endpoint))["state"] == "delivered"


async def test_what_is_sent_again_keeps_its_event_from_being_trimmed(tmp_path: Path) -> None:
    day = 24 * HOUR
    async with rig(tmp_path, event_retention_days=1, retry_schedule=[20 * 24 * 3600]) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        event = await it.event()
        delivery = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        it.clock.leap(day - HOUR)
        shop.answers = [says(500)]
        await _again(it, delivery)
        await it.tried(event, endpoint, 2)
        it.clock.leap(10 * day)
        for _ in range(200):
            await it.clock.advance(1000)
        assert (await it.client.call("GET", f"/v1/events/{event}"))[0] == 200
