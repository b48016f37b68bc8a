"""Our Zapier app, run by Zapier's own platform against the running service: from the first connection to the 410."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.acceptance.helpers import ENLARGE, done
from tests.acceptance.test_api_tenants import with_role
from tests.harness import API_KEY, PATIENCE, Stand
from tests.integrations.zapier_rig import Zapier, zapier

pytestmark = pytest.mark.anyio

OTHER = "picwish/segmentation"


@pytest.fixture
async def zap(tmp_path: Path) -> AsyncIterator[Zapier]:
    async with zapier(tmp_path) as it:
        yield it


async def subscribed(zap: Zapier, trigger: str, **input_data: Any) -> dict[str, Any]:
    hook: dict[str, Any] = await zap.run(
        f"triggers.{trigger}.performSubscribe", targetUrl=zap.catch.url, inputData=input_data
    )
    return hook


# --- connecting -------------------------------------------------------------------------------------------------------


async def test_an_account_is_tried_and_labelled_so_that_its_owner_knows_it_again(zap: Zapier) -> None:
    me = await zap.run("authentication.test")
    assert (me["project"]["name"], me["key"]["role"]) == ("default", "admin")
    host = zap.it.client.url.removeprefix("http://")
    assert await zap.run("authentication.connectionLabel", inputData=me) == f"default at {host} (first key)"
    typed = {"base_url": f" {zap.it.client.url}/v1/ ", "api_key": API_KEY}
    assert (await zap.run("authentication.test", authData=typed))["key"] == me["key"], "as people paste addresses"


async def test_a_connection_that_can_not_work_says_why(zap: Zapier) -> None:
    reader = await with_role(zap.it, "read")
    for auth, code, says in (
        ({"base_url": zap.it.client.url, "api_key": "wp_nobody"}, "AuthenticationError", "does not know this API key"),
        ({"base_url": zap.it.client.url, "api_key": reader.client.key}, "AuthenticationError", "may only read"),
        ({"base_url": "photos.example", "api_key": API_KEY}, "AuthenticationError", "is no address"),
        ({"base_url": "ftp://photos.example", "api_key": API_KEY}, "AuthenticationError", "https://"),
        ({"base_url": "http://127.0.0.1:1", "api_key": API_KEY}, "unreachable", "No Wirephoto can be reached"),
    ):
        said = await zap.refused("authentication.test", authData=auth)
        assert (said["code"], says in said["message"]) == (code, True), said
        assert auth["api_key"] not in said["message"]


async def test_what_is_no_wirephoto_is_called_so(zap: Zapier) -> None:
    zap.catch.answers = [web.Response(status=404, text="<html>nothing here</html>")]
    there = {"base_url": zap.catch.url, "api_key": API_KEY}
    said = await zap.refused("authentication.test", authData=there)
    assert said["message"] == "The server at this address answered 404; is it a Wirephoto?"
    zap.catch.answers = [web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})]
    await zap.refused("authentication.test", authData=there)
    assert len(zap.catch.got) == 2, "a key is never taken along to another address"


# --- triggers ---------------------------------------------------------------------------------------------------------


async def test_from_switching_a_zap_on_to_the_410_after_it_is_switched_off(zap: Zapier, photo: Path) -> None:
    hook = await subscribed(zap, "job_succeeded")
    assert await zap.it.client.call("GET", f"/v1/hooks/{hook['id']}") == (200, hook)
    job = await done(zap.it.client, ENLARGE, photo, metadata={"product_id": "8411"})
    (got,) = await zap.catch.wait_for(1)
    _, secret = await zap.it.client.call("GET", f"/v1/endpoints/{hook['id']}/secret")
    sent = got.verified(secret["secret"])
    (event,) = await zap.run("triggers.job_succeeded.perform", cleanedRequest=sent)
    assert event == sent
    assert (event["job_id"], event["metadata_product_id"]) == (job["id"], "8411")
    status, bytes_, _ = await zap.it.client.call_full("GET", event["image_url"], key="")
    assert (status, len(bytes_)) == (200, event["image_bytes"]), "a link that a later step can fetch"
    assert await zap.run("triggers.job_succeeded.performList") == [sent], "what the editor shows is what comes"

    await zap.run("triggers.job_succeeded.performUnsubscribe", subscribeData=hook)
    assert (await zap.it.client.call("GET", f"/v1/hooks/{hook['id']}"))[0] == 404
    await zap.run("triggers.job_succeeded.performUnsubscribe", subscribeData=hook)
    await done(zap.it.client, ENLARGE, photo)
    assert len(zap.catch.got) == 1

    # A Zap that was deleted while we could not be reached never unsubscribes: its goodbye is the 410.
    left = await subscribed(zap, "job_succeeded")
    zap.catch.answers = [web.Response(status=410)]
    await done(zap.it.client, ENLARGE, photo)
    await zap.catch.wait_for(2)
    await until_gone(zap.it, left["id"])
    await done(zap.it.client, ENLARGE, photo)
    assert len(zap.catch.got) == 2, "a hook that is gone gets nothing more"


async def until_gone(it: Stand, hook: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await it.client.call("GET", f"/v1/hooks/{hook}"))[0] != 404:
            pass


async def test_a_failed_job_triggers_with_its_reason(zap: Zapier) -> None:
    await subscribed(zap, "job_failed")
    no_picture = {"image": {"url": f"{zap.it.client.url}/openapi.json"}}
    _, job = await zap.it.client.submit(ENLARGE, inputs=no_picture)
    (got,) = await zap.catch.wait_for(1)
    (event,) = await zap.run("triggers.job_failed.perform", cleanedRequest=got.event)
    assert (event["job_id"], event["error_class"], event["image_url"]) == (job["id"], "input", None)
    assert event["error_message"]
    assert [entry["id"] for entry in await zap.run("triggers.job_failed.performList")] == [event["id"]]


async def test_a_trigger_for_one_operation_and_metadata_gets_and_shows_only_those(zap: Zapier, photo: Path) -> None:
    wanted = {"operation": ENLARGE, "metadata": {"shop": "north"}}
    await subscribed(zap, "job_succeeded", **wanted)
    assert await zap.run("triggers.job_succeeded.performList", inputData=wanted) == [], "a made sample fits no filter"
    await done(zap.it.client, ENLARGE, photo, metadata={"shop": "south"})
    await done(zap.it.client, OTHER, photo, metadata={"shop": "north"})
    job = await done(zap.it.client, ENLARGE, photo, metadata={"shop": "north", "shelf": "7"})
    (got,) = await zap.catch.wait_for(1)
    assert got.event["job_id"] == job["id"]
    assert await zap.run("triggers.job_succeeded.performList", inputData=wanted) == [got.event]


async def test_any_event_triggers_with_the_types_that_were_chosen(zap: Zapier, photo: Path) -> None:
    types = {entry["id"]: entry["label"] for entry in await zap.run("triggers.event_type.perform")}
    assert {"*", "job.*", "job.queued", "endpoint.disabled", "vendor.credits_low"} <= set(types)
    chosen = {"events": ["job.queued", "job.succeeded"]}
    hook = await subscribed(zap, "event", **chosen)
    assert hook["events"] == chosen["events"]
    await done(zap.it.client, ENLARGE, photo)
    got = [entry.event for entry in await zap.catch.wait_for(2)]
    for event in got:
        assert await zap.run("triggers.event.perform", cleanedRequest=event, inputData=chosen) == [event]
    newest_first = sorted(got, key=lambda event: -event["sequence"])
    assert await zap.run("triggers.event.performList", inputData=chosen) == newest_first
    assert (await subscribed(zap, "event"))["events"] == ["job.*"]


async def test_what_has_never_happened_is_shown_by_samples_with_ids_of_their_own(zap: Zapier) -> None:
    listed = await zap.run("triggers.event.performList", inputData={"events": ["*"]})
    assert {"job.queued", "job.succeeded", "endpoint.disabled"} <= {entry["type"] for entry in listed}
    assert len({entry["id"] for entry in listed}) == len(listed), "Zapier takes two with one id for one event"


async def test_a_test_message_starts_no_zap(zap: Zapier) -> None:
    hook = await subscribed(zap, "event", events=["*"])
    assert (await zap.it.client.call("POST", f"/v1/endpoints/{hook['id']}/test"))[0] == 200
    (got,) = await zap.catch.wait_for(1)
    assert got.event["type"] == "endpoint.test"
    for trigger in ("job_succeeded", "job_failed", "event"):
        assert await zap.run(f"triggers.{trigger}.perform", cleanedRequest=got.event) == []
