"""REST hooks, as Zapier, n8n and Make use them: subscribe once, look, unsubscribe for ever, and see samples."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.event import EventType
from schemas.flat import flat
from tests.acceptance.delivery_rig import FAILS, failing, rig
from tests.acceptance.made import ENLARGE, fields, queue
from tests.acceptance.test_api_tenants import tenant, with_role
from tests.harness import Stand, receiver, stand

pytestmark = pytest.mark.anyio

SHOP = "https://flows.example/hooks/1"


async def subscribe(it: Stand, url: str, event: Any = "job.succeeded", **more: Any) -> dict[str, Any]:
    status, hook = await it.client.call("POST", "/v1/hooks", json={"hookUrl": url, "event": event, **more})
    assert status == 201, hook
    made: dict[str, Any] = hook
    return made


async def gone(it: Stand, hook: dict[str, Any]) -> bool:
    return bool((await it.client.call("GET", f"/v1/hooks/{hook['id']}"))[0] == 404)


async def done(it: Stand, photo: Path, **job: Any) -> dict[str, Any]:
    status, body = await it.client.submit(ENLARGE, photo, headers={"Prefer": "wait=20"}, **job)
    assert (status, body["state"]) == (200, "succeeded"), body
    made: dict[str, Any] = body
    return made


# --- subscribing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hookUrl", "target_url", "targetUrl", "url"])
async def test_each_tool_says_by_its_own_name_where_it_wants_to_be_called(tmp_path: Path, name: str) -> None:
    async with stand(tmp_path) as it:
        wanted = {name: SHOP, "event": "job.succeeded", "filter": None}
        status, hook, headers = await it.client.call_full("POST", "/v1/hooks", json=wanted)
        assert (status, headers["Location"]) == (201, f"/v1/hooks/{hook['id']}")
        assert (hook["hookUrl"], hook["events"], hook["filter"], hook["format"]) == (
            SHOP,
            ["job.succeeded"],
            {},
            "flat",
        )
        assert "secret" not in hook, "tools keep this answer where their users can read it"
        assert await it.client.call("GET", f"/v1/hooks/{hook['id']}") == (200, hook)
        assert (await it.client.call("GET", "/v1/hooks"))[1] == {"data": [hook], "next": None}


async def test_events_are_one_name_or_a_list_of_them(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        for sent, kept in (
            ({"event": "job.*"}, ["job.*"]),
            ({"events": "*"}, ["*"]),
            ({"event": ["job.failed", "endpoint.*"]}, ["job.failed", "endpoint.*"]),
            ({"events": ["job.progressed", "job.progressed"]}, ["job.progressed"]),
        ):
            _, hook = await it.client.call("POST", "/v1/hooks", json={"url": SHOP, **sent})
            assert hook["events"] == kept


async def test_all_that_is_wrong_with_a_subscription_is_told_by_the_names_that_it_was_sent_with(tmp_path: Path) -> None:
    async with stand(tmp_path, allow_networks=[]) as it:
        for body, wrong in (
            ({"target_url": SHOP, "event": "job.done"}, {"event"}),
            ({"target_url": SHOP, "events": ["job.failed", "job.done"]}, {"events.1"}),
            ({"target_url": SHOP, "events": []}, {"events"}),
            ({"target_url": SHOP, "events": 7}, {"events"}),
            ({"targetUrl": "ftp://a/", "event": "", "filter": {"x": 1}, "x": 1}, {"targetUrl", "event", "filter", "x"}),
            ({"targetUrl": "http://127.0.0.1/", "event": "*"}, {"targetUrl"}),
            ({"url": SHOP, "hookUrl": SHOP, "event": "*"}, {"url", "hookUrl"}),
            ({"url": SHOP, "event": "*", "events": "*"}, {"event", "events"}),
            ({"url": None, "event": None}, {"hookUrl", "events"}),
            ({"url": SHOP, "event": "*", "format": "xml"}, {"format"}),
            ([], {"body"}),
        ):  # fmt: skip
            status, problem = await it.client.call("POST", "/v1/hooks", json=body)
            assert (status, fields(problem)) == (422, wrong), body
        assert (await it.client.call("GET", "/v1/hooks"))[1]["data"] == []


async def test_the_same_subscription_again_is_the_same_hook(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        events = ["job.succeeded", "job.failed"]
        first = await subscribe(it, SHOP, events, filter={"data.vendor": "vanceai"})
        again = {"targetUrl": SHOP, "events": events[::-1], "filter": {"data.vendor": "vanceai"}, "format": "flat"}
        assert await it.client.call("POST", "/v1/hooks", json=again) == (200, first)
        changes: tuple[dict[str, Any], ...] = (
            {"targetUrl": f"{SHOP}2"},
            {"events": "job.failed"},
            {"filter": {}},
            {"format": "standard"},
        )
        for other in changes:
            status, hook = await it.client.call("POST", "/v1/hooks", json={**again, **other})
            assert (status, hook["id"] != first["id"]) == (201, True), other
        # Another project's is its own.
        stranger = await tenant(it)
        assert (await stranger.client.call("POST", "/v1/hooks", json=again))[0] == 201
        # And one that was given back is made anew.
        assert await it.client.call("DELETE", f"/v1/hooks/{first['id']}") == (204, None)
        status, hook = await it.client.call("POST", "/v1/hooks", json=again)
        assert (status, hook["id"] != first["id"]) == (201, True)


async def test_many_that_subscribe_to_the_same_at_once_make_one_hook(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        body = {"hookUrl": SHOP, "event": "job.*"}
        answers = await asyncio.gather(*(it.client.call("POST", "/v1/hooks", json=body) for _ in range(12)))
        assert sorted(status for status, _ in answers) == [200] * 11 + [201]
        assert len({hook["id"] for _, hook in answers}) == 1
        assert len((await it.client.call("GET", "/v1/hooks"))[1]["data"]) == 1


async def test_a_hook_is_an_endpoint_too(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        plain = await it.client.subscribe(SHOP, events=["job.*"])
        hook = await subscribe(it, SHOP, "job.*")
        _, listed = await it.client.call("GET", "/v1/endpoints")
        assert [(entry["id"], entry["hook"]) for entry in listed["data"]] == [(plain["id"], False), (hook["id"], True)]
        path = f"/v1/endpoints/{hook['id']}"
        _, shown = await it.client.call("PATCH", path, json={"rate_limit": {"requests": 30}, "description": "my zap"})
        assert (shown["hook"], shown["format"], shown["description"]) == (True, "flat", "my zap")
        status, same = await it.client.call("POST", "/v1/hooks", json={"url": SHOP, "event": "job.*"})
        assert (status, same["id"]) == (200, hook["id"])
        # A plain endpoint is no hook, whoever asks for it as one.
        assert (await it.client.call("GET", f"/v1/hooks/{plain['id']}"))[0] == 404
        assert (await it.client.call("DELETE", f"/v1/hooks/{plain['id']}"))[0] == 204
        assert (await it.client.call("GET", f"/v1/endpoints/{plain['id']}"))[0] == 200
        # Deleted here is deleted there.
        assert (await it.client.call("DELETE", path))[0] == 204
        assert await gone(it, hook)


async def test_a_hook_that_is_changed_is_found_by_what_it_subscribes_to_now(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        one, two = await subscribe(it, SHOP, "job.failed"), await subscribe(it, SHOP, "job.canceled")
        path = f"/v1/endpoints/{one['id']}"
        status, problem = await it.client.call("PATCH", path, json={"events": ["job.canceled"]})
        assert (status, fields(problem)) == (422, {"url"})
        assert two["id"] in problem["errors"][0]["reason"]
        assert (await it.client.call("PATCH", path, json={"events": ["job.failed"], "ordered": True}))[0] == 200
        assert (await it.client.call("PATCH", path, json={"events": ["job.*"]}))[0] == 200
        status, found = await it.client.call("POST", "/v1/hooks", json={"url": SHOP, "event": "job.*"})
        assert (status, found["id"]) == (200, one["id"])
        assert (await it.client.call("POST", "/v1/hooks", json={"url": SHOP, "event": "job.failed"}))[0] == 201


# --- deliveries -------------------------------------------------------------------------------------------------------


async def test_a_hook_gets_signed_flat_events_that_pass_its_filter(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path) as it, receiver() as there:
        hook = await subscribe(it, there.url, filter={"data.metadata.product_id": "8411"})
        await done(it, photo)
        job = await done(it, photo, metadata={"product_id": "8411"})
        (got,) = await there.wait_for(1)
        _, secret = await it.client.call("GET", f"/v1/endpoints/{hook['id']}/secret")
        sent = got.verified(secret["secret"])
        (event,) = [entry for entry in await it.client.events(job["id"]) if entry["type"] == "job.succeeded"]
        assert sent["id"] == event["id"] == got.headers["webhook-id"]


async def test_410_deletes_a_hook_and_the_ledger_says_so(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as there, receiver() as told:
        await it.client.subscribe(told.url, events=["endpoint.disabled"])
        hook = await subscribe(it.stand, there.url, "job.queued")
        there.answers = [web.Response(status=500), web.Response(status=410)]
        first = await it.event()
        kept = await it.tried(first, hook, 1)
        second = await it.event()
        (event,) = await told.wait_for(1)
        assert (event.event["data"]["id"], event.event["data"]["hook"]) == (hook["id"], True)
        assert (event.event["data"]["state"], event.event["data"]["disabled_reason"]) == ("disabled", "gone")
        assert await gone(it.stand, hook)
        assert (await it.client.call("GET", f"/v1/endpoints/{hook['id']}"))[0] == 404
        assert kept["state"] == "pending"
        for owed in (first, second):
            delivery = await it.delivery(owed, hook)
            assert (delivery["state"], delivery["next_attempt_at"]) == ("discarded", None), "what it was still owed"
        assert [attempt["status"] for attempt in (await it.delivery(second, hook))["attempts"]] == [410]
        await it.event()
        assert len(there.got) == 2, "nothing more is sent"
        # Who subscribes again gets what happens from now on.
        again = await subscribe(it.stand, there.url, "job.queued")
        assert again["id"] != hook["id"]
        third = await it.event()
        await it.until(third, again, lambda found: found["state"] == "delivered")


async def test_410_disables_an_endpoint_that_is_no_hook_and_deletes_none(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as there:
        plain = await it.client.subscribe(there.url, events=["job.queued"])
        there.answers = [web.Response(status=410)]
        event = await it.event()
        held = await it.until(event, plain, lambda found: found["attempt_count"] == 1)
        assert held["state"] == "held"
        assert (await it.endpoint(plain))["state"] == "disabled"


@pytest.mark.parametrize("status", [401, 404])
async def test_a_workflow_that_is_switched_off_for_a_while_keeps_its_hook(tmp_path: Path, status: int) -> None:
    """n8n answers 404 as long as a workflow is inactive."""
    async with rig(tmp_path) as it, receiver() as there:
        hook = await subscribe(it.stand, there.url, "job.queued")
        failing(there, status)
        event = await it.event()
        delivery = await it.tried(event, hook, 1)
        assert delivery["state"] == "pending"
        assert not await gone(it.stand, hook)
        there.answers = []
        it.pass_until(delivery["next_attempt_at"])
        await it.until(event, hook, lambda found: found["state"] == "delivered")


async def test_a_disabled_hook_that_is_subscribed_to_again_gets_what_was_held_for_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as there:
        hook = await subscribe(it.stand, there.url, "job.queued")
        there.answers = [web.Response(status=500, headers={"webhook-delivery": "disable"})]
        event = await it.event()
        held = await it.until(event, hook, lambda found: found["state"] == "held")
        assert held["attempt_count"] == 1
        _, shown = await it.client.call("GET", f"/v1/hooks/{hook['id']}")
        assert (shown["state"], shown["disabled_reason"]) == ("disabled", "gone"), "the word disables, and deletes not"
        status, again = await it.client.call("POST", "/v1/hooks", json={"url": there.url, "event": "job.queued"})
        assert (status, again) == (200, hook)
        await it.until(event, hook, lambda found: found["state"] == "delivered")


# --- unsubscribing ----------------------------------------------------------------------------------------------------


async def test_unsubscribing_always_succeeds_and_takes_only_ones_own(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        hook = await subscribe(it, SHOP)
        stranger = await tenant(it)
        path = f"/v1/hooks/{hook['id']}"
        assert await stranger.client.call("DELETE", path) == (204, None)
        assert not await gone(it, hook), "another tenant's stays"
        assert (await stranger.client.call("GET", path))[0] == 404
        assert (await stranger.client.call("GET", "/v1/hooks"))[1]["data"] == []
        for known in (path, path, "/v1/hooks/ep_0", "/v1/hooks/undefined"):
            assert await it.client.call("DELETE", known) == (204, None)
        assert await gone(it, hook)
        reader = await with_role(it, "read")
        for method, refused in (("POST", "/v1/hooks"), ("DELETE", path)):
            assert (await reader.client.call(method, refused, json={}))[0] == 403


async def test_what_a_hook_was_owed_is_discarded_with_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as there:
        hook = await subscribe(it.stand, there.url, "job.queued")
        failing(there)
        event = await it.event()
        await it.tried(event, hook, 1)
        assert (await it.client.call("DELETE", f"/v1/hooks/{hook['id']}"))[0] == 204
        assert (await it.delivery(event, hook))["state"] == "discarded"
        assert len(there.answers) == FAILS - 1


# --- samples ----------------------------------------------------------------------------------------------------------


async def samples(it: Stand, query: str) -> list[dict[str, Any]]:
    status, told = await it.client.call("GET", f"/v1/hooks/samples?{query}")
    assert status == 200, told
    assert isinstance(told, list)
    return told


async def test_samples_are_recent_events_newest_first_in_the_very_shape_that_a_hook_gets(
    tmp_path: Path, photo: Path
) -> None:
    async with stand(tmp_path) as it, receiver() as there:
        made = {
            form: await subscribe(it, f"{there.url}?{form}", format=form)
            for form in ("flat", "standard", "cloudevents")
        }
        jobs = [await done(it, photo) for _ in range(2)]
        await there.wait_for(2 * len(made))
        for form in made:
            sent = [got.event for got in there.got if got.path.endswith(form)]
            assert sorted(sent, key=str) == sorted(await samples(it, f"event=job.succeeded&format={form}"), key=str)
        log = {event["id"]: event for event in await it.client.events()}
        told = await samples(it, "event=job.succeeded")
        ends = [event for event in log.values() if event["type"] == "job.succeeded"]
        assert told == [flat(event) for event in reversed(ends)]
        assert [entry["id"] for entry in told] == [event["id"] for event in reversed(ends)]
        assert ends[-1]["data"]["id"] == jobs[-1]["id"]
        assert await samples(it, "event=job.succeeded&limit=1") == told[:1]
        some = await samples(it, "event=job.*&format=standard")
        assert some == sorted(log.values(), key=lambda event: -event["sequence"])


async def test_where_nothing_has_happened_yet_a_made_sample_shows_the_shape(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        _, kinds = await it.client.call("GET", "/v1/event-types")
        made = {kind["type"]: kind["sample"] for kind in kinds["data"]}
        for name in EventType:
            assert await samples(it, f"event={name}") == [flat(made[name])]
        assert [entry["type"] for entry in await samples(it, "event=job.*&limit=100")] == [
            name for name in EventType if name.startswith("job.") and name != "job.progressed"
        ]
        every = await samples(it, "event=*&limit=100")
        assert len({entry["id"] for entry in every}) == len(every) > 10, "Zapier refuses a list that has an id twice"
        await queue(it)
        stranger = await tenant(it)
        assert await samples(stranger, "event=job.queued") == [flat(made["job.queued"])], "no other tenant's"
        for query, wrong in (
            ("", {"event"}),
            ("event=job.done&limit=101&format=xml", {"event", "limit", "format"}),
            ("event=job.failed&limit=0", {"limit"}),
            ("event=job.failed&after=1", {"after"}),
        ):
            status, problem = await it.client.call("GET", f"/v1/hooks/samples?{query}")
            assert (status, fields(problem)) == (422, wrong)


# --- the key ----------------------------------------------------------------------------------------------------------


async def test_a_key_can_be_tried_and_tells_whose_it_is(tmp_path: Path) -> None:
    async with stand(tmp_path, public_url="https://photos.example") as it:
        reader = await with_role(it, "read")
        status, me = await reader.client.call("GET", "/v1/me")
        assert (status, me["base_url"]) == (200, "https://photos.example")
        assert (me["project"]["name"], me["key"]["role"], me["key"]["name"]) == ("default", "read", "only read")
        _, keys = await it.client.call("GET", "/v1/keys")
        _, health = await it.client.call("GET", "/openapi.json")
        assert me["key"]["id"] in {key["id"] for key in keys["data"]}
        assert me["version"]
        assert health["paths"]["/v1/me"]
        assert (await it.client.call("GET", "/v1/me", key="wp_nobody"))[0] == 401
        stranger = await tenant(it, "the bakery")
        _, other = await stranger.client.call("GET", "/v1/me")
        assert (other["project"]["name"], other["key"]["role"]) == ("the bakery", "admin")
        assert other["project"]["id"] != me["project"]["id"]
