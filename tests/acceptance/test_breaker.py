"""A broken receiver is asked now and then, loses nothing, is told of when it is well, and in the end disabled."""

import asyncio
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from service.pipeline.breaker import AUTO_DISABLE_MS, FAILURES_BEFORE_BROKEN
from service.pipeline.retry import HOUR
from tests.acceptance.delivery_rig import QUEUED, Gate, Rig, at, failing, rig, says
from tests.clock import ManualClock
from tests.harness import PATIENCE, Receiver, receiver
from tests.store.rows import run

pytestmark = pytest.mark.anyio

MANY = 16


async def break_it(it: Rig, bad: Receiver, endpoint: dict[str, Any]) -> list[str]:
    """Ten failures in a row. The events that it is owed."""
    failing(bad)
    made = [await it.event() for _ in range(MANY)]
    await asks_until(it, lambda: len(bad.got) >= FAILURES_BEFORE_BROKEN)
    async with asyncio.timeout(PATIENCE):
        while (await it.endpoint(endpoint))["health"]["broken_since"] is None:
            await it.clock.advance(1000)
    return made


async def asks_until(it: Rig, holds: Any, step: int = 1000) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await it.clock.advance(step)
            await it.client.call("GET", "/v1/deliveries?limit=1")


async def counts(it: Rig) -> list[int]:
    _, listed = await it.client.call("GET", "/v1/deliveries?limit=200")
    return [entry["attempt_count"] for entry in listed["data"]]


async def delivered(it: Rig, endpoint: dict[str, Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}&state=pending&limit=1"))[1][
            "data"
        ]:
            await it.clock.advance(1000)


async def test_a_broken_receiver_is_probed_ever_more_seldom_and_what_waits_keeps_its_attempts(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        await break_it(it, bad, endpoint)
        found = await it.endpoint(endpoint)
        assert (found["state"], found["health"]["failing_since"] is None) == ("enabled", False)
        before = len(bad.got)
        await asks_until(it, lambda: len(bad.got) >= before + 9)
        began = sorted(int(got.headers["webhook-timestamp"]) for got in bad.got)[-8:]
        # 2, 4, 8 … seconds, and never more than a minute; ± 10 %, and told in whole seconds.
        for probe, (first, later) in enumerate(itertools.pairwise(began), 1):
            assert later - first >= 0.9 * min(2**probe, 60) - 1
        await it.clock.settle()
        assert sum(await counts(it)) <= len(bad.got), "nobody else was asked"


async def test_who_enables_a_broken_receiver_vouches_for_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        await break_it(it, shop, endpoint)
        status, enabled = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        assert (status, enabled["health"]) == (200, {"failing_since": None, "broken_since": None})


async def test_the_first_success_opens_it_and_the_backlog_flows_oldest_first(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop, receiver() as other:
        endpoint = await it.client.subscribe(shop.url, events=["job.queued", "endpoint.*"], max_in_flight=1)
        watcher = await it.client.subscribe(other.url, events=["endpoint.recovered"])
        made = await break_it(it, shop, endpoint)
        made += [await it.event() for _ in range(6)]
        # While it rests for long, retries come due: they are older than what waits.
        shop.answers = [says(503, Retry_After="3000")]
        tried = len(shop.got)
        await asks_until(it, lambda: len(shop.got) > tried)
        async with asyncio.timeout(PATIENCE):
            while sum(await counts(it)) < len(shop.got):
                pass
        tried = len(shop.got)
        shop.answers = []
        it.clock.leap(2_500_000)
        async with asyncio.timeout(PATIENCE):
            while it.stand.wirephoto.site.deliver.pending < len(made) - 1:
                await it.clock.settle()
        it.clock.leap(600_000)
        await delivered(it, endpoint)
        _, listed = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}&limit=200")
        assert {entry["state"] for entry in listed["data"]} == {"delivered"}
        flowed = [got.headers["webhook-id"] for got in shop.got[tried:]]
        assert len(flowed) == len(made)
        # The probe may be any, and what asked for the rest has its own time.
        rest = [event for event in flowed[1:] if event != shop.got[tried - 1].headers["webhook-id"]]
        assert rest == [event for event in made if event in rest]
        (told,) = await other.wait_for(1)
        assert told.event["type"] == "endpoint.recovered"
        assert told.event["data"]["id"] == endpoint["id"]
        assert told.event["data"]["health"] == {"failing_since": None, "broken_since": None}
        assert (await it.endpoint(endpoint))["health"] == {"failing_since": None, "broken_since": None}
        assert [got for got in shop.got if got.event["type"] == "endpoint.recovered"] == [], "never to itself"
        await it.until(told.event["id"], watcher, lambda found: found["state"] == "delivered")
        assert len(other.got) == 1


async def test_a_receiver_that_is_well_again_has_as_many_under_way_as_before(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=5)
        await break_it(it, shop, endpoint)
        for _ in range(6):
            await it.event()
        shop.answers = [says(204), *[gate] * 99]
        tried = len(shop.got)
        await asks_until(it, lambda: len(shop.got) > tried)
        # Nothing new comes and no time passes: what waits must start by itself.
        await gate.holds(5)
        gate.opened.set()
        await delivered(it, endpoint)
        assert gate.most == 5


async def test_a_receiver_that_failed_a_little_is_not_told_of(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as flaky, receiver() as other:
        await it.client.subscribe(other.url, events=["endpoint.*"])
        endpoint = await it.client.subscribe(flaky.url, events=QUEUED)
        flaky.answers = [says(500)] * 2
        event = await it.event()
        await it.tried(event, endpoint, 1)
        assert (await it.endpoint(endpoint))["health"]["failing_since"] is not None
        await delivered(it, endpoint)
        assert (await it.endpoint(endpoint))["health"] == {"failing_since": None, "broken_since": None}
        assert other.got == []
        _, log = await it.client.call("GET", "/v1/events?type=endpoint.recovered")
        assert log["data"] == []


async def test_how_many_stand_how_is_told_to_prometheus(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad, receiver() as gone, receiver() as good:
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        gone.answers = [says(410)]
        left = await it.client.subscribe(gone.url, events=QUEUED)
        paused = await it.client.subscribe(good.url, events=["job.canceled"])
        await it.client.call("POST", f"/v1/endpoints/{paused['id']}/pause")
        for _ in range(2):
            await it.client.subscribe(good.url, events=["job.canceled"])
        await break_it(it, bad, endpoint)
        async with asyncio.timeout(PATIENCE):
            while (await it.endpoint(left))["state"] != "disabled":
                pass
        _, text = await it.client.call("GET", "/metrics", key="")
        told = dict(re.findall(r'^wirephoto_endpoints\{state="(\w+)"\} (\d+)', text.decode(), re.MULTILINE))
        assert told == {"enabled": "2", "paused": "1", "disabled": "1", "broken": "1"}


async def test_a_restart_goes_on_with_the_probing(tmp_path: Path) -> None:
    clock = ManualClock()
    async with receiver() as bad:
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(bad.url, events=QUEUED)
            await break_it(it, bad, endpoint)
            since = (await it.endpoint(endpoint))["health"]["broken_since"]
        before = len(bad.got)
        async with rig(tmp_path, clock) as it:
            await bad.wait_for(before + 1)
            async with asyncio.timeout(PATIENCE):
                while sum(await counts(it)) < before + 1:
                    pass
            await it.clock.settle()
            assert len(bad.got) == before + 1, "one probe, and not all that waits"
            assert (await it.endpoint(endpoint))["health"]["broken_since"] == since
            bad.answers = []
            await delivered(it, endpoint)


async def test_a_broken_receiver_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        await break_it(it, bad, endpoint)
        bad.answers = [says(502, Retry_After="600"), *[says(500)] * 999]
        tried = len(bad.got)
        await asks_until(it, lambda: len(bad.got) > tried)
        now = it.clock.now()
        await asks_until(it, lambda: len(bad.got) > tried + 1, step=10_000)
        assert it.clock.now() - now >= 590_000


async def test_a_broken_receiver_is_asked_at_once_where_somebody_redelivers(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        await break_it(it, shop, endpoint)
        async with asyncio.timeout(PATIENCE):
            while sum(await counts(it)) < len(shop.got):
                pass
        shop.answers, tried = [], len(shop.got)
        _, listed = await it.client.call("GET", "/v1/deliveries?limit=1")
        # No time passes.
        assert (await it.client.call("POST", f"/v1/deliveries/{listed['data'][0]['id']}/redeliver"))[0] == 202
        await shop.wait_for(tried + 1)


async def test_a_new_address_of_a_broken_receiver_is_tried_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad, receiver() as good:
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        await break_it(it, bad, endpoint)
        await it.clock.advance(300_000)
        # One of these may be a probe yet.
        waiting = {await it.event() for _ in range(3)}
        status, _ = await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": good.url})
        assert status == 200
        # No time passes.
        await good.until(lambda: len(waiting & {got.headers["webhook-id"] for got in good.got}) >= 2)


# Disabled in the end.


async def long_broken(it: Rig, bad: Receiver, endpoint: dict[str, Any], age: int = AUTO_DISABLE_MS) -> None:
    """As it stands after so long."""
    await break_it(it, bad, endpoint)
    db, since = it.stand.wirephoto.core.db, it.clock.now() - age
    await db.write(run, "UPDATE endpoints SET failing_since = :at WHERE broken_at IS NOT NULL", {"at": since})
    await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"description": "looked at anew"})
    _, listed = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}&limit=1")
    await it.client.call("POST", f"/v1/deliveries/{listed['data'][0]['id']}/redeliver")


async def test_an_endpoint_that_has_only_failed_for_five_days_is_disabled(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad, receiver() as other:
        await it.client.subscribe(other.url, events=["endpoint.*"])
        endpoint = await it.client.subscribe(bad.url, events=["job.queued", "endpoint.*"])
        await long_broken(it, bad, endpoint)
        (told,) = await other.wait_for(1)
        found = await it.endpoint(endpoint)
        assert (found["state"], found["disabled_reason"]) == ("disabled", "failing")
        assert (told.event["type"], told.event["data"]) == ("endpoint.disabled", found)
        _, listed = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}&limit=200")
        assert {entry["state"] for entry in listed["data"]} == {"held"}
        tried = len(bad.got)
        it.clock.leap(100 * HOUR)
        await it.clock.settle()
        assert len(bad.got) == tried
        # Who enables it vouches for it.
        bad.answers = []
        status, enabled = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        assert (status, enabled["health"]) == (200, {"failing_since": None, "broken_since": None})
        await delivered(it, endpoint)
        assert len({got.headers["webhook-id"] for got in bad.got}) == MANY


async def test_an_endpoint_that_has_failed_for_less_than_five_days_is_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        await long_broken(it, bad, endpoint, AUTO_DISABLE_MS - HOUR)
        tried = len(bad.got)
        await asks_until(it, lambda: len(bad.got) > tried + 2)
        assert (await it.endpoint(endpoint))["state"] == "enabled"


async def one_more_failure(it: Rig, bad: Receiver) -> None:
    tried, known = len(bad.got), sum(await counts(it))
    await asks_until(it, lambda: len(bad.got) > tried)
    async with asyncio.timeout(PATIENCE):
        while sum(await counts(it)) <= known:
            pass


async def test_the_days_of_a_pause_are_no_days_of_failure(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad:
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        await break_it(it, bad, endpoint)
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/pause")
        it.clock.leap(AUTO_DISABLE_MS + HOUR)
        resumed = it.clock.now()
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/resume")
        for _ in range(FAILURES_BEFORE_BROKEN + 1):
            await one_more_failure(it, bad)
        found = await it.endpoint(endpoint)
        assert (found["state"], at(found["health"]["failing_since"])) == ("enabled", resumed)


async def test_days_in_which_the_service_was_away_end_in_no_verdict_by_its_first_probe(tmp_path: Path) -> None:
    clock = ManualClock()
    async with receiver() as bad:
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(bad.url, events=QUEUED)
            await break_it(it, bad, endpoint)
        clock.leap(AUTO_DISABLE_MS)
        async with rig(tmp_path, clock) as it:
            await one_more_failure(it, bad)
            assert (await it.endpoint(endpoint))["state"] == "enabled"
            # Nor does it go on for ever.
            async with asyncio.timeout(PATIENCE):
                while (await it.endpoint(endpoint))["state"] == "enabled":
                    await it.clock.advance(1000)


async def test_an_endpoint_to_which_another_node_has_delivered_meanwhile_is_not_disabled(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad, receiver() as other:
        await it.client.subscribe(other.url, events=["endpoint.*"])
        endpoint = await it.client.subscribe(bad.url, events=QUEUED)
        taken = await it.event()
        await it.until(taken, endpoint, lambda found: found["state"] == "delivered")
        await long_broken(it, bad, endpoint)
        await asks_until(it, lambda: len(bad.got) > FAILURES_BEFORE_BROKEN + 3)
        found = await it.endpoint(endpoint)
        assert found["state"] == "enabled"
        assert found["health"]["failing_since"] is None or at(found["health"]["failing_since"]) > it.clock.now() - HOUR
        assert other.got == []
