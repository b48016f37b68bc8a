"""A paused endpoint gets nothing and loses nothing; what was disabled for a reason is not served by chance."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.delivery_rig import FAILS, QUEUED, Gate, Rig, failing, rig, says
from tests.harness import PATIENCE, Receiver, receiver

pytestmark = pytest.mark.anyio

HOUR = 3_600_000


async def turn(it: Rig, endpoint: dict[str, Any], verb: str) -> tuple[int, Any]:
    return await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/{verb}")


def ids(it: Receiver) -> list[str]:
    return [got.headers["webhook-id"] for got in it.got]


async def test_what_a_paused_endpoint_is_owed_is_held_and_flows_oldest_first_when_it_is_resumed(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=1)
        for _ in range(2):
            status, paused = await turn(it, endpoint, "pause")
            assert (status, paused["state"]) == (200, "paused"), "twice is as once"
        made = [await it.event() for _ in range(6)]
        for event in made:
            delivery = await it.delivery(event, endpoint)
            assert (delivery["state"], delivery["attempt_count"]) == ("held", 0)
        it.clock.leap(100 * HOUR)
        assert shop.got == []
        for _ in range(2):
            status, resumed = await turn(it, endpoint, "resume")
            assert (status, resumed["state"]) == (200, "enabled")
        await shop.wait_for(6)
        assert ids(shop) == made


async def test_an_attempt_under_way_counts_though_its_endpoint_is_paused_meanwhile(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as slow:
        slow.answers = [gate]
        endpoint = await it.client.subscribe(slow.url, events=QUEUED, max_in_flight=1)
        under_way, waiting = await it.event(), await it.event()
        await gate.holds(1)
        assert (await turn(it, endpoint, "pause"))[0] == 200
        assert (await it.delivery(waiting, endpoint))["state"] == "held"
        gate.opened.set()
        await it.until(under_way, endpoint, lambda found: found["state"] == "delivered")
        await it.clock.advance(1000)
        assert ids(slow) == [under_way]
        await turn(it, endpoint, "resume")
        await slow.wait_for(2)
        assert ids(slow) == [under_way, waiting]


async def test_an_attempt_that_fails_while_its_endpoint_is_paused_is_made_again_after_it(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as slow:

        async def no(request: Any) -> Any:
            await gate(request)
            return await says(500)(request)

        slow.answers = [no]
        endpoint = await it.client.subscribe(slow.url, events=QUEUED)
        event = await it.event()
        await gate.holds(1)
        await turn(it, endpoint, "pause")
        gate.opened.set()
        tried = await it.tried(event, endpoint, 1)
        assert (tried["state"], tried["next_attempt_at"]) == ("held", None)
        it.clock.leap(HOUR)
        await turn(it, endpoint, "resume")
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")


async def test_a_retry_that_is_due_while_its_endpoint_is_paused_waits(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as flaky:
        failing(flaky)
        endpoint = await it.client.subscribe(flaky.url, events=QUEUED)
        event = await it.event()
        await it.tried(event, endpoint, 1)
        await turn(it, endpoint, "pause")
        await it.clock.advance(10_000)
        assert (await it.delivery(event, endpoint))["state"] == "held"
        flaky.answers = []
        await turn(it, endpoint, "resume")
        found = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert found["attempt_count"] == 2


async def test_a_paused_endpoint_can_be_changed_and_tested(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as old, receiver() as new:
        endpoint = await it.client.subscribe(old.url, events=QUEUED)
        await turn(it, endpoint, "pause")
        event = await it.event()
        status, changed = await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": new.url})
        assert (status, changed["state"]) == (200, "paused")
        assert (await turn(it, endpoint, "test"))[1]["delivered"]
        assert (await it.delivery(event, endpoint))["state"] == "held"
        await turn(it, endpoint, "resume")
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert (old.got, len(new.got)) == ([], 2)


async def test_what_was_disabled_is_served_again_by_enable_alone(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as gone:
        gone.answers = [says(410)]
        endpoint = await it.client.subscribe(gone.url, events=QUEUED)
        event = await it.event()
        await it.until(event, endpoint, lambda found: found["state"] == "held")
        for verb in ("pause", "resume"):
            status, problem = await turn(it, endpoint, verb)
            assert (status, problem["type"]) == (409, "urn:wirephoto:problem:endpoint_disabled")
        assert (await it.endpoint(endpoint))["disabled_reason"] == "gone"
        assert (await turn(it, endpoint, "enable"))[0] == 200
        await it.until(event, endpoint, lambda found: found["state"] == "delivered")


async def test_a_paused_endpoint_of_which_an_attempt_said_410_is_disabled(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as gone:

        async def leaves(request: Any) -> Any:
            await gate(request)
            return await says(410)(request)

        gone.answers = [leaves]
        endpoint = await it.client.subscribe(gone.url, events=QUEUED)
        await it.event()
        await gate.holds(1)
        await turn(it, endpoint, "pause")
        gate.opened.set()
        async with asyncio.timeout(PATIENCE):
            while (await it.endpoint(endpoint))["state"] != "disabled":
                pass


async def test_events_that_are_written_while_an_endpoint_is_paused_and_resumed_all_arrive(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(204)] * FAILS
        endpoint = await it.client.subscribe(shop.url, events=QUEUED, max_in_flight=4)
        made: list[str] = []

        async def writes() -> None:
            made.extend([await it.event() for _ in range(5)])

        async def toggles() -> None:
            for _ in range(4):
                assert (await turn(it, endpoint, "pause"))[0] == 200
                assert (await turn(it, endpoint, "resume"))[0] == 200

        await asyncio.gather(*(writes() for _ in range(4)), toggles())
        async with asyncio.timeout(PATIENCE):
            while (await it.client.call("GET", "/v1/deliveries?state=pending"))[1]["data"]:
                await it.clock.settle()
        assert set(ids(shop)) == set(made)
        _, listed = await it.client.call("GET", "/v1/deliveries?limit=200")
        assert {entry["state"] for entry in listed["data"]} == {"delivered"}


async def test_of_two_attempts_at_once_the_ledger_counts_each_number_once(tmp_path: Path) -> None:
    """A pause and a resume have the same delivery sent while its first attempt is still under way."""
    first, third = Gate(), Gate()
    async with rig(tmp_path) as it, receiver() as slow:
        slow.answers = [first, says(500), third]
        endpoint = await it.client.subscribe(slow.url, events=QUEUED)
        event = await it.event()
        await first.holds(1)
        await turn(it, endpoint, "pause")
        await turn(it, endpoint, "resume")
        again = await it.tried(event, endpoint, 1)
        it.pass_until(again["next_attempt_at"])
        await third.holds(1)
        first.opened.set()
        await it.clock.settle()
        third.opened.set()
        found = await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        await it.clock.settle()
        found = await it.delivery(event, endpoint)
        assert [entry["number"] for entry in found["attempts"]] == [1, 2]
        assert found["attempt_count"] == 2
        _, told = await it.client.call("GET", f"/v1/events/{event}")
        assert [entry["id"] for entry in told["deliveries"]] == [found["id"]]
