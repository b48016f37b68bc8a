"""Every answer that the description tells of is given, in the form that it tells, and no other one is."""

import asyncio
import io
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import error
from schemas.stream import StreamAnswer
from service.pipeline.signing import MOST_OLD_SECRETS
from service.web.openapi.told import TOLD
from service.web.route import Route
from service.web.routes import ROUTES
from service.web.waiting import MOST_PER_PROJECT
from tests.acceptance.helpers import CUTOUT, ENLARGE, NEVER, play, reached, webhook_of
from tests.acceptance.made import form, hold_work, picture, queue
from tests.faulty_store import TroubledStore, away, bug, troubled_store
from tests.harness import PATIENCE, Client, Stand, receiver, stand
from tests.vendors.perfectcorp_by_hand import AT_ONCE

pytestmark = pytest.mark.anyio

# In an installation that has a token, in one where days have passed (test_retention.py), and what never ends by itself:
# streams have tests of their own (test_event_stream.py, test_stream_endpoint.py).
ELSEWHERE = {
    ("GET", "/metrics", 401),
    ("GET", "/v1/events", 410),
    *(("GET", "/v1/events/stream", status) for status in (200, 410, 429)),
    *(("GET", "/v1/endpoints/{id}/stream", status) for status in (200, 409, 429)),
    *(("POST", "/v1/endpoints/{id}/answers", status) for status in (200, 409)),
}
NOTHING = {
    "/v1/vendors/{vendor}": "/v1/vendors/nothing",
    "{vendor}": "vanceai",
    **{f"{{{name}}}": "nothing" for name in ("id", "name", "feature", "token")},
}


@asynccontextmanager
async def troubled_stand(folder: Path) -> AsyncIterator[tuple[Stand, TroubledStore]]:
    async with (
        PerfectCorpSandbox(AT_ONCE) as perfectcorp,
        troubled_store(folder) as store,
        stand(folder, database=store, max_upload_mb=2, perfectcorp=perfectcorp) as it,
    ):
        yield it, store


async def test_each_answer_that_is_told_of_is_given_and_no_other(tmp_path: Path, photo: Path) -> None:
    async with troubled_stand(tmp_path) as (it, store):
        client = it.client
        assert client.described is not None
        await _jobs(it, client, photo)
        await _callbacks(it, client, photo)
        await _assets(client)
        await _endpoints(it, client)
        await _hooks(client)
        await _tenants(client)
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/v1/event-types", "/v1/operations"):
            await client.call("GET", path)
        await _vendors(it, client)
        await client.call("GET", f"/v1/operations/{ENLARGE}")
        await _refusals(client)
        # To write down a fault takes long: a kept connection would be closed by the server just when it is used again.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as fresh:
            await _troubles(replace(client, http=fresh), store)
        assert client.described.told - client.described.seen == ELSEWHERE


async def test_metrics_are_refused_in_the_form_that_is_told(tmp_path: Path) -> None:
    async with stand(tmp_path, metrics_token=SecretStr("a-token-of-prometheus")) as it:
        assert (await it.client.call("GET", "/metrics", key=""))[0] == 401
        assert (await it.client.call("GET", "/metrics", key="a-token-of-prometheus"))[0] == 200


async def _jobs(it: Stand, client: Client, photo: Path) -> None:
    once = {"Idempotency-Key": secrets.token_hex(8)}
    waiting = {"Prefer": "wait=20"}
    status, job = await client.submit(ENLARGE, photo, headers={**once, **waiting}, metadata={"product_id": "8411"})
    assert (status, job["state"]) == (200, "succeeded")
    assert (await client.submit(ENLARGE, photo, headers=once))[0] == 409
    assert (await client.submit(CUTOUT, photo, headers=waiting))[0] == 200
    # Its input is another job's result; its picture can't be had, and so on: each way a job may look.
    await client.submit(ENLARGE, inputs={"image": {"job": job["id"]}}, headers=waiting)
    _, failed = await client.submit(ENLARGE, inputs={"image": {"url": it.vanceai.base_url}}, headers=waiting)
    assert failed["state"] == "failed"
    stuck = await queue(it)
    assert (await client.call("POST", f"/v1/jobs/{stuck['id']}/cancel"))[0] == 200
    assert (await client.call("POST", f"/v1/jobs/{job['id']}/cancel"))[0] == 409
    again = f"/v1/jobs/{failed['id']}/retry"
    assert (await client.call("POST", again, headers=once))[0] == 409, "the key was another request's"
    twice = {"Idempotency-Key": secrets.token_hex(8)}
    assert [(await client.call("POST", again, headers=twice))[0] for _ in range(2)] == [202, 200]
    for entry in (job, failed, stuck):
        await client.call("GET", f"/v1/jobs/{entry['id']}")
        await client.call("GET", f"/v1/jobs/{entry['id']}/timeline")
    await client.call("GET", "/v1/jobs?metadata.product_id=8411")
    _, page = await client.call("GET", "/v1/jobs?limit=2")
    assert page["next"]
    await client.call("GET", f"/v1/jobs?limit=2&after={page['next']}&state=succeeded&vendor=vanceai")
    status, _ = await client.call("POST", "/v1/jobs", data=form({"operation": "vanceai/enlarge9"}, image=picture()))
    assert status == 422
    _, log = await client.call("GET", "/v1/events?limit=200")
    assert {event["type"] for event in log["data"]} >= {"job.queued", "job.succeeded", "job.failed", "job.canceled"}
    await client.call("GET", f"/v1/events/{log['data'][0]['id']}")
    follow = f"/v1/events?after={log['data'][-1]['sequence'] + 1000}&wait=1"
    answers = await asyncio.gather(*(client.call("GET", follow) for _ in range(MOST_PER_PROJECT + 1)))
    assert {status for status, _ in answers} == {200, 429}


async def _callbacks(it: Stand, client: Client, photo: Path) -> None:
    done = hold_work(it)
    play(it.vanceai, webhook=NEVER)
    _, job = await client.submit(ENLARGE, photo)
    await reached(it.vanceai, "transform", len([s for s in it.vanceai.requests if s.endpoint == "transform"]) + 1)
    url = webhook_of(it.vanceai, len([s for s in it.vanceai.requests if s.endpoint == "transform"]))
    path = url.removeprefix(client.url)
    assert (await client.call("GET", f"{path}?said=1", key=""))[0] == 204
    assert (await client.call("GET", path, key="", data=b"x" * 300_000, expect100=True))[0] == 413
    assert (await client.call("POST", path, key="", data=b"x" * 300_000, expect100=True))[0] == 413
    told = {(await client.call("POST", path, key="", data=f"words {number}"))[0] for number in range(40)}
    assert told == {204, 429}
    assert (await client.call("GET", f"{path}?said=2", key=""))[0] == 429
    await client.call("POST", f"/v1/jobs/{job['id']}/cancel")
    done.set()


async def _assets(client: Client) -> None:
    _, asset = await client.call("POST", "/v1/assets", data=io.BytesIO(picture()))
    one = aiohttp.FormData()
    one.add_field("file", picture("JPEG"), filename="a.jpg")
    assert (await client.call("POST", "/v1/assets", data=one))[0] == 201
    await client.call("GET", f"/v1/assets/{asset['id']}")
    content = f"/v1/assets/{asset['id']}/content"
    status, _, headers = await client.call_full("GET", asset["url"], key="")
    assert status == 200
    assert (await client.call("GET", content, headers={"Range": "bytes=0-9"}))[0] == 206
    assert (await client.call("GET", content, headers={"Range": "bytes=999999-"}))[0] == 416
    assert (await client.call("GET", content, headers={"If-None-Match": headers["ETag"]}))[0] == 304
    assert (await client.call("GET", f"{content}?exp=1&sig=forged", key=""))[0] == 403
    assert (await client.call("GET", content, key=""))[0] == 401
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await client.call("POST", "/v1/assets", data=b"--x\r\nnothing", headers=broken))[0] == 400


async def _endpoints(it: Stand, client: Client) -> None:
    async with receiver() as there:
        there.answers = [web.Response(status=410)]
        made = await client.subscribe(there.url, events=["job.*"], headers={"X-Shop": "7"})
        path = f"/v1/endpoints/{made['id']}"
        assert (await client.call("POST", f"{path}/test"))[1]["delivered"] is False
        assert (await client.call("POST", f"{path}/test"))[1]["delivered"] is True
        assert (await client.call("PATCH", path, json={"description": "new"}))[0] == 200
        for tail in ("", "/secret"):
            await client.call("GET", path + tail)
        rotated = [(await client.call("POST", f"{path}/rotate-secret"))[0] for _ in range(MOST_OLD_SECRETS + 1)]
        assert rotated == [200] * MOST_OLD_SECRETS + [409]
        assert (await client.call("POST", f"{path}/rotate-secret", json={"overlap_seconds": 0}))[0] == 200
        await client.call("POST", "/v1/webhook-secret/rotate")
        key = "/v1/signing-key/rotate"
        rotated = [(await client.call("POST", key))[0] for _ in range(MOST_OLD_SECRETS + 1)]
        assert rotated == [200] * MOST_OLD_SECRETS + [409]
        assert (await client.call("POST", key, json={"overlap_seconds": 0}))[0] == 200
        for about in ("/v1/webhook-secret", "/v1/signing-key", "/.well-known/jwks.json", "/v1/endpoints"):
            await client.call("GET", about)
        await client.submit(ENLARGE, inputs={"image": {"url": it.vanceai.base_url}}, headers={"Prefer": "wait=20"})
        await there.wait_for(4)
        _, page = await client.call("GET", f"/v1/deliveries?endpoint={made['id']}&limit=1")
        await client.call("GET", f"/v1/deliveries/{page['data'][0]['id']}")
        served = [(await client.call("POST", f"{path}/{verb}"))[0] for verb in ("pause", "resume", "enable")]
        assert served == [200, 200, 200]
        there.answers = [web.Response(status=410)]
        await client.submit(ENLARGE, inputs={"image": {"url": it.vanceai.base_url}})
        async with asyncio.timeout(PATIENCE):
            while (await client.call("GET", path))[1]["state"] != "disabled":
                pass
        refused = [(await client.call("POST", f"{path}/{verb}"))[0] for verb in ("pause", "resume")]
        assert refused == [409, 409]
        await client.call("POST", f"{path}/enable")
        await _once_more(it, client, made, page["data"][0]["id"])
        assert (await client.call("DELETE", path))[0] == 204
        lost = f"/v1/deliveries/{page['data'][0]['id']}/redeliver"
        assert (await client.call("POST", lost))[0] == 409, "nobody is there to send it to"


async def _once_more(it: Stand, client: Client, endpoint: dict[str, Any], delivery: str) -> None:
    assert (await client.call("POST", f"/v1/deliveries/{delivery}/redeliver"))[0] == 202
    await client.call("GET", f"/v1/endpoints/{endpoint['id']}/stats?hours=168")
    replay, asked = f"/v1/endpoints/{endpoint['id']}/replay", {"since": "2020-01-01T00:00:00Z", "only": "all"}
    assert (await client.call("POST", replay, json={**asked, "dry_run": True}))[0] == 200
    await it.wirephoto.site.replays.stop(0)
    answers = [await client.call("POST", replay, json=asked) for _ in range(2)]
    assert [status for status, _ in answers] == [202, 409]
    it.wirephoto.site.replays.start()
    made = f"/v1/replays/{answers[0][1]['id']}"
    async with asyncio.timeout(PATIENCE):
        while (await client.call("GET", made))[1]["state"] == "running":
            pass
    assert (await client.call("POST", f"{made}/cancel"))[0] == 409
    await it.wirephoto.site.replays.stop(0)
    _, other = await client.call("POST", replay, json=asked)
    assert (await client.call("POST", f"/v1/replays/{other['id']}/cancel"))[0] == 200
    it.wirephoto.site.replays.start()
    await client.call("GET", f"/v1/replays?endpoint={endpoint['id']}")


async def _hooks(client: Client) -> None:
    wanted = {"hookUrl": "https://flows.example/", "events": ["job.canceled"], "filter": {"data.vendor": "vanceai"}}
    made = [await client.call("POST", "/v1/hooks", json=wanted) for _ in range(2)]
    assert [status for status, _ in made] == [201, 200]
    path = f"/v1/hooks/{made[0][1]['id']}"
    assert (await client.call("GET", "/v1/hooks"))[0] == (await client.call("GET", path))[0] == 200
    assert (await client.call("GET", "/v1/hooks/samples?event=job.canceled"))[0] == 200
    assert (await client.call("DELETE", path))[0] == 204
    assert (await client.call("GET", "/v1/me"))[0] == 200


async def _tenants(client: Client) -> None:
    assert (await client.call("POST", "/v1/projects", json={"name": "another"}))[0] == 201
    await client.call("GET", "/v1/projects")
    _, made = await client.call("POST", "/v1/keys", json={"role": "read", "name": "a reader"})
    _, plain = await client.call("POST", "/v1/keys")
    assert plain["role"] == "write"
    await client.call("GET", "/v1/keys")
    assert (await client.call("DELETE", f"/v1/keys/{made['id']}"))[0] == 204


async def _vendors(it: Stand, client: Client) -> None:
    await client.call("GET", "/v1/vendors")
    assert it.perfectcorp is not None
    refused = error("InvalidAccessToken")
    looks = {
        "perfectcorp/credits": "credit",
        "perfectcorp/credits/history": "history",
        "perfectcorp/hair-style/style-groups": "style-group",
        "perfectcorp/hair-style/styles": "style",
    }
    for path, endpoint in looks.items():
        it.perfectcorp.faults.next(endpoint, refused, times=2)
        assert [(await client.call("GET", f"/v1/vendors/{path}"))[0] for _ in range(2)] == [409, 200]
    for name, status in (("vanceai", 202), ("ailabtools", 409)):
        assert (await client.call("POST", f"/v1/vendors/{name}/probe"))[0] == status


# The least that a body must hold where something is at the address.
LEAST: dict[Any, Any] = {StreamAnswer: {"delivery": "dlv_none", "status": 200}}


def _address(path: str) -> str:
    for name, value in NOTHING.items():
        path = path.replace(name, value)
    return path


async def _refusals(client: Client) -> None:
    """What every route answers in the same way, taken from the table of URLs."""
    _, reader = await client.call("POST", "/v1/keys", json={"role": "read"})
    for route in ROUTES:
        path = _address(route.path)
        body = route.body if isinstance(route, Route) else None
        how: dict[str, Any] = {} if body is None else {"json": LEAST.get(body, {})}
        if "{" in route.path:
            found = 404 not in TOLD[f"{route.method} {route.path}"].never
            assert (await client.call(route.method, path, **how))[0] == (404 if found else route.status), route
        if not isinstance(route, Route):
            continue
        assert (await client.call(route.method, path, key=""))[0] == 401, route
        assert (await client.call(route.method, f"{path}?surprise=1", **how))[0] == 422, route
        if route.role != "read":
            assert (await client.call(route.method, path, key=reader["api_key"], **how))[0] == 403, route
        if route.body is None and "application/json" in route.media:
            continue
        kind = {"Content-Type": route.media[0]}
        # A body that is refused by its length alone is not sent: the connection would break under it.
        large = io.BytesIO(b"x" * 3_000_000)
        assert (await client.call(route.method, path, data=large, headers=kind, expect100=True))[0] == 413, route
        if route.body is not None:
            assert (await client.call(route.method, path, data=b"{", headers=kind))[0] == 400, route
            plain = {"Content-Type": "text/plain"}
            assert (await client.call(route.method, path, data=b"{}", headers=plain))[0] == 415, route


async def _troubles(client: Client, store: TroubledStore) -> None:
    for trouble, expected in ((away, 503), (bug, 500)):
        store.trouble = trouble
        for route in ROUTES:
            status, _ = await client.call(route.method, _address(route.path))
            if (str(route.method), route.path, expected) in client.described.told:  # type: ignore[union-attr]
                assert status == expected, route
    store.trouble = None


async def test_the_examples_are_of_the_form_that_they_are_examples_of(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        described = it.client.described
        assert described is not None
        count = 0
        for where in _contents(described.document):
            if "example" in where:
                described.validate(where["schema"], where["example"])
                count += 1
        assert count > 40
        assert "wp_test" not in json.dumps(described.document)


def _contents(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for entry in node for found in _contents(entry)]
    if not isinstance(node, dict):
        return []
    content = node.get("content")
    own = [entry for entry in content.values() if "schema" in entry] if isinstance(content, dict) else []
    return own + [found for entry in node.values() for found in _contents(entry)]
