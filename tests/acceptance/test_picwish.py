"""A photograph's way through PicWish, which must be asked: each poll is a callback, and its limit is never broken."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.sandbox import faults
from handlers.sandbox.picwish import MESSAGES, PicWishSandbox, error
from handlers.sandbox.picwish import PicWishSettings as Play
from tests.acceptance.helpers import (
    CUTOUT,
    SIZE,
    Front,
    asked,
    begun,
    done,
    failed_with,
    front,
    heard,
    json_response,
    only_end,
    pictures,
    reached,
    restated,
)
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, server_of, stand

pytestmark = pytest.mark.anyio

CREATE = "/self-face-cutout"


@asynccontextmanager
async def sandbox_at(clock: FastClock, **changes: Any) -> AsyncIterator[PicWishSandbox]:
    """A vendor that lives in the test's time; it takes no time for its work unless told otherwise."""
    settings = Play(**{"work_seconds": 0, "poll_seconds": 0, **changes})
    async with PicWishSandbox(settings, clock=clock.seconds, monotonic=clock.seconds) as sandbox:
        yield sandbox


@asynccontextmanager
async def quick(tmp_path: Path, speed: float = 20, **changes: Any) -> AsyncIterator[Stand]:
    """Service and vendor in the same fast time, so that two requests a second are not two of the wall's seconds."""
    clock = FastClock(speed)
    async with sandbox_at(clock) as sandbox, stand(tmp_path, clock=clock, picwish=sandbox, **changes) as it:
        yield it


@asynccontextmanager
async def behind_a_front(tmp_path: Path, speed: float = 20) -> AsyncIterator[tuple[Stand, Front]]:
    """The same, and a front door of the vendor that can say words of its own."""
    clock = FastClock(speed)
    async with sandbox_at(clock) as sandbox, front(sandbox.base_url) as door:
        own = {"base_url": door.url}
        async with stand(tmp_path, clock=clock, picwish=sandbox, picwish_settings=own) as it:
            yield it, door


# -- good days ---------------------------------------------------------------------------------------------------------


async def test_a_poll_becomes_a_callback_and_goes_the_same_way(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as it, receiver() as subscriber:
        endpoint = await it.client.subscribe(subscriber.url, events=["job.succeeded"])
        job_id = await begun(it.client, CUTOUT, photo)
        (delivery,) = await subscriber.wait_for(1)
        assert delivery.verified(endpoint["secret"])["data"]["id"] == job_id
        job = delivery.event["data"]
        found = await pictures(it.client, job)
        assert list(found) == ["image", "mask"]
        assert (found["image"].mode, found["image"].size) == ("RGBA", SIZE)
        assert (found["mask"].mode, found["mask"].size) == ("L", SIZE)
        # Asynchronous unless somebody asks for more, and said so: the document gives no default.
        create = asked(it.picwish, "create")[0].fields
        assert {name: create[name] for name in ("sync", "crop", "output_format")} == {
            "sync": "0",
            "crop": "0",
            "output_format": "png",
        }
        assert heard(job) == [("poll", "succeeded")]
        # Asked as often as the work took; then nothing but the results was wanted.
        steps = [(name, len(list(times))) for name, times in groupby(seen.endpoint for seen in it.picwish.requests)]
        assert [name for name, _ in steps] == ["create", "query", "result"]
        assert (steps[0][1], steps[2][1]) == (1, 2)
        assert it.picwish.violations == []
        assert it.picwish.charged == [(job["vendor_task_id"], Decimal(1))]
        assert job["billing"]["charged"] == "yes"
        await only_end(it.client, job_id)


async def test_a_synchronous_call_is_its_own_callback(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as it:
        job = await done(it.client, CUTOUT, photo, params={"sync": 1})
        assert list(await pictures(it.client, job)) == ["image", "mask"]
        assert heard(job) == [("reply", "succeeded")]
        assert asked(it.picwish, "create")[0].fields["sync"] == "1"
        assert asked(it.picwish, "query") == []
        assert it.picwish.violations == []
        await only_end(it.client, job["id"])


async def test_crop_and_format_are_what_was_asked_for(tmp_path: Path, photos: Path) -> None:
    async with quick(tmp_path) as it:
        params = {"crop": 1, "output_format": "jpg"}
        job = await done(it.client, CUTOUT, photos / "astronaut.jpg", params=params)
        found = await pictures(it.client, job)
        assert [output["content_type"] for output in job["outputs"]] == ["image/jpeg", "image/png"]
        assert found["image"].size == found["mask"].size
        assert found["image"].width < 512
        assert found["image"].height < 512
        assert it.picwish.violations == []


async def test_a_link_is_handed_on_unseen_where_that_is_wanted(tmp_path: Path, photo: Path) -> None:
    fetched: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        fetched.append(request.headers.get("User-Agent", ""))
        return web.Response(body=photo.read_bytes(), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/cat.jpg", serve)
    async with quick(tmp_path) as it, server_of(app) as origin:
        link = f"{origin}/cat.jpg?signature=s3cret"
        passed = await done(it.client, CUTOUT, None, inputs={"image": {"url": link, "pass": True}})
        assert (await pictures(it.client, passed))["image"].size == SIZE
        assert asked(it.picwish, "create")[0].fields["image_url"] == link
        assert "Wirephoto" not in fetched
        staged = await done(it.client, CUTOUT, None, inputs={"image": {"url": link}})
        await pictures(it.client, staged)
        second = asked(it.picwish, "create")[1].fields
        assert "image_url" not in second
        assert f"{photo.stat().st_size} bytes" in second["image_file"]
        assert fetched[-1] == "Wirephoto"
        assert it.picwish.violations == []


# -- two requests a second -------------------------------------------------------------------------------------------


async def test_the_limit_holds_by_the_wall_clock(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path) as it:
        jobs = await asyncio.gather(*(done(it.client, CUTOUT, photo, params={"sync": n}) for n in (0, 1)))
        for job in jobs:
            await pictures(it.client, job)
        assert len(asked(it.picwish, "create") + asked(it.picwish, "query")) >= 3
        assert it.picwish.violations == []


async def test_the_limit_holds_for_twelve_jobs_of_both_kinds_at_once(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as it:
        kinds = [done(it.client, CUTOUT, photo, params={"sync": number % 2}) for number in range(12)]
        jobs = await asyncio.gather(*kinds)
        for job in jobs:
            assert job["state"] == "succeeded", job["error"]
            await only_end(it.client, job["id"])
        assert it.picwish.violations == []
        assert len(asked(it.picwish, "create")) == len(it.picwish.charged) == 12
        assert {heard(job)[0][0] for job in jobs} == {"poll", "reply"}


async def test_the_limit_holds_across_a_restart_in_the_middle(tmp_path: Path, photo: Path) -> None:
    clock = FastClock()
    async with sandbox_at(clock) as sandbox:
        sandbox.settings = replace(sandbox.settings, work_seconds=(release := asyncio.Event()).wait)
        async with stand(tmp_path, clock=clock, picwish=sandbox) as it:
            ids = [await begun(it.client, CUTOUT, photo) for _ in range(6)]
            await reached(sandbox, "create", 3)
        release.set()
        async with stand(tmp_path, clock=clock, picwish=sandbox) as it, receiver() as subscriber:
            await it.client.subscribe(subscriber.url, events=["job.succeeded", "job.failed"])
            for job_id in ids:
                if (await it.client.job(job_id))["finished_at"] is None:
                    await subscriber.event_of(job_id)
                assert (await it.client.job(job_id))["state"] == "succeeded"
                await only_end(it.client, job_id)
        assert sandbox.violations == []
        # Nothing that was begun is begun again: each create is one job's, and one charge.
        assert len(asked(sandbox, "create")) == len(sandbox.charged) == 6


@pytest.mark.parametrize("wait", ["", "3"], ids=["without", "with Retry-After"])
async def test_too_many_requests_is_a_wait_and_never_an_end(tmp_path: Path, photo: Path, wait: str) -> None:
    headers = {"Retry-After": wait} if wait else {}

    def refusal() -> web.Response:
        return json_response({"status": 429, "message": MESSAGES[429]}, 429, **headers)

    async with behind_a_front(tmp_path, speed=50) as (it, door):
        door.answers = {CREATE: [refusal() for _ in range(3)]}
        job = await done(it.client, CUTOUT, photo)
        await pictures(it.client, job)
        assert (job["billing"]["possible_duplicate"], len(it.picwish.charged)) == (False, 1)
        door.answers = {"": [None, refusal(), refusal()]}
        job = await done(it.client, CUTOUT, photo)
        await pictures(it.client, job)
        assert heard(job) == [("poll", "succeeded")]
        assert it.picwish.violations == []
        await only_end(it.client, job["id"])


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_retry_after_is_obeyed(tmp_path: Path, photo: Path) -> None:
    async with behind_a_front(tmp_path, speed=100) as (it, door):
        refused = json_response({"status": 429, "message": MESSAGES[429]}, 429, **{"Retry-After": "30"})
        door.answers = {CREATE: [refused]}
        job = await done(it.client, CUTOUT, photo)
        _, timeline = await it.client.call("GET", f"/v1/jobs/{job['id']}/timeline")
        first, second = (entry["at"] for entry in timeline["data"] if entry["step"] == "submitted")
        assert seconds(second) - seconds(first) >= 30


# -- states and codes --------------------------------------------------------------------------------------------------


async def test_every_state_that_is_not_an_end_means_running(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path, speed=50) as it:
        states = (0, 2, 3, 4, 5, 6, 7, 99)
        it.picwish.play(*states, 1)
        job = await done(it.client, CUTOUT, photo)
        await pictures(it.client, job)
        assert len(asked(it.picwish, "query")) == len(states) + 1
        assert heard(job) == [("poll", "succeeded")]
        assert it.picwish.violations == []


FAILURES: Mapping[int, str] = {
    -1: "vendor",
    -2: "vendor",
    -3: "input",
    -5: "input",
    -7: "input",
    -8: "timeout",
    -9: "vendor",
    -10: "moderation",
    -11: "vendor",
    -13: "vendor",
    -14: "input",
    -15: "vendor",
    -16: "moderation",
    -17: "input",
    -99: "vendor",
}


@pytest.mark.parametrize("sync", [0, 1])
async def test_every_failure_keeps_its_class_and_its_code(tmp_path: Path, photo: Path, sync: int) -> None:
    async with quick(tmp_path, speed=200) as it:
        for state, error_class in FAILURES.items():
            it.picwish.play(state)
            job = await done(it.client, CUTOUT, photo, params={"sync": sync})
            await failed_with(it.client, job, error_class, str(state))
            assert job["billing"]["charged"] == "no"
        assert asked(it.picwish, "result") == []
        assert it.picwish.violations == []


@pytest.mark.parametrize(("status", "error_class"), [(400, "input"), (404, "vendor"), (413, "input")])
async def test_a_refused_create_keeps_its_class_and_its_code(
    tmp_path: Path, photo: Path, status: int, error_class: str
) -> None:
    async with quick(tmp_path) as it:
        it.picwish.faults.next("create", error(status), times=50)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, error_class, str(status))
        assert len(asked(it.picwish, "create")) == 1
        assert job["billing"] == {"credits": None, "charged": "no", "possible_duplicate": False}


@pytest.mark.parametrize(
    "fault",
    [
        error(500),
        faults.HTML_500,
        faults.NOT_JSON,
        faults.DROPPED_BEFORE_WORK,
        error(401),
        faults.answering({"status": 200, "message": "success"}),
        faults.answering([1, 2, 3]),
        faults.Fault(change=restated({"state": "done"})),
    ],
)
async def test_a_bad_answer_to_a_question_is_asked_again(tmp_path: Path, photo: Path, fault: faults.Fault) -> None:
    async with quick(tmp_path, speed=100) as it:
        it.picwish.faults.next("query", fault, times=2)
        job = await done(it.client, CUTOUT, photo)
        await pictures(it.client, job)
        assert len(asked(it.picwish, "query")) == 3
        assert len(asked(it.picwish, "create")) == 1
        await only_end(it.client, job["id"])


async def test_a_task_that_is_not_known_yet_is_asked_for_again(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path, speed=100) as it:
        it.picwish.faults.next("query", error(404))
        await pictures(it.client, await done(it.client, CUTOUT, photo))
        assert (len(asked(it.picwish, "query")), len(asked(it.picwish, "create"))) == (2, 1)


async def test_a_task_that_the_vendor_has_forgotten_is_expired(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as it:
        it.picwish.faults.next("query", error(404), times=99)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "expired", "404")


async def test_success_without_a_picture_is_no_success(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path) as it:
        it.picwish.faults.next("query", faults.Fault(change=restated({"image": None})), times=9)
        it.picwish.play(1)
        job = await done(it.client, CUTOUT, photo)
        assert job["state"] == "failed", job
        assert (job["error"]["class"], job["error"]["code"]) == ("vendor", "no_image")
        await only_end(it.client, job["id"])


async def test_a_task_that_never_ends_is_given_up_after_our_deadline_and_not_before(
    tmp_path: Path, photo: Path
) -> None:
    async with quick(tmp_path, speed=400) as it:
        it.picwish.play(4)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "timeout", "deadline")
        # The vendor itself may take 180 s.
        assert seconds(job["finished_at"]) - seconds(job["submitted_at"]) > 180
        assert job["billing"]["charged"] == "unknown"


# -- lost answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [0, 1])
@pytest.mark.parametrize("fault", [faults.ANSWER_LOST, faults.HTML_500_AFTER_WORK], ids=["lost", "html"])
async def test_a_lost_answer_is_submitted_once_more_and_that_is_told(
    tmp_path: Path, photo: Path, sync: int, fault: faults.Fault
) -> None:
    async with quick(tmp_path, speed=200) as it:
        it.picwish.faults.next("create", fault)
        job = await done(it.client, CUTOUT, photo, params={"sync": sync})
        await pictures(it.client, job)
        assert len(asked(it.picwish, "create")) == job["submissions"] == 2
        assert job["billing"]["possible_duplicate"]
        await only_end(it.client, job["id"])


async def test_a_second_lost_answer_is_the_end(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path, speed=200) as it:
        it.picwish.faults.next("create", faults.ANSWER_LOST, times=9)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "unconfirmed", "no_answer")
        # No idempotency key at this vendor: each further submission would be a further bill.
        assert len(asked(it.picwish, "create")) == job["submissions"] == 2
        assert (job["billing"]["charged"], job["billing"]["possible_duplicate"]) == ("unknown", True)


async def test_whoever_wants_no_second_bill_gets_none(tmp_path: Path, photo: Path) -> None:
    async with quick(tmp_path, speed=200, picwish_settings={"unconfirmed": "fail"}) as it:
        it.picwish.faults.next("create", faults.ANSWER_LOST)
        job = await done(it.client, CUTOUT, photo)
        await failed_with(it.client, job, "unconfirmed", "no_answer")
        assert len(asked(it.picwish, "create")) == job["submissions"] == 1
        assert (job["billing"]["charged"], job["billing"]["possible_duplicate"]) == ("unknown", False)


async def test_a_refusal_after_a_lost_answer_does_not_claim_that_nothing_was_charged(
    tmp_path: Path, photo: Path
) -> None:
    async with quick(tmp_path, speed=200) as it, receiver() as told:
        await it.client.subscribe(told.url, events=["vendor.*"])
        it.picwish.faults.next("create", faults.ANSWER_LOST)
        it.picwish.faults.next("create", error(401), times=9)
        job_id = await begun(it.client, CUTOUT, photo)
        await told.wait_for(1, "vendor.unavailable")
        job = await it.client.job(job_id)
        assert job["finished_at"] is None
        assert job["billing"]["charged"] == "unknown"
        assert len(it.picwish.charged) == 1
