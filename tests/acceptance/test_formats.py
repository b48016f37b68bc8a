"""Each endpoint gets an event in the form it asked for; the bytes sent are the bytes signed, whatever the form."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from handlers import standardwebhooks
from schemas.event import EventType
from tests.acceptance.delivery_rig import QUEUED, rig
from tests.acceptance.helpers import CUTOUT, ENLARGE, done
from tests.described import FORMATS
from tests.harness import Client, Received, Stand, receiver

pytestmark = pytest.mark.anyio


async def published(client: Client, form: str) -> dict[str, dict[str, Any]]:
    _, page = await client.call("GET", "/v1/event-types")
    assert {entry["type"] for entry in page["data"]} == set(EventType)
    return {entry["type"]: entry["formats"][form] for entry in page["data"]}


def keeps(schema: Mapping[str, Any], body: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def read(got: Received) -> BaseCloudEvent:
    """By the SDK of CloudEvents' own makers, which refuses what the specification forbids."""
    return from_http_event(HTTPMessage(dict(got.headers), got.body))


async def test_cloudevents_are_read_by_their_own_sdk(it: Stand, photo: Path) -> None:
    async with receiver() as shop, receiver() as plain:
        endpoint = await it.client.subscribe(shop.url, format="cloudevents")
        await it.client.subscribe(plain.url)
        types = await published(it.client, "cloudevents")
        job = await done(it.client, ENLARGE, photo)
        await shop.wait_for(3)
        sent = {entry.event["id"]: entry.event for entry in await plain.wait_for(3)}
        orders = []
        for got in shop.got:
            event, standard = read(got), sent[got.headers["webhook-id"]]
            assert got.headers["content-type"] == types[standard["type"]]["content_type"]
            assert got.headers["content-type"] == "application/cloudevents+json"
            assert event.get_id() == standard["id"]
            assert event.get_type() == f"wirephoto.{standard['type']}"
            assert event.get_time() == datetime.fromisoformat(standard["timestamp"])
            assert event.get_subject() == standard["data"]["id"] == job["id"]
            assert event.get_datacontenttype() == "application/json"
            assert event.get_data() == standard["data"]
            assert event.get_source().startswith("urn:wirephoto:")
            order = event.get_extension("sequence")
            assert int(order) == standard["sequence"]
            orders.append(order)
            got.verified(endpoint["secret"])
            keeps(types[standard["type"]]["schema"], json.loads(got.body))
        # Texts that compare as their numbers do, within a source that is one project's alone.
        assert len({read(got).get_source() for got in shop.got}) == 1
        assert sorted(orders) == sorted(orders, key=int)


async def test_flat_events_are_one_level_scalars_first_with_links_and_no_pictures(it: Stand, photo: Path) -> None:
    async with receiver() as tool:
        endpoint = await it.client.subscribe(tool.url, format="flat", events=["job.succeeded", "job.failed"])
        types = await published(it.client, "flat")
        job = await done(it.client, CUTOUT, photo, metadata={"product_id": "8411"}, channels=["a", "b"])
        failed = await done(it.client, ENLARGE, None, inputs={"image": {"url": it.vanceai.base_url}})
        flat = {got.event["job_id"]: got for got in await tool.wait_for(2)}
        for got in flat.values():
            event = got.verified(endpoint["secret"])
            assert got.headers["content-type"] == "application/json"
            keeps(types[event["type"]]["schema"], event)
            nested = [isinstance(value, list | dict) for value in event.values()]
            assert nested == sorted(nested), "scalars come first"
            assert [name for name, value in event.items() if isinstance(value, list | dict)] == ["outputs"]
        good, bad = flat[job["id"]].event, flat[failed["id"]].event
        by_name = {output["name"]: output for output in job["outputs"]}
        for name in ("image", "mask"):
            for part in ("url", "width", "height", "content_type", "bytes", "sha256", "asset"):
                assert good[f"{name}_{part}"] == by_name[name][part]
        assert (good["state"], good["metadata_product_id"], good["channels"]) == ("succeeded", "8411", "a, b")
        assert good["error_class"] is None
        assert (bad["error_class"], bad["error_code"]) == (failed["error"]["class"], failed["error"]["code"])
        # The same names, whatever became of the job: who maps fields by a sample finds them again.
        assert {name for name in bad if not name.startswith("input_")} <= set(good)
        assert bad["image_url"] is None


@pytest.mark.parametrize("form", ["flat", "cloudevents"])
async def test_every_type_has_a_sample_in_each_form_that_keeps_its_schema(it: Stand, form: str) -> None:
    for name, written in (await published(it.client, form)).items():
        keeps(written["schema"], written["sample"])
        told = written["sample"]["type"].removeprefix("wirephoto.")
        assert told == name
        for other in set(EventType) - {name}:
            wrong = {**written["sample"], "type": written["sample"]["type"].replace(name, other)}
            assert not jsonschema.Draft202012Validator(written["schema"]).is_valid(wrong)


async def test_a_test_message_comes_in_the_endpoints_form_with_its_signatures(it: Stand) -> None:
    async with receiver() as shop:
        for form in ("standard", "flat", "cloudevents"):
            endpoint = await it.client.subscribe(shop.url, format=form, signatures=["v1", "v1a"])
            _, told = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/test")
            assert told["delivered"]
            got = shop.got[-1]
            assert got.verified(endpoint["secret"])["type"].removeprefix("wirephoto.") == "endpoint.test"
            assert len(got.headers["webhook-signature"].split(" ")) == 2
            assert got.headers["content-type"].startswith("application/cloudevents" if form == "cloudevents" else "app")


async def test_another_form_is_taken_up_with_the_next_attempt(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        first = await it.event()
        await it.tried(first, endpoint, 1)
        status, changed = await it.client.call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"format": "flat"})
        assert (status, changed["format"]) == (200, "flat")
        second = await it.event()
        await it.tried(second, endpoint, 1)
        assert ["data" in got.event for got in shop.got] == [True, False]
        assert [got.headers["webhook-id"] for got in shop.got] == [first, second]
        for got in shop.got:
            standardwebhooks.verify(endpoint["secret"], got.headers, got.body, it.clock.now() // 1000)
