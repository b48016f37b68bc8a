"""Lists: every one is paged alike, with cursors that tell nothing, and jobs are found by their metadata."""

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.made import ENLARGE, fields, finished, queue
from tests.acceptance.test_api_tenants import tenant
from tests.harness import Stand, receiver, stand

pytestmark = pytest.mark.anyio

NEWEST_FIRST = ("/v1/jobs", "/v1/deliveries", "/v1/replays")
OLDEST_FIRST = ("/v1/events", "/v1/endpoints", "/v1/keys", "/v1/projects")
SEALED = (*NEWEST_FIRST, "/v1/endpoints", "/v1/keys", "/v1/projects")
IN_ONE_PAGE = ("/v1/operations", "/v1/vendors")


async def page(it: Stand, path: str, **query: Any) -> dict[str, Any]:
    status, body = await it.client.call("GET", path, params={name: str(value) for name, value in query.items()})
    assert status == 200, body
    assert set(body) == {"data", "next"}
    found: dict[str, Any] = body
    return found


async def walk(it: Stand, path: str, limit: int, **query: Any) -> list[str]:
    """The ids of all entries, as a user follows `next`."""
    seen: list[str] = []
    found = await page(it, path, limit=limit, **query)
    while True:
        assert len(found["data"]) <= limit
        seen += [entry["id"] for entry in found["data"]]
        if found["next"] is None:
            return seen
        found = await page(it, path, limit=limit, after=found["next"], **query)


async def replay(it: Stand, endpoint: dict[str, Any]) -> None:
    asked = {"since": "2020-01-01T00:00:00Z"}
    status, made = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/replay", json=asked)
    assert status == 202, made


async def full_lists(it: Stand, hook: str, photo: Path) -> None:
    """At least three entries in every list of the first project."""
    await replay(it, await it.client.subscribe(hook, events=["job.*"]))
    for n in range(2):
        other = await it.client.subscribe(f"http://127.0.0.1:1/{n}", events=["endpoint.disabled"])
        await replay(it, other)
        await it.client.call("POST", "/v1/keys", json={"name": f"key {n}"})
        await it.client.call("POST", "/v1/projects", json={"name": f"project {n}"})
        await queue(it)
    await finished(it, photo)


async def test_every_list_is_walked_to_its_end_once_in_its_order(it: Stand, photo: Path) -> None:
    async with receiver() as shop:
        await full_lists(it, shop.url, photo)
        for path in (*NEWEST_FIRST, *OLDEST_FIRST):
            whole = [entry["id"] for entry in (await page(it, path, limit=200))["data"]]
            assert len(whole) >= 3, path
            assert await walk(it, path, 1) == await walk(it, path, 2) == whole, path
            times = [id_.split("_")[1][:10] for id_ in whole]
            assert times == sorted(times, reverse=path in NEWEST_FIRST), path
        for path in IN_ONE_PAGE:
            assert (await page(it, path))["next"] is None


async def test_a_cursor_is_of_its_own_list_and_project_alone_and_shows_no_number(it: Stand, photo: Path) -> None:
    async with receiver() as shop:
        await full_lists(it, shop.url, photo)
        stranger = await tenant(it)
        cursors = {path: (await page(it, path, limit=1))["next"] for path in SEALED}
        for path, cursor in cursors.items():
            assert await page(it, path, after=cursor)
            assert len(cursor) > 60, "sealed: a bare number would tell how many rows there are of all projects"
            for other in SEALED:
                if other != path:
                    status, problem = await it.client.call("GET", other, params={"after": cursor})
                    assert (status, fields(problem)) == (422, {"after"}), (path, other)
            if path != "/v1/projects":
                status, problem = await stranger.client.call("GET", path, params={"after": cursor})
                assert (status, fields(problem)) == (422, {"after"}), path
            for broken in ("", "1", cursor[:-1], f"x{cursor[1:]}", cursor * 9, "ü", "job_" + "0" * 26):
                status, problem = await it.client.call("GET", path, params={"after": broken})
                assert (status, fields(problem)) == (422, {"after"}), (path, broken)


async def test_a_cursor_is_good_after_a_restart(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        ids = [(await queue(it))["id"] for _ in range(3)]
        cursor = (await page(it, "/v1/jobs", limit=1))["next"]
    async with stand(tmp_path) as it:
        assert [entry["id"] for entry in (await page(it, "/v1/jobs", after=cursor))["data"]] == [ids[1], ids[0]]


async def test_filters_that_name_what_is_another_projects_find_nothing(it: Stand, photo: Path) -> None:
    async with receiver() as shop:
        endpoint = await it.client.subscribe(shop.url)
        job = await finished(it, photo, metadata={"order": "1"})
        (event, *_) = await it.client.events(job["id"])
        stranger = await tenant(it)
        for path, query in (
            ("/v1/deliveries", {"endpoint": endpoint["id"]}),
            ("/v1/deliveries", {"event": event["id"]}),
            ("/v1/jobs", {"metadata.order": "1"}),
        ):
            assert (await page(it, path, **query))["data"] != []
            assert await page(stranger, path, **query) == {"data": [], "next": None}


@pytest.mark.parametrize(
    ("path", "faulty"),
    [
        ("/v1/jobs", {"limit": "0", "after": "nothing", "state": "lost", "metadata.a b": "1"}),
        ("/v1/deliveries", {"limit": "x", "after": "1", "state": "lost"}),
        ("/v1/events", {"limit": "201", "after": "-1", "type": "job.*", "wait": "61"}),
        ("/v1/endpoints", {"limit": "", "after": "ep_1"}),
    ],
)
async def test_all_that_is_faulty_in_a_query_is_told_at_once(it: Stand, path: str, faulty: dict[str, str]) -> None:
    status, problem = await it.client.call("GET", path, params=faulty)
    assert (status, fields(problem)) == (422, set(faulty))


# --- metadata --------------------------------------------------------------------------------------------------------


async def found(it: Stand, **metadata: str) -> list[str]:
    return await walk(it, "/v1/jobs", 200, **{f"metadata.{key}": value for key, value in metadata.items()})


async def test_jobs_are_found_by_their_metadata_all_of_which_must_hold(it: Stand) -> None:
    a = (await queue(it, metadata={"product": "8411", "shop": "north"}))["id"]
    b = (await queue(it, metadata={"product": "8411", "shop": "south"}))["id"]
    await queue(it, metadata={"shop": "8411"})
    await queue(it)
    assert await found(it, product="8411") == [b, a]
    assert await found(it, product="8411", shop="north") == [a]
    assert await found(it, shop="north", product="8411") == [a]
    assert await found(it, product="8411", shop="west") == []
    assert await found(it, product="841") == []
    assert await found(it, Product="8411") == []
    assert await found(it, product="") == []


async def test_metadata_goes_together_with_the_other_filters_and_with_paging(it: Stand, photo: Path) -> None:
    mine = {"batch": "7"}
    old = [(await queue(it, metadata=mine))["id"] for _ in range(5)]
    ended = (await finished(it, photo, metadata=mine))["id"]
    await queue(it, metadata={"batch": "8"})
    assert await walk(it, "/v1/jobs", 2, **{"metadata.batch": "7"}) == [ended, *old[::-1]]
    assert await walk(it, "/v1/jobs", 2, **{"metadata.batch": "7", "state": "succeeded"}) == [ended]
    assert await walk(it, "/v1/jobs", 2, **{"metadata.batch": "7", "operation": ENLARGE}) == [ended, *old[::-1]]
    assert await walk(it, "/v1/jobs", 2, **{"metadata.batch": "7", "vendor": "picwish"}) == []


@pytest.mark.parametrize(
    "value", ["", "ümlaut ☎ 🙂", "a\x00b", "100 %&=+", "x" * 500, "🙂" * 500, "'; DROP TABLE jobs; --", '["a"]'],
    ids=["empty", "letters", "nul", "marks", "long", "longest", "sql", "json"],
)  # fmt: skip
async def test_any_value_is_found_by_itself_alone(it: Stand, value: str) -> None:
    job = (await queue(it, metadata={"a.b-c_1": value}))["id"]
    await queue(it, metadata={"a.b-c_1": f"{value[:-1]}y"})
    assert await found(it, **{"a.b-c_1": value}) == [job]


async def test_fifty_pairs_hold_at_once(it: Stand) -> None:
    metadata = {f"key-{n}": f"value {n}" for n in range(50)}
    job = (await queue(it, metadata=metadata))["id"]
    await queue(it, metadata={**metadata, "key-49": "another"})
    assert await found(it, **metadata) == [job]


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 65, "a\n"])
async def test_what_is_no_key_of_metadata_is_refused_by_name(it: Stand, key: str) -> None:
    status, problem = await it.client.call("GET", "/v1/jobs", params={f"metadata.{key}": "1"})
    assert (status, fields(problem)) == (422, {f"metadata.{key}"[:100]})


async def test_a_retry_has_the_metadata_of_its_job(it: Stand) -> None:
    waiting = await queue(it, metadata={"order": "1"})
    await it.client.call("POST", f"/v1/jobs/{waiting['id']}/cancel")
    _, new = await it.client.call("POST", f"/v1/jobs/{waiting['id']}/retry")
    assert await found(it, order="1") == [new["id"], waiting["id"]]
