"""Following the log: `GET /v1/events?wait=` answers when there is something, and who follows `next` misses nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from service.web.waiting import MOST_PER_PROJECT
from tests.acceptance.helpers import ENLARGE
from tests.acceptance.made import fields, finished, queue
from tests.acceptance.test_api_tenants import tenant
from tests.clock import ManualClock
from tests.fast_clock import FastClock
from tests.harness import PATIENCE, Stand, receiver, stand

pytestmark = pytest.mark.anyio


async def look(it: Stand, after: int | str = 0, **query: Any) -> tuple[int, Any]:
    params = {"after": str(after), **{name: str(value) for name, value in query.items()}}
    return await it.client.call("GET", "/v1/events", params=params)


async def listening(it: Stand, count: int = 1) -> None:
    """Until so many requests hang on a bell of the service; looked at again after each of its answers."""
    async with asyncio.timeout(PATIENCE):
        while it.wirephoto.core.bells.waiting != count:
            await it.client.call("GET", "/healthz")


@asynccontextmanager
async def asked(it: Stand, **query: Any) -> AsyncIterator[asyncio.Task[tuple[int, Any]]]:
    """A request that waits for an event."""
    task = asyncio.create_task(look(it, **query))
    try:
        await listening(it)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_there_already_is_answered_at_once(it: Stand) -> None:
    job = await queue(it)
    status, page = await look(it, wait=60)
    assert status == 200
    assert [(event["type"], event["data"]["id"]) for event in page["data"]] == [("job.queued", job["id"])]
    assert page["next"] == "1"


async def test_a_reader_who_waits_hears_of_an_event_when_it_is_committed(it: Stand) -> None:
    async with asked(it, wait=60) as answer:
        job = await queue(it)
        status, page = await asyncio.wait_for(answer, PATIENCE)
        assert (status, page["next"]) == (200, "1")
        assert page["data"] == await it.client.events(job["id"])


async def test_a_reader_of_one_type_is_woken_by_that_type_alone(it: Stand, photo: Path) -> None:
    async with asked(it, wait=60, type="job.succeeded") as answer:
        job = await finished(it, photo)
        status, page = await asyncio.wait_for(answer, PATIENCE)
        assert status == 200
        assert [(event["type"], event["data"]["id"]) for event in page["data"]] == [("job.succeeded", job["id"])]
        # What was passed over on the way need not be read again.
        assert page["next"] == str(page["data"][0]["sequence"]) == "3"


async def test_when_time_is_up_the_answer_is_empty_and_says_where_to_go_on(tmp_path: Path) -> None:
    clock = FastClock(1.0)
    async with stand(tmp_path, clock=clock) as it:
        await queue(it)
        for query, cursor in ((dict[str, Any](after=1), "1"), ({"after": 0, "type": "job.succeeded"}, "1")):
            async with asked(it, wait=60, **query) as answer:
                clock.jump(61)
                assert await asyncio.wait_for(answer, PATIENCE) == (200, {"data": [], "next": cursor})


async def test_without_wait_the_log_is_a_list_like_any_other(it: Stand) -> None:
    for _ in range(3):
        await queue(it)
    _, page = await look(it, limit=2)
    assert ([event["sequence"] for event in page["data"]], page["next"]) == ([1, 2], "2")
    _, page = await look(it, after=2, limit=2)
    assert ([event["sequence"] for event in page["data"]], page["next"]) == ([3], None)
    assert await look(it, after=3) == (200, {"data": [], "next": None})
    # Who follows has no end.
    _, page = await look(it, after=2, limit=2, wait=0)
    assert ([event["sequence"] for event in page["data"]], page["next"]) == ([3], "3")


async def test_whoever_follows_next_gets_each_event_once_whatever_happens_meanwhile(it: Stand) -> None:
    count = 40

    async def follow(limit: int, kind: str | None = None) -> list[int]:
        cursor, seen = "0", list[int]()
        while len(seen) < count:
            query = {} if kind is None else {"type": kind}
            _, page = await look(it, after=cursor, wait=5, limit=limit, **query)
            assert page["next"] is not None
            seen += [event["sequence"] for event in page["data"]]
            cursor = page["next"]
        return seen

    async def write() -> None:
        for _ in range(count // 4):
            await asyncio.gather(*(queue(it) for _ in range(4)))

    async with asyncio.timeout(PATIENCE):
        one, several, typed, _ = await asyncio.gather(follow(1), follow(7), follow(3, "job.queued"), write())
    log = await it.client.events()
    assert typed == [event["sequence"] for event in log if event["type"] == "job.queued"]
    every = [event["sequence"] for event in log]
    assert one == every[: len(one)]
    assert several == every[: len(several)]


async def test_another_projects_events_wake_nobody_and_are_not_counted(it: Stand) -> None:
    stranger = await tenant(it)
    async with asked(it, wait=1) as answer:
        job = await queue(stranger)
        assert await asyncio.wait_for(answer, PATIENCE) == (200, {"data": [], "next": "0"})
        assert await it.client.events(job["id"]) == []


async def test_an_event_that_is_about_no_job_rings_too(it: Stand) -> None:
    async with receiver() as gone, asked(it, wait=60, type="endpoint.disabled") as answer:
        gone.answers = [web.Response(status=410)]
        endpoint = await it.client.subscribe(gone.url, events=["job.queued"])
        await queue(it)
        _, page = await asyncio.wait_for(answer, PATIENCE)
        assert [event["data"]["id"] for event in page["data"]] == [endpoint["id"]]


async def test_the_end_of_the_service_ends_the_wait(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        waiting = asyncio.create_task(look(it, wait=60))
        await listening(it)
        it.wirephoto.core.bells.close()
        assert await asyncio.wait_for(waiting, PATIENCE) == (200, {"data": [], "next": "0"})
        assert await look(it, wait=60) == (200, {"data": [], "next": "0"}), "and nobody begins to wait"


async def test_a_client_that_goes_away_is_waited_for_no_longer(it: Stand) -> None:
    for path in ("/v1/events?wait=60", "/v1/events?wait=60&type=job.failed"):
        parts = it.client.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(parts[0], int(parts[1]))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {it.client.key}\r\n\r\n".encode())
        await listening(it)
        writer.close()
        await writer.wait_closed()
        await listening(it, 0)


async def test_a_submitter_that_goes_away_is_waited_for_no_longer_and_its_job_goes_on(it: Stand) -> None:
    body = b'{"operation": "vanceai/enlarge3", "inputs": {"image": {"url": "http://127.0.0.1:1/x"}}}'
    parts = it.client.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(parts[0], int(parts[1]))
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {it.client.key}\r\nPrefer: wait=60\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await listening(it)
    writer.close()
    await writer.wait_closed()
    await listening(it, 0)
    _, jobs = await it.client.call("GET", "/v1/jobs")
    assert [job["operation"] for job in jobs["data"]] == [ENLARGE]


async def test_one_project_can_not_take_all_places_to_wait(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        stranger = await tenant(it)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            it.client.http = http
            waiting = [asyncio.create_task(look(it, wait=60)) for _ in range(MOST_PER_PROJECT)]
            await listening(it, MOST_PER_PROJECT)
            status, problem, headers = await it.client.call_full("GET", "/v1/events?wait=60")
            assert (status, problem["type"]) == (429, "urn:wirephoto:problem:too_many_waiting")
            assert int(headers["Retry-After"]) >= 1
            # Others wait as they like; without waiting all is answered; a preference is not insisted upon.
            other = asyncio.create_task(look(stranger, wait=60))
            await listening(it, MOST_PER_PROJECT + 1)
            await queue(stranger)
            assert (await asyncio.wait_for(other, PATIENCE))[0] == 200
            assert (await look(it))[0] == 200
            status, job, headers = await it.client.call_full(
                "POST",
                "/v1/jobs",
                json={"operation": ENLARGE, "inputs": {"image": {"url": "http://127.0.0.1:1/x"}}},
                headers={"Prefer": "wait=60"},
            )
            assert (status, "Preference-Applied" in headers) == (202, False)
            # Its event has ended all the waits, and their places are free again.
            assert {page["data"][0]["data"]["id"] for _, page in await asyncio.gather(*waiting)} == {job["id"]}
            assert it.wirephoto.site.waiting.refusal(1) is None


@pytest.mark.parametrize("wait", ["-1", "61", "1.5", "", "soon", "9" * 5000])
async def test_a_wait_out_of_range_is_refused(it: Stand, wait: str) -> None:
    status, problem = await look(it, wait=wait)
    assert (status, fields(problem)) == (422, {"wait"})


async def test_an_event_committed_between_the_look_and_the_wait_is_not_missed(tmp_path: Path) -> None:
    """Time stands still, so that only the bell can end the wait."""
    async with stand(tmp_path, clock=ManualClock()) as it:
        for n in range(1, 20):
            waiting = asyncio.create_task(look(it, after=n - 1, wait=60))
            # At another moment of the reader's way each time.
            for _ in range(n):
                await asyncio.sleep(0)
            await queue(it)
            status, page = await asyncio.wait_for(waiting, PATIENCE)
            assert (status, page["next"]) == (200, str(n))
