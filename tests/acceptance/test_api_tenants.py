"""The walls between tenants, and what a key may do: an id of another project is an id that does not exist."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.security.keys import Role
from service.web.route import Route
from service.web.routes import ROUTES
from tests.acceptance.made import ENLARGE, fields, leaving_nothing, picture, queue, upload
from tests.harness import Stand, receiver, stand

pytestmark = pytest.mark.anyio


async def tenant(it: Stand, name: str = "another") -> Stand:
    """The same service, seen with the admin key of a new project."""
    status, project = await it.client.call("POST", "/v1/projects", json={"name": name})
    assert status == 201, project
    return replace(it, client=replace(it.client, key=project["api_key"]))


async def with_role(it: Stand, role: str) -> Stand:
    status, key = await it.client.call("POST", "/v1/keys", json={"role": role, "name": f"only {role}"})
    assert status == 201, key
    return replace(it, client=replace(it.client, key=key["api_key"]))


async def full_house(it: Stand, hook: str, photos: Path) -> dict[str, str]:
    """One of everything that a project can own, by name."""
    endpoint = await it.client.subscribe(hook, events=["job.succeeded"])
    _, subscribed = await it.client.call("POST", "/v1/hooks", json={"hookUrl": hook, "event": "job.failed"})
    status, job = await it.client.submit(ENLARGE, photos / "cat.jpg", headers={"Prefer": "wait=20"})
    assert (status, job["state"]) == (200, "succeeded"), job
    events = await it.client.events(job["id"])
    _, page = await it.client.call("GET", "/v1/deliveries")
    _, keys = await it.client.call("GET", "/v1/keys")
    asked = {"since": "2020-01-01T00:00:00Z"}
    _, replay = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/replay", json=asked)
    return {
        "job": job["id"],
        "asset": job["outputs"][0]["asset"],
        "endpoint": endpoint["id"],
        "hook": subscribed["id"],
        "event": events[-1]["id"],
        "delivery": page["data"][0]["id"],
        "replay": replay["id"],
        "key": keys["data"][0]["id"],
    }


async def test_another_projects_ids_do_not_exist(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        own = await full_house(it, shop.url, photos)
        lists = ("/v1/jobs", "/v1/endpoints", "/v1/hooks", "/v1/keys")
        looks = (*lists, f"/v1/endpoints/{own['endpoint']}/secret")
        before = [await it.client.call("GET", path) for path in looks]
        stranger = await tenant(it)
        doors = (
            ("GET", f"/v1/jobs/{own['job']}", "job"),
            ("GET", f"/v1/jobs/{own['job']}/timeline", "job"),
            ("POST", f"/v1/jobs/{own['job']}/cancel", "job"),
            ("POST", f"/v1/jobs/{own['job']}/retry", "job"),
            ("GET", f"/v1/assets/{own['asset']}", "asset"),
            ("GET", f"/v1/assets/{own['asset']}/content", "asset"),
            ("GET", f"/v1/endpoints/{own['endpoint']}", "endpoint"),
            ("GET", f"/v1/endpoints/{own['endpoint']}/secret", "endpoint"),
            ("POST", f"/v1/endpoints/{own['endpoint']}/test", "endpoint"),
            ("POST", f"/v1/endpoints/{own['endpoint']}/pause", "endpoint"),
            ("POST", f"/v1/endpoints/{own['endpoint']}/resume", "endpoint"),
            ("POST", f"/v1/endpoints/{own['endpoint']}/enable", "endpoint"),
            ("POST", f"/v1/endpoints/{own['endpoint']}/rotate-secret", "endpoint"),
            ("PATCH", f"/v1/endpoints/{own['endpoint']}", "endpoint"),
            ("GET", f"/v1/endpoints/{own['endpoint']}/stream", "endpoint"),
            ("POST", f"/v1/endpoints/{own['endpoint']}/answers", "endpoint"),
            ("DELETE", f"/v1/endpoints/{own['endpoint']}", "endpoint"),
            ("GET", f"/v1/hooks/{own['hook']}", "hook"),
            ("GET", f"/v1/events/{own['event']}", "event"),
            ("GET", f"/v1/endpoints/{own['endpoint']}/stats", "endpoint"),
            ("POST", f"/v1/endpoints/{own['endpoint']}/replay", "endpoint"),
            ("GET", f"/v1/replays/{own['replay']}", "replay"),
            ("POST", f"/v1/replays/{own['replay']}/cancel", "replay"),
            ("GET", f"/v1/deliveries/{own['delivery']}", "delivery"),
            ("POST", f"/v1/deliveries/{own['delivery']}/redeliver", "delivery"),
            ("DELETE", f"/v1/keys/{own['key']}", "key"),
        )
        got = len(shop.got)
        for method, path, noun in doors:
            body: dict[str, Any] = {"json": {"description": "mine now"}} if method == "PATCH" else {}
            if path.endswith("/replay"):
                body = {"json": {"since": "2020-01-01T00:00:00Z", "only": "all"}}
            if path.endswith("/answers"):
                body = {"json": {"delivery": own["delivery"], "status": 200}}
            refused = await stranger.client.call(method, path, **body)
            prefix = own[noun].split("_")[0]
            missing = await stranger.client.call(method, path.replace(own[noun], f"{prefix}_{'0' * 26}"), **body)
            assert refused[0] == 404, path
            assert refused == missing, "nobody learns that it exists"
        after = [await it.client.call("GET", path) for path in looks]
        assert after == before
        assert len(shop.got) == got


async def test_another_projects_pictures_are_no_input(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        own = await full_house(it, shop.url, photos)
        stranger = await tenant(it)
        async with leaving_nothing(stranger):
            for noun in ("asset", "job"):
                foreign = await stranger.client.submit(ENLARGE, inputs={"image": {noun: own[noun]}})
                prefix = own[noun].split("_")[0]
                missing = await stranger.client.submit(ENLARGE, inputs={"image": {noun: f"{prefix}_{'0' * 26}"}})
                assert foreign[0] == 422
                assert fields(foreign[1]) == {f"inputs.image.{noun}"}
                assert foreign == missing


async def test_another_projects_ids_are_no_cursor_and_no_filter(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        own = await full_house(it, shop.url, photos)
        stranger = await tenant(it)
        for path, noun in (
            ("/v1/jobs", "job"),
            ("/v1/endpoints", "endpoint"),
            ("/v1/hooks", "hook"),
            ("/v1/deliveries", "delivery"),
            ("/v1/replays", "replay"),
            ("/v1/keys", "key"),
        ):
            status, problem = await stranger.client.call("GET", f"{path}?after={own[noun]}")
            assert (status, fields(problem)) == (422, {"after"}), path
        assert (await stranger.client.call("GET", f"/v1/replays?endpoint={own['endpoint']}"))[1]["data"] == []
        for query in (f"endpoint={own['endpoint']}", f"event={own['event']}"):
            assert (await stranger.client.call("GET", f"/v1/deliveries?{query}"))[1]["data"] == []
        for path in ("/v1/jobs", "/v1/endpoints", "/v1/hooks", "/v1/deliveries", "/v1/replays", "/v1/events"):
            assert await stranger.client.call("GET", path) == (200, {"data": [], "next": None})
        _, keys = await stranger.client.call("GET", "/v1/keys")
        assert len(keys["data"]) == 1


async def test_projects_share_neither_events_nor_numbers_nor_secrets_nor_idempotency_keys(
    tmp_path: Path, photos: Path
) -> None:
    async with stand(tmp_path) as it, receiver() as one, receiver() as two:
        stranger = await tenant(it)
        await it.client.subscribe(one.url)
        await stranger.client.subscribe(two.url)
        key = {"Idempotency-Key": "order-1", "Prefer": "wait=20"}
        _, first = await it.client.submit(ENLARGE, photos / "cat.jpg", headers=key)
        status, second = await stranger.client.submit(ENLARGE, photos / "cat.jpg", headers=key)
        assert (status, second["state"]) == (200, "succeeded")
        assert first["id"] != second["id"]
        await one.wait_for(3)
        await two.wait_for(3)
        assert {entry.event["data"]["id"] for entry in one.got} == {first["id"]}
        assert {entry.event["data"]["id"] for entry in two.got} == {second["id"]}
        assert [event["sequence"] for event in await stranger.client.events()] == [1, 2, 3]
        secrets = [(await who.client.call("GET", "/v1/webhook-secret"))[1]["secret"] for who in (it, stranger)]
        assert secrets[0] != secrets[1]
        # The same picture is held once, and each project has its own name for it.
        assert first["outputs"][0]["sha256"] == second["outputs"][0]["sha256"]
        assert first["outputs"][0]["asset"] != second["outputs"][0]["asset"]


async def test_a_projects_own_webhook_is_not_told_of_another_projects_jobs(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as own:
        stranger = await tenant(it)
        await it.client.submit(ENLARGE, photos / "cat.jpg", webhook=own.url)
        await own.wait_for(1)
        _, job = await stranger.client.submit(ENLARGE, photos / "cat.jpg", headers={"Prefer": "wait=20"})
        assert job["state"] == "succeeded"
        _, page = await stranger.client.call("GET", "/v1/deliveries")
        assert page["data"] == []


async def test_every_route_asks_for_a_key_and_for_its_role(tmp_path: Path) -> None:
    rank = {Role.READ: 0, Role.WRITE: 1, Role.ADMIN: 2}
    async with stand(tmp_path) as it:
        keys = {role: (await with_role(it, role)).client.key for role in Role}
        for route in ROUTES:
            if not isinstance(route, Route):
                continue
            path = route.path.replace("{id}", "job_0").replace("{vendor}", "vanceai").replace("{name}", "enlarge3")
            for bad in ("", "wp_nobody", "Basic", it.client.key[:-1], it.client.key + "x", it.client.key.upper()):
                status, problem, headers = await it.client.call_full(route.method, path, key=bad)
                assert status == 401, (route.method, path)
                assert problem["type"] == "urn:wirephoto:problem:unauthenticated"
                assert headers["WWW-Authenticate"].startswith("Bearer")
                assert headers["Content-Type"] == "application/problem+json"
            for role, key in keys.items():
                if rank[role] < rank[route.role]:
                    status, problem = await it.client.call(route.method, path, key=key)
                    assert (status, problem["type"]) == (403, "urn:wirephoto:problem:forbidden"), (path, role)
                elif role is route.role is Role.READ:
                    status, _ = await it.client.call(route.method, path, key=key)
                    assert status in (200, 404, 422), (path, role)


async def test_a_key_may_be_given_in_the_header_alone(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        for query in (f"key={it.client.key}", f"api_key={it.client.key}", f"access_token={it.client.key}"):
            assert (await it.client.call("GET", f"/v1/jobs?{query}", key=""))[0] == 401
        for scheme, status in (("bearer", 200), ("Basic", 401), ("Token", 401)):
            headers = {"Authorization": f"{scheme} {it.client.key}"}
            assert (await it.client.call("GET", "/v1/jobs", key="", headers=headers))[0] == status


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        status, made = await it.client.call("POST", "/v1/keys", json={"role": "read", "name": "dashboard"})
        assert (status, made["role"], made["name"]) == (201, "read", "dashboard")
        key = made.pop("api_key")
        assert (await it.client.call("GET", "/v1/jobs", key=key))[0] == 200
        _, listed = await it.client.call("GET", "/v1/keys")
        assert made in listed["data"]
        assert "api_key" not in str(listed)
        assert key not in str(listed)
        assert await it.client.call("DELETE", f"/v1/keys/{made['id']}") == (204, None)
        assert (await it.client.call("GET", "/v1/jobs", key=key))[0] == 401
        assert (await it.client.call("DELETE", f"/v1/keys/{made['id']}"))[0] == 404
        status, made = await it.client.call("POST", "/v1/keys")
        assert (status, made["role"]) == (201, "write"), "an empty body makes an everyday key"
        for body, field in (({"role": "root"}, "role"), ({"role": "read", "project": "prj_1"}, "project")):
            status, problem = await it.client.call("POST", "/v1/keys", json=body)
            assert (status, fields(problem)) == (422, {field})


async def test_a_project_can_not_lock_itself_out(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        _, keys = await it.client.call("GET", "/v1/keys")
        (first,) = keys["data"]
        await with_role(it, "write")
        status, _ = await it.client.call("DELETE", f"/v1/keys/{first['id']}")
        assert status == 422
        assert (await it.client.call("GET", "/v1/jobs"))[0] == 200
        second = await with_role(it, "admin")
        assert (await second.client.call("DELETE", f"/v1/keys/{first['id']}"))[0] == 204
        assert (await it.client.call("GET", "/v1/jobs"))[0] == 401


async def test_only_the_first_projects_admins_manage_projects(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        stranger = await tenant(it, "Bäckerei №7")
        for method, body in (("GET", None), ("POST", {"name": "mine"})):
            status, problem = await stranger.client.call(method, "/v1/projects", json=body)
            assert (status, problem["type"]) == (403, "urn:wirephoto:problem:forbidden")
        _, listed = await it.client.call("GET", "/v1/projects")
        assert [project["name"] for project in listed["data"]] == ["default", "Bäckerei №7"]
        assert stranger.client.key not in str(listed)
        seen: list[str] = []
        path = "/v1/projects?limit=1"
        while True:
            _, page = await it.client.call("GET", path)
            seen += [project["name"] for project in page["data"]]
            if page["next"] is None:
                break
            path = f"/v1/projects?limit=1&after={page['next']}"
        assert seen == ["default", "Bäckerei №7"]
        nameless: tuple[dict[str, Any], ...] = ({}, {"name": ""}, {"name": "x" * 101}, {"name": 7})
        for wanted in nameless:
            status, problem = await it.client.call("POST", "/v1/projects", json=wanted)
            assert (status, fields(problem)) == (422, {"name"})


async def test_a_key_of_another_project_opens_no_unsigned_picture(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        stranger = await tenant(it)
        asset = await upload(it, picture())
        same = await upload(stranger, picture())
        assert same["sha256"] == asset["sha256"]
        status, _ = await stranger.client.call("GET", f"/v1/assets/{asset['id']}/content")
        assert status == 404, "to hold the same bytes is no right to another's name for them"
        job = await queue(it)
        assert (await stranger.client.call("GET", f"/v1/jobs/{job['id']}"))[0] == 404
