"""Perfect Corp's stand-in loses a task that nobody asks for (seed 000)."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from handlers.sandbox import faults
from handlers.sandbox.perfectcorp_features import ENGINE_ERRORS
from tests.fast_clock import FastClock
from tests.racing_clock import RacingClock
from tests.vendors.perfectcorp_by_hand import AT_ONCE, Client, Hands, code, running, small_photo

pytestmark = pytest.mark.anyio

NEVER = replace(AT_ONCE, work_seconds=lambda: asyncio.Event().wait())


@pytest.fixture
def photo(photos: Path) -> bytes:
    return small_photo(photos)


# -- a task's life -----------------------------------------------------------------------------------------------------


async def test_a_task_runs_until_it_has_succeeded_and_is_paid_once(photo: bytes) -> None:
    done = asyncio.Event()
    async with running(photo, replace(AT_ONCE, work_seconds=done.wait, poll_seconds=1.0)) as client:
        task_id = await client.started("colorize")
        assert await client.said("colorize", task_id) == {"polling_interval": 1000, "status": "running"}
        assert client.sandbox.charged == []
        client.sandbox.settings = replace(client.sandbox.settings, poll_seconds=0)
        done.set()
        await client.ended(task_id)
        said = [await client.said("colorize", task_id) for _ in range(2)]
        assert {entry["status"] for entry in said} == {"success"}
        assert client.sandbox.charged == [(task_id, Decimal(1))]
        assert client.sandbox.violations == []


async def test_a_task_unasked_for_ten_seconds_is_lost_and_costs_nothing(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, NEVER, clock=clock, monotonic=clock) as client:
        task_id, other = await client.started("colorize"), await client.started("colorize")
        for _ in range(3):
            clock.now += 10
            assert (await client.said("colorize", task_id))["status"] == "running"
        clock.now += 10.01
        assert set(client.sandbox.lost) == {task_id, other}
        for lost in (task_id, other):
            assert code(await client.ask("colorize", lost)) == (404, "InvalidTaskId")
        assert client.sandbox.charged == []
        assert client.sandbox.violations == []


async def test_a_task_that_ends_unseen_is_lost_as_well_and_what_it_cost_is_given_back_or_not(photo: bytes) -> None:
    clock = Hands()
    for charged in (False, True):
        settings = replace(AT_ONCE, lost_is_charged=charged)
        async with running(photo, settings, clock=clock, monotonic=clock) as client:
            task_id = await client.started("colorize")
            await client.ended(task_id)
            assert len(client.sandbox.charged) == 1
            clock.now += 11
            assert client.sandbox.lost == [task_id]
            assert len(client.sandbox.charged) == int(charged)
            _, answer = await client.call("GET", "/client/credit")
            assert sum(lot["amount"] for lot in answer["results"]) == 500 - int(charged)


async def test_a_lost_task_may_go_on_and_be_paid_as_the_newer_documents_say(photo: bytes) -> None:
    clock, done = Hands(), asyncio.Event()
    settings = replace(AT_ONCE, work_seconds=done.wait)
    for charged in (False, True):
        done.clear()
        options = replace(settings, lost_is_charged=charged)
        async with running(photo, options, clock=clock, monotonic=clock) as client:
            task_id = await client.started("colorize")
            clock.now += 11
            done.set()
            await client.ended(task_id)
            assert (client.sandbox.lost, len(client.sandbox.charged)) == ([task_id], int(charged))


async def test_a_refused_poll_does_not_keep_a_task_alive_and_a_lost_answer_does(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, NEVER, clock=clock, monotonic=clock) as client:
        task_id = await client.started("colorize")
        clock.now += 6
        client.sandbox.faults.next("task", faults.ANSWER_LOST)
        with pytest.raises(aiohttp.ClientError):
            await client.ask("colorize", task_id)
        clock.now += 6
        assert (await client.said("colorize", task_id))["status"] == "running"
        clock.now += 6
        client.sandbox.faults.next("task", faults.Fault(status=429, body=b"{}"))
        assert (await client.ask("colorize", task_id))[0] == 429
        assert code(await client.call("GET", f"/task/colorize?task_id={quote(task_id, safe='')}&x=1"))[0] == 400
        clock.now += 6
        assert (await client.ask("colorize", task_id))[0] == 404


async def test_an_end_that_was_told_is_never_lost_and_can_be_asked_for_again(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, replace(AT_ONCE, told_seconds=60.0), clock=clock, monotonic=clock) as client:
        client.sandbox.play("error_no_face")
        task_id = await client.started("hair-style")
        assert (await client.said("hair-style", task_id))["error"] == "error_no_face"
        clock.now += 60
        assert (await client.said("hair-style", task_id))["error"] == "error_no_face"
        assert client.sandbox.lost == []
        clock.now += 1
        assert code(await client.ask("hair-style", task_id)) == (404, "InvalidTaskId")


async def test_a_new_task_may_not_be_known_at_once(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, replace(NEVER, unseen_seconds=2.0), clock=clock, monotonic=clock) as client:
        task_id = await client.started("colorize")
        assert code(await client.ask("colorize", task_id)) == (404, "InvalidTaskId")
        clock.now += 2
        assert (await client.said("colorize", task_id))["status"] == "running"
        assert client.sandbox.violations == []


async def test_a_task_id_has_letters_that_must_be_encoded_and_who_forgets_it_is_told(photo: bytes) -> None:
    async with running(photo) as client:
        task_id = await client.started("colorize")
        assert {"+", "/", "="} <= set(task_id)
        assert code(await client.call("GET", f"/task/colorize?task_id={task_id}")) == (404, "InvalidTaskId")
        assert client.sandbox.violations == ["GET task: task_id not URL-encoded"]
        for slug, wrong in (("colorize", "nobody"), ("enhance", task_id)):
            assert code(await client.ask(slug, wrong)) == (404, "InvalidTaskId")
        assert len(client.sandbox.violations) == 3
        await client.ended(task_id)
        assert (await client.said("colorize", task_id))["status"] == "success"


async def test_asking_sooner_than_the_polling_interval_is_noted(photo: bytes) -> None:
    clock = Hands()
    settings = replace(NEVER, poll_seconds=1.5)
    async with running(photo, settings, clock=clock, monotonic=clock) as client:
        task_id = await client.started("colorize")
        for later in (0, 1.5, 1.0):
            clock.now += later
            assert (await client.said("colorize", task_id))["polling_interval"] == 1500
        assert client.sandbox.violations == ["GET task: asked again after 1.00 s, the document says 1.5 s"]


@pytest.mark.parametrize("word", [*ENGINE_ERRORS, "a_code_of_next_year"])
async def test_every_engine_error_can_be_played_and_costs_nothing(photo: bytes, word: str) -> None:
    async with running(photo) as client:
        client.sandbox.play("running", word)
        task_id = await client.started("hair-style")
        assert await client.said("hair-style", task_id) == {"polling_interval": 0, "status": "running"}
        assert await client.said("hair-style", task_id) == {"polling_interval": 0, "status": "error", "error": word}
        assert client.sandbox.charged == []


async def test_an_unknown_status_can_be_played(photo: bytes) -> None:
    async with running(photo) as client:
        client.sandbox.play("status:queued", "success")
        task_id = await client.started("colorize")
        assert (await client.said("colorize", task_id))["status"] == "queued"
        await client.ended(task_id)
        assert (await client.said("colorize", task_id))["status"] == "success"


# -- request_id --------------------------------------------------------------------------------------------------------


async def test_the_same_request_id_is_ignored_whatever_it_asks_for(photo: bytes) -> None:
    async with running(photo) as client:
        body = await client.body("colorize")
        first = (await client.run("colorize", body))[1]["result"]["task_id"]
        assert (await client.run("colorize", body))[1]["result"]["task_id"] == first
        assert client.sandbox.violations == []
        other = {**await client.body("enhance"), "request_id": body["request_id"]}
        assert (await client.run("enhance", other))[1]["result"]["task_id"] == first
        assert len(client.sandbox.violations) == 1
        await client.ended(first)
        assert (len(client.sandbox.tasks), len(client.sandbox.charged)) == (1, 1)
        client.sandbox.settings = replace(AT_ONCE, repeat_answer="nothing")
        assert await client.run("colorize", body) == (200, {"status": 200, "result": {}})
        # What was refused was not run: the same id is still free.
        refused = {**await client.body("colorize", "nobody-gave-this"), "request_id": 99}
        assert (await client.run("colorize", refused))[0] == 400
        good = {**await client.body("colorize"), "request_id": 99}
        assert (await client.run("colorize", good))[1]["result"]["task_id"] != first


async def test_a_request_id_may_count_for_its_file_alone(photo: bytes) -> None:
    async with running(photo, replace(AT_ONCE, request_scope="file")) as client:
        first, second = await client.body("enhance"), await client.body("enhance")
        second["request_id"] = first["request_id"]
        assert (await client.run("enhance", first))[0] == (await client.run("enhance", second))[0] == 200
        assert len(client.sandbox.tasks) == 2
        again = await client.run("enhance", first)
        assert again[1]["result"]["task_id"] in client.sandbox.tasks
        assert len(client.sandbox.tasks) == 2
        assert client.sandbox.violations == []


async def test_a_run_whose_answer_was_lost_is_had_again_by_its_request_id(photo: bytes) -> None:
    async with running(photo) as client:
        body = await client.body("colorize")
        client.sandbox.faults.next("run", faults.DROPPED_BEFORE_WORK)
        client.sandbox.faults.next("run", faults.ANSWER_LOST)
        for tasks in (0, 1):
            with pytest.raises(aiohttp.ClientError):
                await client.run("colorize", body)
            assert len(client.sandbox.tasks) == tasks
        task_id = (await client.run("colorize", body))[1]["result"]["task_id"]
        assert list(client.sandbox.tasks) == [task_id]


# -- a time that is handed in ------------------------------------------------------------------------------------------


async def test_work_takes_its_time_on_a_clock_that_runs_faster(photo: bytes) -> None:
    fast = FastClock(speed=200)
    times: dict[str, Any] = {"clock": fast.seconds, "monotonic": fast.seconds, "sleep": fast.sleep}
    # Kept alive for long: a machine that stalls for 50 ms would lose it otherwise.
    async with running(photo, replace(AT_ONCE, work_seconds=20.0, keep_alive_seconds=1e6), **times) as client:
        before = fast.seconds()
        task_id = await client.started("colorize")
        while (await client.said("colorize", task_id))["status"] == "running":
            await fast.sleep(4)
        assert fast.seconds() - before >= 20


async def test_work_takes_its_time_on_a_clock_that_leaps(photo: bytes) -> None:
    start = 1_736_500_000_000
    racing = RacingClock(start)
    times: dict[str, Any] = {"clock": racing.seconds, "monotonic": racing.seconds, "sleep": racing.sleep}
    async with running(photo, replace(AT_ONCE, work_seconds=9.0), **times) as client:
        task_id = await client.started("colorize")
        await racing.race(start + 8_999)
        assert (await client.said("colorize", task_id))["status"] == "running"
        await racing.race(start + 60_000)
        task = client.sandbox.tasks[task_id]
        assert (task.started_at, task.ended_at) == (start / 1000, start / 1000 + 9)
        assert client.sandbox.charged == [(task_id, Decimal(1))]


async def test_an_url_or_method_that_the_document_has_not_is_refused_in_the_vendors_words(photo: bytes) -> None:
    async with running(photo) as client:
        wanted = {
            "GET /nothing": "NotFound",
            "GET /client/auth": "MethodNotAllowed",
            "PUT /task/sod": "MethodNotAllowed",
        }
        for asked, name in wanted.items():
            method, path = asked.split()
            assert code(await client.call(method, path))[1] == name
        assert len(client.sandbox.violations) == 3


async def test_the_same_photo_gives_the_same_bytes(photo: bytes) -> None:
    async def made(client: Client) -> bytes:
        said = await client.finished("hair-style")
        return (await client.link(said["results"][0]["data"][0]["url"]))[1]

    async with running(photo) as first, running(photo, seed=7) as second:
        assert await made(first) == await made(second)
