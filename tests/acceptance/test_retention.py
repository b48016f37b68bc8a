"""What is old goes, what is owed stays, and whoever missed something is told: as users of the API see it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.pipeline.lane import Lane
from service.pipeline.retry import HOUR, SECOND
from service.retention import PASS_SECONDS
from tests.acceptance.delivery_rig import QUEUED, Gate, Rig, at, rig, says
from tests.acceptance.test_lanes import living
from tests.clock import ManualClock
from tests.faulty_store import faulty_store
from tests.harness import PATIENCE, Client, receiver

pytestmark = pytest.mark.anyio

DAY = 24 * HOUR
NEXT_PASS = round(PASS_SECONDS * 1000) + 1
ONE_DAY: dict[str, Any] = {"event_retention_days": 1, "asset_retention_days": 1}


async def _come(it: Rig, true: Callable[[], Awaitable[bool]]) -> None:
    """Let retention make a pass, and where it has not brought this about, another one."""
    async with asyncio.timeout(PATIENCE):
        while not await _in_a_pass(it, true):
            pass


async def _in_a_pass(it: Rig, true: Callable[[], Awaitable[bool]]) -> bool:
    """The rests of a pass are short, and its steps take the time of the machine, which passes while we ask."""
    it.clock.leap(NEXT_PASS)
    for _ in range(40):
        if await true():
            return True
        await it.clock.advance(100)
    return False


async def _failed(it: Rig, job: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await it.client.job(job))["state"] != "failed":
            await it.clock.advance(SECOND)


async def _gone(it: Rig, path: str) -> bool:
    status, body = await it.client.call("GET", path)
    assert status in (200, 404), body
    return status == 404


async def _another_log_is_trimmed(it: Rig) -> None:
    """A project beside ours, with nothing owed: once its old event has gone, retention has been at ours too."""
    _, project = await it.client.call("POST", "/v1/projects", json={"name": "beside"})
    beside = Rig(it.stand, it.clock)
    beside.client = Client(it.client.url, it.client.http, project["api_key"])
    event = await beside.event()
    it.clock.leap(DAY)
    await beside.event()
    await _come(beside, lambda: _gone(beside, f"/v1/events/{event}"))


async def test_an_event_its_deliveries_and_its_job_go_together(tmp_path: Path) -> None:
    async with rig(tmp_path, **ONE_DAY) as it, receiver() as subscriber:
        endpoint = await it.client.subscribe(subscriber.url)
        event = await it.event()
        (job,) = (await it.client.call("GET", "/v1/jobs"))[1]["data"]
        await _failed(it, job["id"])
        delivery = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        paths = (f"/v1/events/{event}", f"/v1/deliveries/{delivery['id']}", f"/v1/jobs/{job['id']}")
        it.clock.leap(DAY - 2 * HOUR)
        assert not await _in_a_pass(it, lambda: _any(_gone(it, path) for path in paths))
        it.clock.leap(2 * HOUR)
        await it.event()
        await _come(it, lambda: _all(_gone(it, path) for path in paths))


async def _any(answers: Any) -> bool:
    return any([await answer for answer in answers])


async def _all(answers: Any) -> bool:
    return all([await answer for answer in answers])


async def test_what_is_owed_to_an_enabled_endpoint_is_never_trimmed(tmp_path: Path) -> None:
    async with rig(tmp_path, **ONE_DAY, retry_schedule=[20 * DAY / 1000]) as it, receiver() as late:
        endpoint = await it.client.subscribe(late.url, events=QUEUED)
        late.answers = [says(500)]
        event = await it.event()
        await it.tried(event, endpoint, 1)
        it.clock.leap(10 * DAY)
        await _another_log_is_trimmed(it)
        owed = await it.delivery(event, endpoint)
        assert owed["state"] == "pending"
        it.pass_until(owed["next_attempt_at"])
        assert (await it.until(event, endpoint, lambda found: found["state"] == "delivered"))["attempt_count"] == 2
        await late.wait_for(2)
        assert [entry.event["id"] for entry in late.got] == [event, event]


async def test_what_is_held_ends_as_expired_and_is_seen_as_long_again(tmp_path: Path) -> None:
    async with rig(tmp_path, **ONE_DAY) as it, receiver() as gone:
        endpoint = await it.client.subscribe(gone.url, events=QUEUED)
        gone.answers = [says(410)]
        first = await it.event()
        await it.until(first, endpoint, lambda found: found["state"] == "held")
        it.clock.leap(DAY // 2)
        second = await it.event()
        assert (await it.delivery(second, endpoint))["state"] == "held"
        it.clock.leap(DAY // 2)

        async def expired() -> bool:
            return bool((await it.delivery(first, endpoint))["state"] == "expired")

        await _come(it, expired)
        assert (await it.delivery(second, endpoint))["state"] == "held"
        found = (await it.client.call("GET", f"/v1/events/{first}"))[1]
        assert found["status"] == "undelivered"
        listed = (await it.client.call("GET", "/v1/deliveries?state=expired"))[1]["data"]
        assert [entry["event"] for entry in listed] == [first]
        steps = (await it.client.call("GET", f"/v1/jobs/{found['data']['id']}/timeline"))[1]["data"]
        (told,) = (step for step in steps if step.get("state") == "expired")
        assert told["at"] == listed[0]["finished_at"]
        status, _ = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        assert status == 200
        got = await gone.wait_for(2)
        assert [entry.event["id"] for entry in got] == [first, second], "what has expired is not sent again"
        it.clock.leap(at(listed[0]["finished_at"]) + DAY - it.clock.now())
        await it.event()
        await _come(it, lambda: _gone(it, f"/v1/events/{first}"))


async def test_a_reader_that_was_away_too_long_is_told_what_it_missed(tmp_path: Path) -> None:
    async with rig(tmp_path, **ONE_DAY) as it:
        events = [await it.event() for _ in range(3)]
        known = {entry["id"]: entry["sequence"] for entry in await it.client.events()}
        it.clock.leap(DAY + HOUR)
        newest = await it.event()
        await _come(it, lambda: _gone(it, f"/v1/events/{events[2]}"))
        status, log = await it.client.call("GET", "/v1/events")
        assert status == 200, "from the beginning of what there is"
        oldest = log["data"][0]["sequence"]
        assert oldest > known[events[2]]
        status, problem = await it.client.call("GET", f"/v1/events?after={known[events[0]]}")
        assert (status, problem["type"], problem["oldest"]) == (410, "urn:wirephoto:problem:events_gone", oldest)
        status, rest = await it.client.call("GET", f"/v1/events?after={oldest - 1}")
        assert status == 200
        assert newest in [entry["id"] for entry in rest["data"]]


async def test_an_idempotency_key_keeps_its_job_for_a_day_however_short_retention_is(tmp_path: Path) -> None:
    async with rig(tmp_path, event_retention_days=1 / 24) as it:

        async def submit() -> tuple[int, Any]:
            inputs = {"image": {"url": "http://127.0.0.1:9/none.jpg"}}
            return await it.client.submit("vanceai/enlarge3", inputs=inputs, headers={"Idempotency-Key": "once"})

        status, job = await submit()
        assert status == 202
        (event, *_) = await it.client.events(job["id"])
        await _failed(it, job["id"])
        it.clock.leap(3 * HOUR)
        await it.event()
        await _come(it, lambda: _gone(it, f"/v1/events/{event['id']}"))
        status, again = await submit()
        assert (status, again["id"]) == (200, job["id"])
        it.clock.leap(DAY)
        await _come(it, lambda: _gone(it, f"/v1/jobs/{job['id']}"))
        status, other = await submit()
        assert status == 202
        assert other["id"] != job["id"]


async def test_an_endpoint_deleted_in_the_middle_of_a_failing_attempt_leaves_nothing_in_memory(tmp_path: Path) -> None:
    gate = Gate()

    async def refuse(request: Any) -> Any:
        await gate(request)
        return await says(500)(request)

    async with rig(tmp_path) as it, receiver() as bad:
        bad.answers = [refuse]
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        event = await it.event()
        await gate.holds(1)
        delivery = await it.delivery(event, endpoint)
        status, _ = await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}")
        assert status == 204
        gate.opened.set()
        async with asyncio.timeout(PATIENCE):
            while living(Lane):
                await it.client.call("GET", f"/v1/deliveries/{delivery['id']}")


async def test_retention_goes_on_where_it_was_when_the_store_comes_back(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        faulty_store(tmp_path / "data") as store,
        rig(tmp_path, clock, database=store, **ONE_DAY) as it,
    ):
        event = await it.event()
        struck = store.fails("retention._trim", 3)
        it.clock.leap(DAY)
        await it.event()
        await _come(it, lambda: _gone(it, f"/v1/events/{event}"))
        assert struck.count == 3
        assert (await it.client.call("GET", "/readyz"))[0] == 200
