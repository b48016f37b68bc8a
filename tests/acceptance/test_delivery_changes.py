"""Deliveries while the world changes: endpoints are edited, the process ends, addresses close, keys are rotated."""

import asyncio
import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from handlers import standardwebhooks
from service.pipeline.retry import HOUR
from service.security.vault import WrongKey
from service.store import endpoints
from tests.acceptance.delivery_rig import FAILS, QUEUED, Gate, failing, rig, says
from tests.acceptance.helpers import ENLARGE, done, small
from tests.clock import ManualClock
from tests.harness import API_KEY, PATIENCE, receiver, stand
from tests.store.rows import run
from tests.stores import SlowLook, stolen, store_for

pytestmark = pytest.mark.anyio

# Endpoints that change while something waits for them.


async def test_a_deleted_endpoint_gets_nothing_more_and_the_ledger_says_so(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as slow, receiver() as bad:
        slow.answers = [gate] * FAILS
        failing(bad)
        queue = await it.client.subscribe(slow.url, events=QUEUED, max_in_flight=1)
        retried = await it.client.subscribe(bad.url, events=QUEUED)
        made = [await it.event() for _ in range(3)]
        await gate.holds(1)
        for event in made:
            await it.tried(event, retried, 1)
        deliveries = [(await it.delivery(event, which))["id"] for event in made for which in (queue, retried)]
        for endpoint in (queue, retried):
            assert (await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}"))[0] == 204
        tries = len(bad.got)
        gate.opened.set()
        it.clock.leap(100 * HOUR)
        await it.event()
        states = {(await it.client.call("GET", f"/v1/deliveries/{one}"))[1]["state"] for one in deliveries}
        assert states == {"discarded"}
        assert (len(slow.got), len(bad.got)) == (1, tries)


async def test_what_waits_for_an_endpoint_goes_to_its_new_address(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as old, receiver() as new:
        old.answers = [gate] * FAILS
        endpoint = await it.client.subscribe(old.url, events=QUEUED, max_in_flight=1)
        made = [await it.event() for _ in range(4)]
        await gate.holds(1)
        status, _ = await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": new.url})
        assert status == 200
        gate.opened.set()
        got = await new.wait_for(3)
        assert sorted(entry.event["id"] for entry in [*old.got, *got]) == sorted(made)
        for entry in got:
            now = int(entry.headers["webhook-timestamp"])
            standardwebhooks.verify(endpoint["secret"], entry.headers, entry.body, now)


async def test_a_retry_goes_to_the_new_address_with_the_same_id(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as old, receiver() as new:
        failing(old)
        endpoint = await it.client.subscribe(old.url, events=QUEUED)
        event = await it.event()
        delivery = await it.tried(event, endpoint, 1)
        await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": new.url, "headers": {"X-A": "1"}})
        it.pass_until(delivery["next_attempt_at"])
        (got,) = await new.wait_for(1)
        assert (got.headers["webhook-id"], got.headers["x-a"]) == (event, "1")
        assert len(old.got) == 1


@pytest.mark.parametrize("change", ["PATCH", "DELETE"])
async def test_an_endpoint_that_changes_while_it_is_looked_up_is_looked_up_again(tmp_path: Path, change: str) -> None:
    async with rig(tmp_path) as it, receiver() as old, receiver() as new:
        endpoint = await it.client.subscribe(old.url, events=QUEUED)
        core = it.stand.wirephoto.core
        slow = SlowLook(core.db, endpoints.by_row)
        core.db = slow
        event = await it.event()
        async with asyncio.timeout(PATIENCE):
            await slow.looked.wait()
        status, _ = await it.client.call(change, f"/v1/endpoints/{endpoint['id']}", json={"url": new.url})
        assert status in (200, 204)
        slow.go_on.set()
        if change == "PATCH":
            assert (await new.wait_for(1))[0].event["id"] == event
        else:
            await it.client.subscribe(new.url, events=QUEUED)
            await it.event()
            await new.wait_for(1)
        assert old.got == []


# Restarts.


async def test_what_was_pending_at_a_stop_is_sent_after_the_next_start(tmp_path: Path) -> None:
    clock = ManualClock()
    async with receiver() as flaky:
        failing(flaky)
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(flaky.url, events=QUEUED)
            event = await it.event()
            delivery = await it.tried(event, endpoint, 1)
        flaky.answers = []
        async with rig(tmp_path, clock) as it:
            assert len(flaky.got) == 1, "not before its time"
            it.pass_until(delivery["next_attempt_at"])
            await flaky.wait_for(2)
            done_ = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
            assert done_["attempt_count"] == 2
        assert {got.headers["webhook-id"] for got in flaky.got} == {event}


async def test_what_a_killed_process_held_is_sent_at_once_even_if_the_clock_was_set_back(tmp_path: Path) -> None:
    clock = ManualClock()
    async with receiver() as flaky:
        failing(flaky)
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(flaky.url, events=QUEUED)
            event = await it.event()
            await it.tried(event, endpoint, 1)
        flaky.answers = []
        # As a kill leaves it: the node not ended, its heart an hour ahead of us, the delivery in its hands.
        store = store_for(tmp_path / "data")
        await store.open()
        held = {"beat": clock.now() + HOUR}
        await store.write(run, "UPDATE nodes SET ended_at = NULL, beat_at = :beat", held)
        await store.write(
            run, "UPDATE deliveries SET node = (SELECT MAX(id) FROM nodes), due_at = NULL, retry_at = NULL", {}
        )
        await store.close()
        async with rig(tmp_path, clock) as it:
            await flaky.wait_for(2)
            await it.until(event, endpoint, lambda found: found["state"] == "delivered")


# Addresses.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_refused_and_the_attempt_says_so(tmp_path: Path, host: str) -> None:
    clock = ManualClock()
    async with receiver() as inner:
        url = inner.url.replace("127.0.0.1", host)
        async with rig(tmp_path, clock) as it:
            endpoint = await it.client.subscribe(url, events=QUEUED)
        async with rig(tmp_path, clock, allow_networks=[], allow_source_networks=[]) as it:
            status, problem = await it.client.call("POST", "/v1/endpoints", json={"url": url})
            assert status == 422, problem
            status, job = await it.client.submit(ENLARGE, inputs={"image": {"url": "https://pictures.invalid/a.jpg"}})
            assert status == 202, job
            (event,) = await it.client.events(job["id"])
            delivery = await it.tried(event["id"], endpoint, 1)
            assert delivery["state"] == "pending"
            assert delivery["attempts"][0]["error"].startswith("refused_address: ")
        assert inner.got == []


async def test_a_receiver_that_is_not_there_is_tried_again_and_its_secret_path_stays_secret(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with rig(tmp_path) as it:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/hook/never-shown?key=never-shown"
            endpoint = await it.client.subscribe(url, events=QUEUED)
            delivery = await it.tried(await it.event(), endpoint, 1)
            assert delivery["state"] == "pending"
            assert delivery["attempts"][0]["error"].startswith("connect: ")
            assert "never-shown" not in str(delivery)


# Secrets at rest.


async def test_no_secret_lies_in_the_store_in_plain_text(tmp_path: Path, photos: Path) -> None:
    async with receiver() as good:
        async with stand(tmp_path / "data") as it:
            endpoint = await it.client.subscribe(good.url, headers={"Authorization": "Bearer of-the-endpoint"})
            _, own = await it.client.call("GET", "/v1/webhook-secret")
            _, made = await it.client.call("POST", "/v1/keys", json={"role": "read"})
            job = await done(it.client, ENLARGE, small(photos, tmp_path), webhook=good.url)
            assert job["state"] == "succeeded"
            hooks = [seen.fields["webhook"] for seen in it.vanceai.requests if "webhook" in seen.fields]
            token = hooks[0].rpartition("/")[2]
            assert len(token) > 30
            vendor_keys = [it.vanceai.key, it.picwish.key]
        secrets = [
            API_KEY,
            endpoint["secret"],
            endpoint["secret"].removeprefix("whsec_"),
            own["secret"].removeprefix("whsec_"),
            made["api_key"],
            token,
            "of-the-endpoint",
            *vendor_keys,
        ]
        raw = stolen(tmp_path / "data")
        assert job["id"].encode() in raw
        for secret in secrets:
            assert secret.encode() not in raw, secret[:6]


async def test_a_key_that_sealed_something_is_asked_for_until_all_is_sealed_anew(tmp_path: Path) -> None:
    old, new = SecretStr("old" * 12), SecretStr("new" * 12)
    async with receiver() as good:
        async with rig(tmp_path, secret_key=old) as it:
            endpoint = await it.client.subscribe(good.url, events=QUEUED)
        async with rig(tmp_path, secret_key=new, secret_keys_old=[old]) as it:
            event = await it.event()
            (got,) = await good.wait_for(1)
            assert got.event["id"] == event
            stamp = int(got.headers["webhook-timestamp"])
            standardwebhooks.verify(endpoint["secret"], got.headers, got.body, stamp)
            await it.client.subscribe(good.url, events=QUEUED)
        # Either key alone would leave subscribers without their deliveries.
        for alone in (new, old, SecretStr("another" * 6)):
            with pytest.raises(WrongKey):
                async with rig(tmp_path, secret_key=alone):
                    pass
        async with rig(tmp_path, secret_key=new, secret_keys_old=[old]) as it:
            await it.event()
            await good.wait_for(3)


async def test_an_endpoint_that_was_gone_gets_all_that_was_held_once_it_is_enabled(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(410)]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=1)
        made = [await it.event()]
        await it.until(made[0], endpoint, lambda found: found["state"] == "held")
        made += [await it.event(), await it.event()]
        for event in made[1:]:
            await it.until(event, endpoint, lambda found: found["state"] == "held")
        status, enabled = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        assert (status, enabled["state"], enabled["disabled_reason"]) == (200, "enabled", None)
        for event in made:
            await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert sorted(got.headers["webhook-id"] for got in shop.got) == sorted([*made, made[0]])
