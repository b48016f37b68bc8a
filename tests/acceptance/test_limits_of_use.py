"""What one user may ask for, so that no other one goes short: sizes, counts, places, and words that mean nothing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.endpoint import Terms
from service.store import endpoints
from service.store.database import Tx
from tests.acceptance.delivery_rig import Gate
from tests.acceptance.helpers import ENLARGE, done
from tests.acceptance.made import NOBODY_THERE, fields, leaving_nothing, picture
from tests.harness import PATIENCE, Stand, server_of, stand

pytestmark = pytest.mark.anyio

MAX_PARAMS_BYTES = 32 * 1024
MOST_PER_PROJECT = 1_000


def weighing(size: int) -> dict[str, Any]:
    """An object that takes exactly this many bytes as JSON."""
    return {"a": "x" * (size - len(json.dumps({"a": ""})))}


# Sizes.


@pytest.mark.parametrize("field", ["params", "extra"])
async def test_params_beyond_32_kib_are_refused_by_name(tmp_path: Path, field: str) -> None:
    job = {"operation": ENLARGE, "inputs": {"image": {"url": NOBODY_THERE}}}
    async with stand(tmp_path) as it, leaving_nothing(it):
        big = weighing(MAX_PARAMS_BYTES + 1)
        status, problem = await it.client.call("POST", "/v1/jobs", json={**job, field: big})
        assert status == 422
        assert field in fields(problem)
        assert len(json.dumps(problem)) < 2_000, "the answer does not repeat what was too much"


async def test_extra_of_32_kib_is_taken(tmp_path: Path) -> None:
    job = {"operation": ENLARGE, "inputs": {"image": {"url": NOBODY_THERE}}, "extra": weighing(MAX_PARAMS_BYTES)}
    async with stand(tmp_path) as it:
        status, taken = await it.client.call("POST", "/v1/jobs", json=job)
        assert status == 202, taken


# Places.


async def test_source_urls_of_one_project_that_hang_hold_up_no_other_projects(tmp_path: Path) -> None:
    gate = Gate()

    async def source(_: web.Request) -> web.Response:
        return web.Response(body=picture(), content_type="image/png")

    app = web.Application()
    app.router.add_get("/hangs/{tail:.*}", gate.__call__)
    app.router.add_get("/works.png", source)
    async with stand(tmp_path) as it, server_of(app) as url:
        status, other = await it.client.call("POST", "/v1/projects", json={"name": "other"})
        assert status == 201
        for n in range(20):
            status, job = await it.client.submit(ENLARGE, inputs={"image": {"url": f"{url}/hangs/{n}"}})
            assert status == 202, job
        await gate.holds(8)
        it.client.key = other["api_key"]
        job = await done(it.client, ENLARGE, None, inputs={"image": {"url": f"{url}/works.png"}})
        assert job["state"] == "succeeded"
        gate.opened.set()


# Counts.


async def _many_endpoints(tx: Tx, project: int, count: int) -> None:
    plain = Terms(url="http://127.0.0.1:1/", sealed_headers="sealed", events=("job.canceled",), max_in_flight=1)
    for n in range(count):
        await endpoints.add(tx, project, f"ep_{n:026}", "webhook", plain, "sealed", 1, None)


async def test_a_project_has_at_most_a_thousand_endpoints(tmp_path: Path) -> None:
    async def subscribed(it: Stand) -> tuple[int, Any]:
        return await it.client.call("POST", "/v1/endpoints", json={"url": "http://127.0.0.1:1/"})

    async with stand(tmp_path) as it:
        status, last = await subscribed(it)
        assert status == 201
        project = 1
        await it.wirephoto.core.db.write(_many_endpoints, project, MOST_PER_PROJECT - 2)
        answers = await asyncio.gather(*(subscribed(it) for _ in range(5)))
        assert sorted(status for status, _ in answers) == [201, 422, 422, 422, 422]
        problem = next(body for status, body in answers if status == 422)
        assert "1000" in problem["errors"][0]["reason"]
        # One that goes makes room; another project has room of its own.
        assert (await it.client.call("DELETE", f"/v1/endpoints/{last['id']}"))[0] == 204
        assert (await subscribed(it))[0] == 201
        assert (await subscribed(it))[0] == 422
        _, other = await it.client.call("POST", "/v1/projects", json={"name": "other"})
        it.client.key = other["api_key"]
        assert (await subscribed(it))[0] == 201


async def test_webhooks_of_single_jobs_take_no_endpoints_place(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        await it.wirephoto.core.db.write(_many_endpoints, 1, MOST_PER_PROJECT)
        job = {"operation": ENLARGE, "inputs": {"image": {"url": NOBODY_THERE}}, "webhook": "http://127.0.0.1:1/"}
        async with asyncio.timeout(PATIENCE):
            status, taken = await it.client.call("POST", "/v1/jobs", json=job)
        assert status == 202, taken


# Words that mean nothing.


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        ("/v1/jobs?metadata=1", "metadata"),
        ("/v1/jobs?State=failed", "State"),
        ("/v1/jobs?state=failed&state=succeeded", "state"),
        ("/v1/events?metadata.product_id=1", "metadata.product_id"),
        ("/v1/deliveries?job=job_1", "job"),
        ("/v1/endpoints?state=enabled", "state"),
        ("/v1/keys?a=1", "a"),
    ],
)
async def test_a_filter_that_is_unknown_is_refused_by_name(tmp_path: Path, path: str, unknown: str) -> None:
    async with stand(tmp_path) as it:
        status, problem = await it.client.call("GET", path)
        assert status == 422, problem
        assert fields(problem) == {unknown}


@pytest.mark.parametrize("name", ["X-A\n", "X-A\r\nX-B", "X A", "\nX", "X-A:", "é", ""])
async def test_a_header_that_would_break_a_request_apart_is_refused(tmp_path: Path, name: str) -> None:
    async with stand(tmp_path) as it:
        wanted = {"url": "http://127.0.0.1:1/", "headers": {name: "1"}}
        status, problem = await it.client.call("POST", "/v1/endpoints", json=wanted)
        assert status == 422, problem
        assert all(field.startswith("headers") for field in fields(problem))
