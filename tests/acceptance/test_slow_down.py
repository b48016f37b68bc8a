"""A receiver that asks for time gets it, whatever happens meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.delivery_rig import QUEUED, Gate, Rig, rig, says
from tests.harness import Receiver, receiver

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
