"""A subscriber's filter, through the door: what it lets through, what it refuses to be, and how it is changed."""

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.delivery_rig import Rig, rig
from tests.acceptance.helpers import ENLARGE
from tests.acceptance.made import fields
from tests.harness import Stand, receiver

pytestmark = pytest.mark.anyio

ALL = ["job.queued"]


async def job(it: Rig, **metadata: str) -> str:
    """A job that says so; its id."""
    _, made = await it.client.submit(ENLARGE, inputs={"image": {"url": "http://127.0.0.1:9/no.jpg"}}, metadata=metadata)
    return str(made["id"])


async def owed(it: Rig, endpoint: dict[str, Any]) -> set[str]:
    """The jobs whose events it is owed, or was: by the ledger, which stands with the 202."""
    _, listed = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}")
    by_event = {event["id"]: event["data"]["id"] for event in await it.client.events()}
    return {by_event[delivery["event"]] for delivery in listed["data"]}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"data.metadata.shop": "7"}, [0]),
        ({"data.metadata.shop": ["7", "8"]}, [0, 1]),
        ({"data.metadata.price": {"gt": "2", "lt": "5"}}, [1]),
        ({"data.metadata.shop": {"prefix": "n"}}, [2]),
        ({"data.metadata.shop": {"exists": False}}, [3]),
        ({"data.metadata.price": {"exists": True}, "data.vendor": "vanceai"}, [0, 1]),
        ({"data.metadata.price": 1}, []),
        ({"data.metadata.price": {"gt": 0}}, []),
        ({"data.nothing.there": "7"}, []),
    ],
)
async def test_only_what_holds_is_sent(tmp_path: Path, chosen: dict[str, Any], expected: list[int]) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=ALL, filter=chosen)
        assert endpoint["filter"] == chosen
        jobs = [
            await job(it, shop="7", price="1"),
            await job(it, shop="8", price="3"),
            await job(it, shop="none"),
            await job(it, other="7"),
        ]
        assert await owed(it, endpoint) == {jobs[number] for number in expected}


async def test_a_filter_that_is_none_names_every_fault_and_nothing_is_made(it: Stand) -> None:
    faulty = {"vendor": "vanceai", "data.a": {"regex": ".", "gt": True}, "data..b": 1, "data.c": []}
    body = {"url": "https://shop.example/", "filter": faulty}
    status, problem = await it.client.call("POST", "/v1/endpoints", json=body)
    assert (status, fields(problem)) == (422, {"filter"})
    (fault,) = problem["errors"]
    for words in (
        "'vendor': begins with",
        "unknown condition 'regex'",
        "gt takes",
        "'data..b': is no path",
        "'data.c'",
    ):
        assert words in fault["reason"]
    assert (await it.client.call("GET", "/v1/endpoints"))[1]["data"] == []


async def test_another_filter_holds_from_the_next_event_on_and_an_empty_one_lets_all_through(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=ALL, filter={"data.metadata.shop": "7"})
        path = f"/v1/endpoints/{endpoint['id']}"
        first = [await job(it, shop="7"), await job(it, shop="8")]
        wrong: tuple[Any, ...] = ({"shop": "7"}, None, "data.vendor", [])
        for faulty in wrong:
            status, problem = await it.client.call("PATCH", path, json={"filter": faulty})
            assert (status, fields(problem)) == (422, {"filter"}), faulty
        status, changed = await it.client.call("PATCH", path, json={"filter": {"data.metadata.shop": "8"}})
        assert (status, changed["filter"]) == (200, {"data.metadata.shop": "8"})
        second = [await job(it, shop="7"), await job(it, shop="8")]
        # A change of something else leaves it as it is.
        await it.client.call("PATCH", path, json={"description": "new"})
        third = [await job(it, shop="7"), await job(it, shop="8")]
        await it.client.call("PATCH", path, json={"filter": {}})
        last = await job(it, shop="9")
        wanted = {first[0], second[1], third[1], last}
        assert await owed(it, endpoint) == wanted
        assert {got.event["data"]["id"] for got in await shop.wait_for(4)} == wanted
