"""What an event looks like is published, and every event keeps it: those that are sent, and the samples."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiohttp import web

from schemas.event import EventType
from tests.acceptance.helpers import CUTOUT, ENLARGE
from tests.acceptance.made import queue
from tests.described import FORMATS
from tests.harness import Client, Receiver, receiver, stand

pytestmark = pytest.mark.anyio

# Those that the service has an occasion for today, but for those of vendors: test_account_trouble.py.
SENT = {
    "job.queued",
    "job.submitted",
    "job.succeeded",
    "job.failed",
    "job.canceled",
    "endpoint.disabled",
    "delivery.exhausted",
}


async def published(client: Client) -> dict[str, dict[str, Any]]:
    status, page = await client.call("GET", "/v1/event-types")
    assert (status, page["next"]) == (200, None)
    return {entry["type"]: entry for entry in page["data"]}


def keeps(schema: dict[str, Any], event: dict[str, Any]) -> None:
    """The event keeps its published schema, and says nothing that the schema does not speak of."""
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(event)
    (about,) = (name for name in schema["$defs"] if name in ("Job", "Endpoint", "Delivery", "VendorStatus"))
    assert set(event) == set(schema["$defs"]["Event"]["properties"])
    assert set(event["data"]) == set(schema["$defs"][about]["properties"])


async def test_every_type_is_published_with_a_schema_and_a_sample_that_keeps_it(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        types = await published(it.client)
        assert set(types) == set(EventType)
        for name, entry in types.items():
            assert entry["schema"]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
            jsonschema.Draft202012Validator.check_schema(entry["schema"])
            assert entry["sample"]["type"] == name
            assert entry["description"]
            keeps(entry["schema"], entry["sample"])


async def test_a_schema_refuses_what_is_no_event_of_its_type(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        types = await published(it.client)
    succeeded = jsonschema.Draft202012Validator(types["job.succeeded"]["schema"], format_checker=FORMATS)
    sample = types["job.succeeded"]["sample"]
    for wrong in (
        types["job.failed"]["sample"],
        {**sample, "timestamp": "yesterday"},
        {**sample, "sequence": "1"},
        {**sample, "data": {**sample["data"], "state": "running"}},
        {name: value for name, value in sample.items() if name != "id"},
        {**sample, "data": {name: value for name, value in sample["data"].items() if name != "billing"}},
    ):
        assert not succeeded.is_valid(wrong), wrong


async def test_every_event_that_is_sent_keeps_its_published_schema(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, retry_schedule=[0.01]) as it, receiver() as all_of_them, receiver() as bad:
        types = await published(it.client)
        await it.client.subscribe(all_of_them.url)
        waiting = {"Prefer": "wait=20"}
        _, job = await it.client.submit(ENLARGE, photo, headers=waiting, metadata={"a": "b"}, channels=["store-7"])
        await it.client.submit(CUTOUT, photo, headers=waiting)
        await it.client.submit(ENLARGE, inputs={"image": {"job": job["id"], "output": "image"}}, headers=waiting)
        await it.client.submit(ENLARGE, inputs={"image": {"url": it.vanceai.base_url}}, headers=waiting)
        # One that is never delivered, then one that disables its endpoint.
        bad.answers = [web.Response(status=500), web.Response(status=500), web.Response(status=410)]
        await it.client.subscribe(bad.url, events=["job.canceled"])
        for after in ("delivery.exhausted", "endpoint.disabled"):
            stuck = await queue(it)
            await it.client.call("POST", f"/v1/jobs/{stuck['id']}/cancel")
            await all_of_them.wait_for(1, after)
        log = await it.client.events()
        assert {event["type"] for event in log} == SENT
        await _all_there(all_of_them, log)
        for event in [*log, *(entry.event for entry in all_of_them.got)]:
            keeps(types[event["type"]]["schema"], event)


async def _all_there(there: Receiver, log: list[dict[str, Any]]) -> None:
    wanted = {event["id"] for event in log}
    await there.until(lambda: wanted <= {entry.event["id"] for entry in there.got})
