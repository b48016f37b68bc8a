"""The PicWish client keeps its promises against PicWish's stand-in, over real HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.sandbox import faults
from handlers.sandbox import picwish as sandboxes
from handlers.sandbox.faults import Fault
from handlers.sandbox.picwish import PicWishSandbox, PicWishSettings
from handlers.vendors.contract import Accepted, InputFile, InputLink, Prepared, Submitted, Task, Window
from handlers.vendors.picwish import FAILURES, PACE, PicWish
from schemas.callback import Update, UpdateState, Via
from schemas.catalogue import params_errors
from schemas.job import Charged, ErrorClass
from tests.vendors import clients
from tests.vendors.clients import KEY, Client, error_of, work

pytestmark = pytest.mark.anyio

CUTOUT = "self-face-cutout"
# The limit itself is kept by the service's turns; here nobody waits.
QUICK = PicWishSettings(work_seconds=0, poll_seconds=0, qps=1000)
HASTY = PicWish(replace(PACE, call=0.5, blocking_call=0.5))
TASK = Task("t1", Prepared({"operation": CUTOUT, "fields": {}}))


class Now:
    """The sandbox's clock."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def _running(
    settings: PicWishSettings = QUICK, vendor: PicWish | None = None, now: Now | None = None
) -> AsyncIterator[tuple[Client, PicWishSandbox]]:
    async with (
        PicWishSandbox(settings, clock=now or Now()) as sandbox,
        clients.client(vendor or PicWish(), sandbox.base_url) as one,
    ):
        yield one, sandbox


@pytest.fixture
def image(photos: Path, tmp_path: Path) -> InputFile:
    return clients.picture(photos, "astronaut.jpg", tmp_path)


async def _answered(
    one: Client, image: InputFile | InputLink, extra: dict[str, Any] | None = None, **params: Any
) -> tuple[Submitted, Prepared]:
    job = work(one.vendor, CUTOUT, image, extra, **params)
    assert params_errors(job.operation, params) == []
    prepared = await one.vendor.prepare(one.account, job)
    return await one.vendor.submit(one.account, prepared, None, job), prepared


async def _submitted(one: Client, image: InputFile | InputLink, **params: Any) -> Task:
    submitted, prepared = await _answered(one, image, **params)
    assert submitted.task_id is not None
    return Task(submitted.task_id, prepared)


async def _asked(one: Client, task: Task) -> Update:
    return one.vendor.read(await one.vendor.ask(one.account, task), task)


async def _done(one: Client, sandbox: PicWishSandbox, image: InputFile | InputLink, **params: Any) -> Update:
    task = await _submitted(one, image, **params)
    await sandbox.tasks[task.id].ended.wait()
    return await _asked(one, task)


# -- the way of a job --------------------------------------------------------------------------------------------------


async def test_image_and_mask_of_an_uploaded_file_are_had(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        update = await _done(one, sandbox, image)
        assert (update.state, update.progress, update.charged) == (UpdateState.SUCCEEDED, 100, Charged.YES)
        assert [(found.name, found.lives_seconds) for found in update.outputs] == [("image", 3600), ("mask", 3600)]
        cutout, mask = [await one.fetched(found.source) for found in update.outputs]
        assert (cutout.format, cutout.mode, cutout.size) == ("PNG", "RGBA", (image.width, image.height))
        assert (mask.mode, mask.size) == ("L", cutout.size)
        assert sandbox.violations == []


async def test_a_link_is_handed_on_unseen(image: InputFile) -> None:
    async def give(_: web.Request) -> web.StreamResponse:
        return web.Response(body=image.path.read_bytes(), content_type="image/jpeg")

    async with clients.serving(give) as url, _running() as (one, sandbox):
        update = await _done(one, sandbox, InputLink(f"{url}/face.jpg?sig=a%2Fb"))
        assert update.state is UpdateState.SUCCEEDED
        seen = await sandbox.seen("create")
        assert seen.fields["image_url"] == f"{url}/face.jpg?sig=a%2Fb"
        assert "image_file" not in seen.fields
        assert sandbox.violations == []


@pytest.mark.parametrize("sync", [1, "1", 1.0])
async def test_a_synchronous_answer_is_already_the_callback(image: InputFile, sync: object) -> None:
    async with _running() as (one, sandbox):
        submitted, _ = await _answered(one, image, sync=sync)
        assert submitted.reply is not None
        assert submitted.reply.via is Via.REPLY
        update = one.vendor.read(submitted.reply, None)
        assert (update.state, update.task_id) == (UpdateState.SUCCEEDED, submitted.task_id)
        assert (await one.fetched(update.outputs[0].source)).size == (image.width, image.height)
        assert sandbox.violations == []


async def test_asynchronous_is_the_default_and_is_always_said(image: InputFile) -> None:
    async with _running(replace(QUICK, work_seconds=60)) as (one, sandbox):
        submitted, _ = await _answered(one, image)
        assert submitted.reply is None
        fields = (await sandbox.seen("create")).fields
        assert {name: fields[name] for name in ("sync", "crop", "output_format")} == {
            "sync": "0",
            "crop": "0",
            "output_format": "png",
        }


async def test_a_blocking_call_waits_longer_than_the_vendor_works() -> None:
    assert PACE.blocking_call > 180
    assert PACE.deadline > 180


async def test_a_synchronous_call_that_runs_out_of_time_may_have_been_taken_in(image: InputFile) -> None:
    async def give(_: web.Request) -> web.StreamResponse:
        return web.Response(body=image.path.read_bytes(), content_type="image/jpeg")

    vendor = PicWish(replace(PACE, call=60, blocking_call=0.3))
    async with clients.serving(give) as url, _running(replace(QUICK, work_seconds=60), vendor) as (one, _):
        error = await error_of(_answered(one, InputLink(f"{url}/face.jpg"), sync=1))
        assert (error.accepted, error.error_class) == (Accepted.UNKNOWN, ErrorClass.TIMEOUT)


async def test_options_reach_the_vendor_and_extra_ones_go_on_top(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        update = await _done(one, sandbox, image, crop=1.0, output_format="jpg")
        cropped = await one.fetched(update.outputs[0].source)
        assert cropped.format == "JPEG"
        assert cropped.width < image.width
        assert sandbox.violations == []
        await error_of(_answered(one, image, {"crop": True, "tint": 2, "size": [3, 4]}))
        fields = (await sandbox.seen("create", 2)).fields
        assert (fields["crop"], fields["tint"], fields["size"]) == ("1", "2", "[3, 4]")


async def test_create_and_query_take_turns_and_downloads_do_not(image: InputFile) -> None:
    assert PACE.windows == (Window("account", 2, 1.0),)
    async with _running() as (one, sandbox):
        update = await _done(one, sandbox, image)
        await one.fetched(update.outputs[0].source)
        assert one.turns.taken == ["submit", "poll"]


async def test_the_key_stays_in_its_header(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        update = await _done(one, sandbox, image)
        await one.fetched(update.outputs[0].source)
        # The sandbox notes a key sent to a result link.
        assert sandbox.violations == []
        assert all(KEY not in f"{seen.path} {seen.fields}" and not seen.query_names for seen in sandbox.requests)


@pytest.mark.parametrize("extra", [None, {"image_url": "https://cdn.example/1.png"}, {"image_file": "x"}])
async def test_neither_none_nor_two_images_are_sent(extra: dict[str, str] | None, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        job = work(one.vendor, CUTOUT, None if extra is None else image, extra)
        error = await error_of(one.vendor.prepare(one.account, job))
        assert (error.error_class, error.permanent) == (ErrorClass.INPUT, True)
        assert sandbox.requests == []


# -- what the vendor says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [0, 2, 3, 4, 5, 6, 17])
async def test_every_state_from_zero_but_one_means_still_running(state: int, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        sandbox.play(state)
        update = await _asked(one, await _submitted(one, image))
        assert (update.state, update.raw_state) == (UpdateState.RUNNING, str(state))
        assert update.progress is not None


@pytest.mark.parametrize("state", [*FAILURES, -99])
async def test_every_negative_state_is_a_failure_with_its_class(state: int, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        sandbox.play(state)
        update = await _asked(one, await _submitted(one, image))
        assert update.failure is not None
        assert (update.state, update.failure.code, update.charged) == (UpdateState.FAILED, str(state), Charged.NO)
        input_at_fault, moderated, worth_another_try = {-3, -5, -7, -14, -17}, {-10, -16}, {-2, -8, -9, -13, -15}
        assert (update.failure.error_class is ErrorClass.INPUT) == (state in input_at_fault)
        assert (update.failure.error_class is ErrorClass.MODERATION) == (state in moderated)
        assert update.failure.retryable == (state in worth_another_try)
        assert update.failure.message != "success"


async def test_a_synchronous_failure_is_a_callback_too(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        sandbox.play(-14)
        submitted, _ = await _answered(one, image, sync=1)
        assert submitted.reply is not None
        assert one.vendor.read(submitted.reply, None).state is UpdateState.FAILED


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_http", [True, False])
@pytest.mark.parametrize(
    ("status", "error_class", "permanent", "accepted"),
    [
        (400, "input", True, Accepted.NO),
        (401, "auth", True, Accepted.NO),
        (404, "vendor", True, Accepted.NO),
        (413, "input", True, Accepted.NO),
        (429, "rate_limit", False, Accepted.NO),
        (500, "vendor", False, Accepted.UNKNOWN),
        # Not in the document: a no, but not one that says that nothing was begun.
        (460, "vendor", False, Accepted.UNLIKELY),
    ],
)
async def test_a_status_means_the_same_in_http_and_in_json(
    status: int, error_class: str, permanent: bool, accepted: Accepted, by_http: bool, image: InputFile
) -> None:
    async with _running() as (one, sandbox):
        body = json.dumps({"status": status, "message": f"no, {KEY}"}).encode()
        sandbox.faults.next("create", Fault(status=status if by_http else 200, body=body))
        error = await error_of(_answered(one, image))
        assert (error.error_class, error.permanent, error.accepted) == (error_class, permanent, accepted)
        assert (error.code, error.message) == (str(status), "no, [redacted]")


async def test_the_wait_that_a_429_asks_for_is_told() -> None:
    async def slow_down(_: web.Request) -> web.StreamResponse:
        return web.json_response({"status": 429}, status=429, headers={"Retry-After": "3"})

    async with clients.serving(slow_down) as url, clients.client(PicWish(), url) as one:
        assert (await error_of(one.vendor.ask(one.account, TASK))).retry_after == 3.0


UNKNOWN = {
    "lost": faults.ANSWER_LOST,
    "dropped": faults.DROPPED_BEFORE_WORK,
    "held": faults.HANG_AFTER_WORK,
    "html 500": faults.HTML_500_AFTER_WORK,
    "half a JSON": faults.NOT_JSON,
    "html 200": Fault(status=200, body=b"<html>", content_type="text/html"),
    "no task_id": faults.answering({"status": 200, "message": "success", "data": {}}),
    "truncated": faults.TRUNCATED,
}


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN)
async def test_a_submission_without_a_readable_answer_may_have_been_taken_in(fault: Fault) -> None:
    async with _running(vendor=HASTY) as (one, sandbox):
        sandbox.faults.next("create", fault)
        error = await error_of(_answered(one, InputLink("http://127.0.0.1:9/face.jpg")))
        assert (error.accepted, error.permanent) == (Accepted.UNKNOWN, False)


async def test_a_submission_that_never_left_was_not_taken_in(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        await sandbox.stop()
        error = await error_of(_answered(one, image))
        assert (error.accepted, error.permanent, error.code) == (Accepted.NO, False, "connect")


NO_WORD = {
    "lost": faults.ANSWER_LOST,
    "html 500": faults.HTML_500,
    "html 404": Fault(status=404, body=b"<html>", content_type="text/html"),
    "half a JSON": faults.NOT_JSON,
    "too often": sandboxes.error(429),
    "key refused": sandboxes.error(401),
    "server trouble": sandboxes.error(500),
    "redirect": Fault(status=302, body=b"<html>", content_type="text/html"),
    "nothing": faults.answering({"status": 200, "data": {}}),
}


@pytest.mark.parametrize("fault", NO_WORD.values(), ids=NO_WORD)
async def test_an_answer_that_says_nothing_of_the_task_does_not_end_it(fault: Fault, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        task = await _submitted(one, image)
        await sandbox.tasks[task.id].ended.wait()
        sandbox.faults.next("query", fault)
        await error_of(one.vendor.ask(one.account, task))
        assert (await _asked(one, task)).state is UpdateState.SUCCEEDED


async def test_after_its_hour_a_task_is_expired_and_so_is_its_link(image: InputFile) -> None:
    now = Now()
    async with _running(now=now) as (one, sandbox):
        task = await _submitted(one, image)
        await sandbox.tasks[task.id].ended.wait()
        link = (await _asked(one, task)).outputs[0].source
        now.seconds += 3601
        update = await _asked(one, task)
        assert update.failure is not None
        assert (update.failure.error_class, update.failure.code, update.charged) == ("expired", "404", Charged.UNKNOWN)
        error = await error_of(one.fetched(link))
        assert (error.error_class, error.permanent) == (ErrorClass.EXPIRED, True)


async def test_a_task_id_cannot_lead_to_another_path() -> None:
    paths: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        paths.append(request.raw_path)
        return web.json_response({"status": 200, "data": {"state": 4}})

    async with clients.serving(note) as url, clients.client(PicWish(), url) as one:
        await one.vendor.ask(one.account, replace(TASK, id="../a/b?c=d#e+f"))
    assert paths == ["/api/tasks/visual/self-face-cutout/..%2Fa%2Fb%3Fc%3Dd%23e%2Bf"]


NOT_A_RESULT = {
    "gone": (Fault(status=403, body=b"<Error/>", content_type="application/xml"), "expired", "403", True),
    "html 500": (faults.HTML_500, "vendor", "500", False),
    "json": (faults.answering({"status": 200}), "vendor", "not_a_picture", False),
    "nothing": (Fault(status=200, content_type="image/png"), "vendor", "not_a_picture", False),
    "truncated": (faults.TRUNCATED, "vendor", "broken", False),
}


@pytest.mark.parametrize(("fault", "error_class", "code", "permanent"), NOT_A_RESULT.values(), ids=NOT_A_RESULT)
async def test_what_is_no_picture_is_never_a_result(
    fault: Fault, error_class: str, code: str, permanent: bool, image: InputFile
) -> None:
    async with _running() as (one, sandbox):
        source = (await _done(one, sandbox, image)).outputs[0].source
        sandbox.faults.next("result", fault)
        error = await error_of(one.fetched(source))
        assert (error.error_class, error.code, error.permanent) == (error_class, code, permanent)
        assert (await one.fetched(source)).size == (image.width, image.height)


@pytest.mark.parametrize(("hops", "code"), [(3, None), (4, "too_many_redirects")])
async def test_a_result_is_followed_over_three_redirects_and_no_further(
    hops: int, code: str | None, image: InputFile
) -> None:
    async def step(request: web.Request) -> web.StreamResponse:
        left = int(request.path.removeprefix("/"))
        if left:
            raise web.HTTPFound(f"/{left - 1}")
        return web.Response(body=image.path.read_bytes(), content_type="image/jpeg")

    async with clients.serving(step) as url, clients.client(PicWish(), url) as one:
        if code is None:
            assert (await one.fetched({"url": f"{url}/{hops}"})).size == (image.width, image.height)
        else:
            error = await error_of(one.fetched({"url": f"{url}/{hops}"}))
            assert (error.code, error.permanent) == (code, True)
