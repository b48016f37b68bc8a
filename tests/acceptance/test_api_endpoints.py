"""Endpoints, events and deliveries: who subscribed to what, what they were owed, and what came of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.acceptance.made import ENLARGE, fields, leaving_nothing, queue
from tests.harness import PATIENCE, Stand, receiver, stand

pytestmark = pytest.mark.anyio


async def done(it: Stand, photos: Path, **job: Any) -> dict[str, Any]:
    status, body = await it.client.submit(ENLARGE, photos / "cat.jpg", headers={"Prefer": "wait=20"}, **job)
    assert (status, body["state"]) == (200, "succeeded"), body
    made: dict[str, Any] = body
    return made


async def delivered(it: Stand, endpoint: str, count: int) -> list[dict[str, Any]]:
    """The endpoint's deliveries, once `count` of them are settled in the ledger."""
    # The attempt is written down after the receiver has answered; each read sees all that was committed before it.
    async with asyncio.timeout(PATIENCE):
        while True:
            _, page = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint}&state=delivered")
            if len(page["data"]) >= count:
                settled: list[dict[str, Any]] = page["data"]
                return settled


async def test_an_endpoint_is_made_with_a_secret_that_no_later_answer_repeats(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        wanted = {
            "url": "https://shop.example/hooks/1?token=abc",
            "events": ["job.succeeded", "endpoint.*"],
            "channels": ["store-7"],
            "description": "the shop",
            "max_in_flight": 3,
        }
        status, made, headers = await it.client.call_full(
            "POST", "/v1/endpoints", json={**wanted, "headers": {"X-Shop": "a-secret-value"}}
        )
        assert status == 201
        assert headers["Location"] == f"/v1/endpoints/{made['id']}"
        assert {name: made[name] for name in wanted} == wanted
        assert (made["state"], made["headers"], made["signatures"]) == ("enabled", ["X-Shop"], ["v1"])
        secret = made.pop("secret")
        assert secret.startswith("whsec_")
        path = f"/v1/endpoints/{made['id']}"
        assert await it.client.call("GET", path) == (200, made)
        _, listed = await it.client.call("GET", "/v1/endpoints")
        assert listed["data"] == [made]
        assert await it.client.call("GET", f"{path}/secret") == (200, {"secret": secret})
        _, other = await it.client.call("POST", "/v1/endpoints", json={"url": "https://shop.example/"})
        assert other["secret"] != secret
        assert other["events"] == ["*"]


async def test_all_faults_of_an_endpoint_are_told_at_once(tmp_path: Path) -> None:
    async with stand(tmp_path, allow_networks=[]) as it:
        status, problem = await it.client.call(
            "POST",
            "/v1/endpoints",
            json={
                "url": "ftp://shop.example/",
                "events": ["job.done"],
                "headers": {"webhook-signature": "v1,forged"},
                "max_in_flight": 0,
                "surprise": 1,
            },
        )
        assert status == 422
        named = {field.split(".")[0] for field in fields(problem)}
        assert named == {"url", "events", "headers", "max_in_flight", "surprise"}
        for headers in (
            {"Host": "a"},
            {"Content-Length": "1"},
            {"Transfer-Encoding": "chunked"},
            {"Webhook-Id": "1"},
            {"X-A": "b\r\nX-C: d"},
            {"X A": "b"},
            {"X-A": "ü"},
        ):
            status, _ = await it.client.call(
                "POST", "/v1/endpoints", json={"url": "https://shop.example/", "headers": headers}
            )
            assert status == 422, headers
        for url in (
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://10.1.2.3/",
            "http://169.254.169.254/latest/meta-data",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "https://user:password@shop.example/",
            "https://shop.example:0/",
            "https:///nowhere",
            "http://localhost/",
        ):
            status, problem = await it.client.call("POST", "/v1/endpoints", json={"url": url})
            assert (status, fields(problem)) == (422, {"url"}), url
        assert (await it.client.call("GET", "/v1/endpoints"))[1]["data"] == []


async def test_a_patch_changes_what_it_names_and_takes_effect_for_the_next_delivery(
    tmp_path: Path, photos: Path
) -> None:
    async with stand(tmp_path) as it, receiver() as before, receiver() as after:
        endpoint = await it.client.subscribe(before.url, events=["job.succeeded"], headers={"X-Shop": "7"})
        secret = endpoint.pop("secret")
        await done(it, photos)
        (first,) = await before.wait_for(1)
        assert first.headers["x-shop"] == "7"
        path = f"/v1/endpoints/{endpoint['id']}"
        status, changed = await it.client.call(
            "PATCH", path, json={"url": after.url, "headers": {"X-Shop": "8"}, "description": "moved"}
        )
        assert status == 200
        assert {**changed, "updated_at": endpoint["updated_at"]} == {
            **endpoint,
            "url": after.url,
            "description": "moved",
        }
        await done(it, photos)
        (second,) = await after.wait_for(1)
        assert second.headers["x-shop"] == "8"
        assert second.verified(secret)["type"] == "job.succeeded", "the secret stays"
        assert len(before.got) == 1
        for body, field in (({"url": None}, "url"), ({"events": []}, "events"), ({"kind": "shopify"}, "kind")):
            status, problem = await it.client.call("PATCH", path, json=body)
            assert (status, fields(problem)) == (422, {field})
        assert await it.client.call("PATCH", path, json={}) == (200, (await it.client.call("GET", path))[1])


async def test_the_values_of_headers_are_never_taken_along_to_another_host(it: Stand) -> None:
    """Who may change an endpoint may not read them: he must not have them sent to a server of his own."""
    endpoint = await it.client.subscribe("https://shop.example/hooks", headers={"Authorization": "Bearer of-the-shop"})
    path = f"/v1/endpoints/{endpoint['id']}"
    for url in ("https://elsewhere.example/hooks", "http://shop.example/hooks", "https://shop.example:8443/hooks"):
        status, problem = await it.client.call("PATCH", path, json={"url": url})
        assert (status, fields(problem)) == (422, {"headers"}), url
    for body in (
        {"url": "https://SHOP.example:443/other"},
        {"url": "https://elsewhere.example/hooks", "headers": {}},
        {"url": "https://shop.example/hooks"},
    ):
        status, changed = await it.client.call("PATCH", path, json=body)
        assert (status, changed["url"]) == (200, body["url"])


async def test_a_patch_to_a_private_address_is_refused(tmp_path: Path) -> None:
    async with stand(tmp_path, allow_networks=[]) as it:
        endpoint = await it.client.subscribe("https://shop.example/")
        path = f"/v1/endpoints/{endpoint['id']}"
        status, problem = await it.client.call("PATCH", path, json={"url": "http://127.0.0.1/"})
        assert (status, fields(problem)) == (422, {"url"})
        assert (await it.client.call("GET", path))[1]["url"] == "https://shop.example/"


async def test_a_deleted_endpoint_is_gone_and_gets_nothing_more(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop, receiver() as other:
        endpoint = await it.client.subscribe(shop.url)
        await it.client.subscribe(other.url)
        path = f"/v1/endpoints/{endpoint['id']}"
        assert await it.client.call("DELETE", path) == (204, None)
        for method, tail in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("GET", "/secret"), ("POST", "/test")):
            body: dict[str, Any] = {"json": {}} if method == "PATCH" else {}
            status, _ = await it.client.call(method, path + tail, **body)
            assert status == 404, (method, tail)
        job = await done(it, photos)
        await other.event_of(job["id"], "job.succeeded")
        assert shop.got == []


async def test_paging_goes_on_after_the_endpoint_or_key_a_page_ended_with_is_gone(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        for path, body in (("/v1/endpoints", {"url": "https://shop.example/"}), ("/v1/keys", {"role": "read"})):
            made = [(await it.client.call("POST", path, json=body))[1]["id"] for _ in range(3)]
            _, first = await it.client.call("GET", f"{path}?limit=200")
            there = [entry["id"] for entry in first["data"]]
            assert there[-3:] == made
            _, page = await it.client.call("GET", f"{path}?limit={len(there) - 2}")
            assert page["data"][-1]["id"] == made[0]
            await it.client.call("DELETE", f"{path}/{made[0]}")
            _, rest = await it.client.call("GET", f"{path}?after={page['next']}")
            assert [entry["id"] for entry in rest["data"]] == made[1:]
            assert rest["next"] is None


async def test_a_test_shot_is_signed_and_tells_what_the_receiver_said(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, headers={"X-Shop": "7"})
        path = f"/v1/endpoints/{endpoint['id']}/test"
        status, told = await it.client.call("POST", path)
        assert (status, told["delivered"], told["status"], told["error"]) == (200, True, 204, None)
        (got,) = shop.got
        sent = got.verified(endpoint["secret"])
        assert (sent["type"], sent["id"], got.headers["webhook-id"]) == ("endpoint.test", told["event"], told["event"])
        assert sent["data"]["id"] == endpoint["id"]
        assert endpoint["secret"] not in got.body.decode()
        assert got.headers["x-shop"] == "7"
        shop.answers.append(web.Response(status=500, text="out of order"))
        status, told = await it.client.call("POST", path)
        assert (status, told["delivered"], told["status"], told["response_head"]) == (200, False, 500, "out of order")
        await it.client.call(
            "PATCH", f"/v1/endpoints/{endpoint['id']}", json={"url": "http://127.0.0.1:1/", "headers": {}}
        )
        status, told = await it.client.call("POST", path)
        assert (status, told["delivered"], told["status"]) == (200, False, None)
        assert told["error"].startswith("connect")
        assert await it.client.events() == [], "a test is no event"


async def test_an_endpoint_gets_the_events_and_channels_it_asked_for(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as every, receiver() as ends, receiver() as store, receiver() as last:
        await it.client.subscribe(every.url, events=["job.*"])
        await it.client.subscribe(ends.url, events=["job.succeeded", "job.failed"])
        await it.client.subscribe(store.url, channels=["store-7", "store-8"])
        await it.client.subscribe(last.url)
        await done(it, photos)
        await done(it, photos, channels=["store-8", "elsewhere"])
        await last.wait_for(6)
        for shop, types in (
            (every, ["job.queued", "job.submitted", "job.succeeded"] * 2),
            (ends, ["job.succeeded"] * 2),
            (store, ["job.queued", "job.submitted", "job.succeeded"]),
        ):
            await shop.wait_for(len(types))
            assert sorted(entry.event["type"] for entry in shop.got) == sorted(types)
        assert {"elsewhere"} & {name for entry in store.got for name in entry.event["data"]["channels"]}


async def test_the_log_of_events_is_ordered_whole_and_can_be_followed_by_its_cursor(
    tmp_path: Path, photos: Path
) -> None:
    async with stand(tmp_path) as it:
        first = await done(it, photos)
        await done(it, photos)
        _, page = await it.client.call("GET", "/v1/events")
        assert [event["sequence"] for event in page["data"]] == [1, 2, 3, 4, 5, 6]
        assert page["next"] is None
        walked, path = [], "/v1/events?limit=4"
        while True:
            _, part = await it.client.call("GET", path)
            walked += part["data"]
            if part["next"] is None:
                break
            path = f"/v1/events?limit=4&after={part['next']}"
        assert walked == page["data"]
        _, chosen = await it.client.call("GET", "/v1/events?type=job.succeeded")
        assert [event["sequence"] for event in chosen["data"]] == [3, 6]
        _, after = await it.client.call("GET", "/v1/events?type=job.succeeded&after=3")
        assert [event["sequence"] for event in after["data"]] == [6]
        event = page["data"][2]
        assert set(event) == {"id", "type", "timestamp", "sequence", "data"}
        assert event["data"] == first, "the event says what the job says"


async def test_an_event_shows_to_whom_it_went_and_a_delivery_every_attempt(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path, retry_schedule=[0.01]) as it, receiver() as shop:
        job = await done(it, photos)
        (unheard,) = [event for event in await it.client.events(job["id"]) if event["type"] == "job.succeeded"]
        _, shown = await it.client.call("GET", f"/v1/events/{unheard['id']}")
        assert (shown["status"], shown["deliveries"]) == ("delivered", []), "nobody was owed anything"

        endpoint = await it.client.subscribe(shop.url, events=["job.succeeded"])
        shop.answers.append(web.Response(status=500, text="é" * 2000))
        job = await done(it, photos)
        await shop.wait_for(2)
        (delivery,) = await delivered(it, endpoint["id"], 1)
        sent = shop.got[0].verified(endpoint["secret"])
        assert sent["data"] == job
        assert shop.got[1].body == shop.got[0].body
        assert shop.got[1].headers["webhook-id"] == shop.got[0].headers["webhook-id"] == delivery["event"]
        _, whole = await it.client.call("GET", f"/v1/deliveries/{delivery['id']}")
        _, shown = await it.client.call("GET", f"/v1/events/{sent['id']}")
        ledger = [{**delivery, "last_attempt": whole["attempts"][-1]}]
        assert (shown["status"], shown["deliveries"]) == ("delivered", ledger)
        assert {name: shown[name] for name in sent} == sent
        assert (whole["state"], whole["attempt_count"], whole["endpoint"]) == ("delivered", 2, endpoint["id"])
        failed, succeeded = whole["attempts"]
        assert (failed["number"], failed["status"], failed["outcome"]) == (1, 500, "retry")
        assert failed["response_head"].startswith("é" * 500)
        assert len(failed["response_head"].encode()) <= 1024
        assert (succeeded["number"], succeeded["status"], succeeded["outcome"]) == (2, 204, "delivered")
        for query, count in (
            (f"event={sent['id']}", 1),
            (f"event={unheard['id']}", 0),
            (f"endpoint={endpoint['id']}&state=delivered", 1),
            ("state=pending", 0),
        ):
            _, page = await it.client.call("GET", f"/v1/deliveries?{query}")
            assert len(page["data"]) == count, query


async def test_a_receiver_that_is_owed_something_is_told_as_pending_then_as_undelivered(tmp_path: Path) -> None:
    async with stand(tmp_path, retry_schedule=[3600]) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=["job.queued"])
        shop.answers.append(web.Response(status=503))
        await queue(it)
        await shop.wait_for(1)
        (event,) = [event for event in await it.client.events() if event["type"] == "job.queued"]
        _, shown = await it.client.call("GET", f"/v1/events/{event['id']}")
        assert shown["status"] == "pending"
        await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}")
        _, shown = await it.client.call("GET", f"/v1/events/{event['id']}")
        assert shown["status"] == "undelivered"
        assert [entry["state"] for entry in shown["deliveries"]] == ["discarded"]


async def test_a_job_may_not_call_back_into_the_private_network(tmp_path: Path) -> None:
    async with stand(tmp_path, allow_networks=[]) as it, leaving_nothing(it):
        status, problem = await it.client.submit(
            ENLARGE, inputs={"image": {"url": "https://shop.example/a.jpg"}}, webhook="http://192.168.0.1/admin"
        )
        assert (status, fields(problem)) == (422, {"webhook"})
