"""A range of the log once more: counted first, durable, behind everything live, and never twice the same event."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from schemas.event import EventType, rfc3339
from service.pipeline import replay
from service.pipeline.retry import HOUR
from tests.acceptance.delivery_rig import QUEUED, Gate, at, says
from tests.acceptance.listening import listening
from tests.acceptance.listening import made as made_stream
from tests.acceptance.made import fields
from tests.acceptance.replay_rig import LONG_AGO, ReplayRig, failing_times, ids, replay_rig
from tests.acceptance.test_api_tenants import tenant
from tests.clock import ManualClock
from tests.faulty_store import away, bug, faulty_store
from tests.harness import PATIENCE, receiver

pytestmark = pytest.mark.anyio


# What it sends.


async def test_what_was_never_delivered_is_sent_and_nothing_else(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        fine = await it.event()
        await it.until(fine, endpoint, lambda found: found["state"] == "delivered")
        failing_times(shop, 4)
        missed = [await it.event() for _ in range(2)]
        await it.exhausted(missed, endpoint)
        shop.answers = [says(200, webhook_delivery="abort")]
        aborted = await it.event()
        await it.until(aborted, endpoint, lambda found: found["state"] == "aborted")
        owed = [*missed, aborted]
        assert await it.count(endpoint) == 3
        before = len(shop.got)
        ended = await it.replayed(endpoint)
        assert (ended["state"], ended["total"], ended["owed"], ended["only"]) == ("finished", 3, 3, "undelivered")
        assert sorted(ids(shop)[before:]) == sorted(owed)
        for event in owed:
            delivery = await it.delivery(event, endpoint)
            assert (delivery["state"], delivery["attempts"][-1]["number"]) == ("delivered", delivery["attempt_count"])
        assert await it.count(endpoint) == 0
        assert (await it.replayed(endpoint))["owed"] == 0
        assert len(shop.got) == before + 3


async def test_all_sends_what_the_endpoint_wants_today_also_what_it_was_never_owed(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as shop, receiver() as late:
        early = await it.client.subscribe(shop.url, events=QUEUED)
        job: dict[str, Any] = {"inputs": {"image": {"url": "http://127.0.0.1:9/none.jpg"}}}
        wanted = []
        for channels, product in ((["store-7"], "1"), (["store-8"], "1"), (["store-7"], "2"), ([], "1")):
            metadata = {"product_id": product}
            _, made = await it.client.submit("vanceai/enlarge3", channels=channels, metadata=metadata, **job)
            (event,) = [entry for entry in await it.client.events(made["id"]) if entry["type"] == "job.queued"]
            wanted.append(event["id"])
        chosen: dict[str, Any] = {"channels": ["store-7"], "filter": {"data.metadata.product_id": "1"}}
        new = await it.client.subscribe(late.url, events=QUEUED, **chosen)
        assert await it.count(new) == 0, "it was never owed any of them"
        assert await it.count(new, only="all") == 1
        ended = await it.replayed(new, only="all")
        assert (ended["total"], ended["owed"]) == (1, 1)
        assert ids(late) == wanted[:1]
        # By its terms of today: what it had yesterday and does not want any more is left out.
        await shop.wait_for(4)
        for event in wanted:
            await it.until(event, early, lambda found: found["state"] == "delivered")
        await it.client.call("PATCH", f"/v1/endpoints/{early['id']}", json={"channels": ["store-8"]})
        assert (await it.replayed(early, only="all"))["owed"] == 1
        assert ids(shop)[4:] == [wanted[1]]


async def test_an_endpoint_is_never_told_of_itself(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as bad, receiver() as other:
        failing_times(bad, 2)
        endpoint = await it.client.subscribe(bad.url)
        event = await it.event()
        await it.exhausted([event], endpoint)
        bad.answers = [says(410)] * 20
        await it.event()
        async with asyncio.timeout(PATIENCE):
            while (await it.endpoint(endpoint))["state"] != "disabled":
                pass
        bad.answers = []
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        await it.replayed(endpoint, only="all")
        types = {entry.event["type"] for entry in bad.got if entry.event["data"].get("id", "")[:3] != "job"}
        assert types == set()
        # Somebody else is.
        watcher = await it.client.subscribe(other.url, events=["delivery.*", "endpoint.*"])
        assert (await it.replayed(watcher, only="all"))["owed"] == 2
        assert {entry.event["type"] for entry in other.got} == {"delivery.exhausted", "endpoint.disabled"}


async def test_both_ends_of_the_range_belong_to_it(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as late:
        times, made = [], []
        for _ in range(4):
            it.clock.leap(HOUR)
            times.append(it.clock.now())
            made.append(await it.event())
        it.clock.leap(HOUR)
        endpoint = await it.client.subscribe(late.url, events=QUEUED)

        async def between(since: int, until: int | None = None) -> int:
            ends = {} if until is None else {"until": rfc3339(until)}
            return await it.count(endpoint, only="all", since=rfc3339(since), **ends)

        assert await between(times[1], times[2]) == 2
        assert await between(times[1] + 1, times[2]) == 1
        assert await between(times[1] + 1, times[2] - 1) == 0
        assert await between(times[2]) == 2
        assert await between(times[0], it.clock.now() + 100 * HOUR) == 4
        shifted = rfc3339(times[1] + 2 * HOUR).replace("Z", "+02:00")
        assert await it.count(endpoint, only="all", since=shifted) == 3
        ended = await it.replayed(endpoint, only="all", since=rfc3339(times[1]), until=rfc3339(times[2]))
        assert (at(ended["since"]), at(ended["until"])) == (times[1], times[2])
        assert sorted(ids(late)) == sorted(made[1:3])


# How it goes.


async def test_live_events_go_before_those_that_are_replayed(tmp_path: Path) -> None:
    gate = Gate()
    async with replay_rig(tmp_path) as it, receiver() as shop:
        old = await it.log(30)
        shop.answers = [gate]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=1)
        made = await it.replay(endpoint, only="all")
        await gate.holds(1)
        async with asyncio.timeout(PATIENCE):
            while it.stand.wirephoto.site.deliver.pending < 30:
                await it.look(made)
        live = await it.log(5)
        gate.opened.set()
        await it.settled(made)
        assert ids(shop)[1:6] == live
        assert sorted(ids(shop)) == sorted([*old, *live])


async def test_a_long_replay_is_a_short_queue_and_sends_each_once(tmp_path: Path) -> None:
    gate = Gate()
    async with replay_rig(tmp_path) as it, receiver() as shop:
        old = await it.log(450)
        shop.answers = [gate]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=1)
        made = await it.replay(endpoint, only="all")
        assert made["total"] == 450
        await gate.holds(1)
        async with asyncio.timeout(PATIENCE):
            while (found := await it.look(made))["owed"] < replay.MOST_UNSETTLED:
                pass
        it.clock.leap(replay.PAUSE_MS + 1)
        await it.log(1)
        found = await it.look(made)
        assert (found["owed"], found["pending"]) == (replay.MOST_UNSETTLED, replay.MOST_UNSETTLED)
        gate.opened.set()
        assert (await it.settled(made))["owed"] == 450
        await shop.wait_for(451)
        assert sorted(set(ids(shop)) & set(old)) == sorted(old)
        assert len(shop.got) == 451


async def test_what_is_owed_to_a_disabled_endpoint_is_held_and_the_rest_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST_UNSETTLED", 120)
    async with replay_rig(tmp_path) as it, receiver() as shop:
        old = await it.log(150)
        until = rfc3339(it.clock.now())
        it.clock.leap(HOUR)
        shop.answers = [says(410)]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        first = await it.event()
        await it.until(first, endpoint, lambda found: found["state"] == "held")
        made = await it.replay(endpoint, only="all", until=until)
        async with asyncio.timeout(PATIENCE):
            while (found := await it.look(made))["owed"] < 100:
                pass
        assert (found["state"], found["pending"]) == ("running", 100)
        assert (await it.delivery(old[0], endpoint))["state"] == "held"
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        assert (await it.settled(made))["owed"] == 150
        await shop.wait_for(152)
        assert sorted(ids(shop)) == sorted([first, first, *old])


async def test_a_replay_goes_on_after_a_stop_and_repeats_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate = ManualClock(), Gate()
    monkeypatch.setattr(replay, "PAGE", 10)
    monkeypatch.setattr(replay, "MOST_UNSETTLED", 20)
    async with receiver() as shop:
        async with replay_rig(tmp_path, clock) as it:
            old = await it.log(55)
            endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=1)
            shop.answers = [*[says(204)] * 15, *[gate] * 1000]
            made = await it.replay(endpoint, only="all")
            await gate.holds(1)
            gate.opened.set()
            shop.answers = []
        async with replay_rig(tmp_path, clock) as it:
            assert (await it.settled(made))["owed"] == 55
            for event in old:
                assert (await it.delivery(event, endpoint))["attempt_count"] == 1
        assert set(ids(shop)) == set(old)


async def test_a_store_that_is_away_and_a_fault_of_ours_only_delay_it(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        faulty_store(tmp_path / "data") as store,
        replay_rig(tmp_path, clock, database=store) as it,
        receiver() as shop,
    ):
        old = await it.log(3)
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        for fault in (away, bug):
            before = len(shop.got)
            struck = store.fails("replay.step", 2, fault=fault)
            made = await it.replay(endpoint, only="all")
            async with asyncio.timeout(PATIENCE):
                while (await it.look(made))["state"] == "running":
                    await it.clock.advance(1_000)
            assert struck.count == 2
            await it.settled(made)
            assert sorted(ids(shop)[before:]) == sorted(old)
        assert (await it.client.call("GET", "/readyz"))[0] == 200


async def test_a_canceled_replay_owes_nothing_more(tmp_path: Path) -> None:
    gate = Gate()
    async with replay_rig(tmp_path) as it, receiver() as shop:
        old = await it.log(350)
        shop.answers = [gate]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=1)
        made = await it.replay(endpoint, only="all")
        await gate.holds(1)
        async with asyncio.timeout(PATIENCE):
            while (await it.look(made))["owed"] < replay.MOST_UNSETTLED:
                pass
        # Another one of the same endpoint would only stand in its way.
        status, problem = await it.client.call(
            "POST", f"/v1/endpoints/{endpoint['id']}/replay", json={"since": LONG_AGO}
        )
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:replay_running")
        assert made["id"] in problem["detail"]
        path = f"/v1/replays/{made['id']}/cancel"
        for _ in range(2):
            status, ended = await it.client.call("POST", path)
            assert (status, ended["state"], ended["owed"]) == (200, "canceled", replay.MOST_UNSETTLED)
        gate.opened.set()
        assert (await it.settled(made))["owed"] == replay.MOST_UNSETTLED
        await shop.wait_for(replay.MOST_UNSETTLED)
        assert sorted(ids(shop)) == sorted(old[: replay.MOST_UNSETTLED])
        again = await it.replayed(endpoint, only="all")
        assert (again["state"], again["owed"]) == ("finished", 350)
        status, problem = await it.client.call("POST", f"/v1/replays/{again['id']}/cancel")
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:replay_ended")


async def test_a_client_that_comes_for_its_deliveries_is_handed_live_ones_first(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it:
        old = await it.log(3)
        endpoint = await made_stream(it.client, max_in_flight=1)
        made = await it.replay(endpoint, only="all")
        async with asyncio.timeout(PATIENCE):
            while (await it.look(made))["owed"] < 3 or it.stand.wirephoto.site.deliver.pending:
                pass
        live = await it.log(2)
        async with listening(it.client, endpoint) as listener:
            got = []
            for _ in range(5):
                handed = await listener.take()
                got.append(handed["headers"]["webhook-id"])
                assert (await listener.answer(handed))[0] == 200
            assert got == [*live, *old]
            assert (await it.settled(made))["owed"] == 3
            delivery = await it.delivery(live[0], endpoint)
            assert (await it.client.call("POST", f"/v1/deliveries/{delivery['id']}/redeliver"))[0] == 202
            handed = await listener.take()
            assert (handed["headers"]["webhook-id"], handed["attempt"]) == (live[0], 2)


async def test_a_replay_ends_with_its_endpoint(tmp_path: Path) -> None:
    gate = Gate()
    async with replay_rig(tmp_path) as it, receiver() as shop:
        await it.log(250)
        shop.answers = [gate] * 1000
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=1)
        made = await it.replay(endpoint, only="all")
        await gate.holds(1)
        assert (await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}"))[0] == 204
        ended = await it.settled(made)
        assert (ended["state"], ended["pending"]) == ("canceled", 0)
        _, page = await it.client.call("GET", f"/v1/replays?endpoint={endpoint['id']}")
        assert page["data"] == [ended]
        gate.opened.set()


# What is asked.


async def test_a_dry_run_sends_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as shop:
        await it.log(3)
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        assert await it.replay(endpoint, only="all", dry_run=True) == {"count": 3, "dry_run": True}
        for path in ("/v1/replays", f"/v1/deliveries?endpoint={endpoint['id']}"):
            assert (await it.client.call("GET", path))[1]["data"] == []
        assert shop.got == []


@pytest.mark.parametrize(
    ("body", "faulty"),
    [
        ({}, {"since"}),
        ({"since": "yesterday", "until": 7, "only": "some", "dry_run": "yes", "more": 1},
         {"since", "until", "only", "dry_run", "more"}),
        ({"since": "2025-08-01"}, {"since"}),
        ({"since": "2025-08-01T12:00:00"}, {"since"}),
        ({"since": "9999-12-31T23:59:59-23:59"}, {"since"}),
        ({"since": "2025-08-02T00:00:00Z", "until": "2025-08-01T00:00:00Z"}, {"since"}),
        ({"since": None}, {"since"}),
    ],
)  # fmt: skip
async def test_all_that_is_faulty_is_told_at_once(tmp_path: Path, body: dict[str, Any], faulty: set[str]) -> None:
    async with replay_rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url)
        status, problem = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/replay", json=body)
        assert (status, fields(problem)) == (422, faulty)


async def test_whoever_asks_for_more_than_is_kept_is_told_where_the_log_begins(tmp_path: Path) -> None:
    day = 24 * HOUR
    async with replay_rig(tmp_path, event_retention_days=1) as it, receiver() as late:
        gone = await it.event()
        it.clock.leap(day)
        (kept,) = await it.log(1)
        began = rfc3339(it.clock.now())
        async with asyncio.timeout(PATIENCE):
            while (await it.client.call("GET", f"/v1/events/{gone}"))[0] == 200:
                it.clock.leap(300_001)
                await it.clock.advance(2_000)
        endpoint = await it.client.subscribe(late.url, events=QUEUED)
        told = await it.replay(endpoint, only="all", dry_run=True)
        (event,) = [entry for entry in await it.client.events() if entry["id"] == kept]
        assert told["count"] == 1
        assert told["oldest"]["sequence"] <= event["sequence"]
        made = await it.replay(endpoint, only="all")
        assert made["oldest"] == told["oldest"]
        assert "oldest" not in await it.replay(endpoint, only="all", since=began, dry_run=True)
        assert (await it.settled(made))["owed"] == 1


async def test_another_projects_replays_do_not_exist(tmp_path: Path) -> None:
    async with replay_rig(tmp_path) as it, receiver() as shop:
        await it.log(2)
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        made = await it.replayed(endpoint, only="all")
        stranger = ReplayRig(await tenant(it.stand), it.clock)
        for method, path in (
            ("POST", f"/v1/endpoints/{endpoint['id']}/replay"),
            ("GET", f"/v1/replays/{made['id']}"),
            ("POST", f"/v1/replays/{made['id']}/cancel"),
            ("GET", f"/v1/endpoints/{endpoint['id']}/stats"),
        ):
            status, _ = await stranger.client.call(method, path, json={"since": LONG_AGO} if "/ep_" in path else None)
            assert status == 404, path
        for path in ("/v1/replays", f"/v1/replays?endpoint={endpoint['id']}"):
            assert (await stranger.client.call("GET", path))[1]["data"] == []
        # Nor does its log hold anything of ours.
        own = await stranger.client.subscribe(shop.url, events=QUEUED)
        assert await stranger.count(own, only="all") == 0


async def test_a_replay_is_forgotten_with_what_it_sent(tmp_path: Path) -> None:
    day = 24 * HOUR
    async with replay_rig(tmp_path, event_retention_days=1) as it, receiver() as shop:
        await it.log(2)
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        made = await it.replayed(endpoint, only="all")
        await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}")
        it.clock.leap(day)
        await it.log(1, EventType.JOB_CANCELED)
        async with asyncio.timeout(PATIENCE):
            while (await it.client.call("GET", f"/v1/replays/{made['id']}"))[0] == 200:
                it.clock.leap(300_001)
                await it.clock.advance(2_000)
