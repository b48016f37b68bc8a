"""The VanceAI client keeps its promises against VanceAI's stand-in, over real HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from handlers.sandbox import faults
from handlers.sandbox import vanceai as sandboxes
from handlers.sandbox.faults import Fault
from handlers.sandbox.vanceai import VanceAISandbox, VanceAISettings
from handlers.sandbox.vanceai_webhook import Shape, WebhookPlan
from handlers.vendors.contract import Accepted, InputFile, InputLink, Prepared, Task
from handlers.vendors.vanceai import CODES, PACE, VanceAI
from schemas.callback import Callback, Update, UpdateState, Via
from schemas.job import Charged, ErrorClass
from tests.vendors import clients
from tests.vendors.clients import KEY, Client, error_of, work

pytestmark = pytest.mark.anyio

QUICK = VanceAISettings(work_seconds=0, poll_seconds=0)
# Times out at once where a call is held for ever, and long after any answer that comes.
HASTY = VanceAI(replace(PACE, call=0.5, blocking_call=0.5))
TASK = Task("t1", Prepared({}))


@asynccontextmanager
async def _running(
    settings: VanceAISettings = QUICK, vendor: VanceAI | None = None
) -> AsyncIterator[tuple[Client, VanceAISandbox]]:
    async with (
        VanceAISandbox(settings) as sandbox,
        clients.client(vendor or VanceAI(), sandbox.base_url) as one,
    ):
        yield one, sandbox


def _poll(value: object, status: int = 200) -> Callback:
    return Callback(Via.POLL, json.dumps(value).encode(), status=status)


def _said(status: object, **more: object) -> dict[str, object]:
    return {"code": 200, "data": {"trans_id": "t1", "status": status, **more}}


@pytest.fixture
def image(photos: Path, tmp_path: Path) -> InputFile:
    return clients.picture(photos, "cat.jpg", tmp_path)


async def _submitted(
    one: Client, image: InputFile, operation: str = "enlarge3", **params: Any
) -> tuple[Task, Update | None]:
    job = work(one.vendor, operation, image, **params)
    prepared = await one.vendor.prepare(one.account, job)
    submitted = await one.vendor.submit(one.account, prepared, None, job)
    assert submitted.task_id is not None
    update = None if submitted.reply is None else one.vendor.read(submitted.reply, None)
    return Task(submitted.task_id, prepared), update


# -- the way of a job --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", VanceAI.operations)
async def test_a_job_without_a_webhook_is_finished_by_its_own_answer(operation: str, image: InputFile) -> None:
    params = {"steps": [{"operation": "sharpen3"}, {"operation": "enlarge3"}]} if operation == "workflow" else {}
    async with _running() as (one, sandbox):
        task, update = await _submitted(one, image, operation, **params)
        assert update is not None
        assert (update.state, update.task_id, update.charged) == (UpdateState.SUCCEEDED, task.id, Charged.YES)
        result = await one.fetched(update.outputs[0].source)
        factor = 2 if operation in ("enlarge3", "enlarge", "chainner", "real_esrgan", "workflow") else 1
        assert result.size == (image.width * factor, image.height * factor)
        assert sandbox.violations == []
        assert one.turns.taken == ["upload", "submit", "fetch"]
        # The document gives no price for a workflow.
        charged = [f"{paid:.3f}" for _, paid in sandbox.charged]
        assert charged == [one.vendor.operations[operation].credits or "2.000"]


async def test_the_key_travels_in_bodies_only(image: InputFile) -> None:
    async with _running(replace(QUICK, busy_after=0)) as (one, sandbox):
        sandbox.play("finish")
        task, _ = await _submitted(one, image)
        await one.vendor.ask(one.account, task)
        await sandbox.tasks[task.id].ended.wait()
        await one.fetched({"trans_id": task.id})
        assert {seen.endpoint for seen in sandbox.requests} == {"upload", "transform", "progress", "download"}
        assert all(seen.method == "POST" and not seen.query_names for seen in sandbox.requests)


async def test_a_job_that_is_not_done_in_time_goes_on_as_running(image: InputFile) -> None:
    async with _running(replace(QUICK, busy_after=0, work_seconds=60)) as (one, _):
        _, update = await _submitted(one, image)
        assert update is not None
        assert (update.state, update.raw_state) == (UpdateState.RUNNING, "busy")


@pytest.mark.parametrize("shape", ["json", "form", "empty", "text"])
async def test_a_webhook_is_only_a_hint_and_the_vendor_is_asked(shape: Shape, image: InputFile) -> None:
    heard: list[Callback] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(Callback(Via.WEBHOOK, await request.read(), request.content_type))
        return web.Response()

    async with (
        clients.serving(hear) as url,
        _running(replace(QUICK, webhook=WebhookPlan(shape=shape))) as (one, sandbox),
    ):
        job = work(one.vendor, "enlarge3", image)
        prepared = await one.vendor.prepare(one.account, job)
        submitted = await one.vendor.submit(one.account, prepared, f"{url}/callbacks/vanceai/secret", job)
        assert submitted.task_id is not None
        assert submitted.reply is None
        await sandbox.webhook_sent()
        hint = one.vendor.read(heard[0], None)
        assert hint.state is UpdateState.HINT
        assert hint.task_id == (submitted.task_id if shape in ("json", "form") else None)
        task = Task(submitted.task_id, prepared)
        assert one.vendor.read(await one.vendor.ask(one.account, task), task).state is UpdateState.SUCCEEDED
        assert sandbox.violations == []


async def test_a_webhook_is_never_made_up(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        await _submitted(one, image)
        assert "webhook" not in (await sandbox.seen("transform")).fields


async def test_the_same_upload_submitted_twice_is_charged_once(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        job = work(one.vendor, "matting", image)
        prepared = await one.vendor.prepare(one.account, job)
        sandbox.faults.next("transform", faults.ANSWER_LOST)
        assert (await error_of(one.vendor.submit(one.account, prepared, None, job))).accepted is Accepted.UNKNOWN
        submitted = await one.vendor.submit(one.account, prepared, None, job)
        for _ in range(2):
            await one.fetched({"trans_id": submitted.task_id})
        assert len(sandbox.charged) == 1
        assert len([seen for seen in sandbox.requests if seen.endpoint == "upload"]) == 1


async def test_a_link_is_refused_before_anything_is_sent() -> None:
    async with _running() as (one, sandbox):
        job = work(one.vendor, "matting", InputLink("https://example.com/cat.jpg"))
        error = await error_of(one.vendor.prepare(one.account, job))
        assert (error.error_class, error.permanent) == (ErrorClass.INPUT, True)
        assert sandbox.requests == []


# -- what the vendor says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["waiting", "wait", "process", "webhook", "busy", "Process", "half-baked", 7])
def test_every_state_but_two_means_still_running(word: object) -> None:
    update = VanceAI().read(_poll(_said(word)), TASK)
    assert (update.state, update.raw_state) == (UpdateState.RUNNING, str(word))


def test_fatal_is_a_failure_that_a_new_job_may_mend_and_nobody_pays_for() -> None:
    update = VanceAI().read(_poll(_said("fatal")), TASK)
    assert update.failure is not None
    assert (update.state, update.charged) == (UpdateState.FAILED, Charged.NO)
    assert (update.failure.error_class, update.failure.code, update.failure.retryable) == ("vendor", "fatal", True)


def test_of_a_polled_task_the_result_is_the_one_that_was_asked_for() -> None:
    update = VanceAI().read(_poll(_said("finish", trans_id="another")), TASK)
    assert [dict(found.source) for found in update.outputs] == [{"trans_id": "t1"}]


def test_a_success_without_any_id_is_not_believed() -> None:
    assert VanceAI().read(_poll({"data": {"status": "finish"}}), None).state is UpdateState.RUNNING


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps(_said("finish")).encode(), "application/json"),
        (json.dumps({"event": {"job": [{"trans_id": "t1", "status": "finish"}]}}).encode("utf-16"), "text/plain"),
        (urlencode({"trans_id": "t1", "status": "finish"}).encode(), "application/x-www-form-urlencoded"),
        (urlencode({"data[trans_id]": "t1", "data[status]": "finish"}).encode(), ""),
        (urlencode({"data": json.dumps({"trans_id": "t1", "status": "finish"})}).encode(), "text/html; charset=gbk"),
    ],
)
def test_a_hint_names_its_task_wherever_the_id_stands_and_proves_nothing(body: bytes, content_type: str) -> None:
    update = VanceAI().read(Callback(Via.WEBHOOK, body, content_type), None)
    assert (update.state, update.task_id, update.raw_state) == (UpdateState.HINT, "t1", "finish")
    assert update.outputs == ()


@given(
    clients.any_bodies("code", "msg", "data", "status", "trans_id"),
    clients.CONTENT_TYPES,
    st.sampled_from(Via),
    st.sampled_from([None, 200, 404, 500]),
    st.sampled_from([None, TASK]),
)
def test_no_words_are_strange_enough_to_raise(
    body: bytes, content_type: str, via: Via, status: int | None, task: Task | None
) -> None:
    update = VanceAI().read(Callback(via, body, content_type, status), task)
    assert (update.state is UpdateState.HINT) == (via is Via.WEBHOOK)
    assert (update.failure is not None) == (update.state is UpdateState.FAILED)
    # Whatever is kept of it can be stored.
    json.dumps([update.raw_state, update.task_id, dict(update.raw)], ensure_ascii=False, allow_nan=False).encode()


async def test_numbers_may_be_strings(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        for endpoint in ("upload", "transform", "progress"):
            sandbox.faults.next(endpoint, Fault(after_work=True, change=clients.stringly))
        task, update = await _submitted(one, image)
        assert update is not None
        assert update.state is UpdateState.SUCCEEDED
        assert one.vendor.read(await one.vendor.ask(one.account, task), task).state is UpdateState.SUCCEEDED


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*CODES, 19999])
@pytest.mark.parametrize("endpoint", ["upload", "transform"])
async def test_an_error_code_is_a_no_with_its_class(endpoint: str, code: int, image: InputFile) -> None:
    expected = {10011: {"upload": ErrorClass.INPUT, "transform": ErrorClass.VENDOR}[endpoint]}
    listed = CODES.get(code)
    async with _running() as (one, sandbox):
        sandbox.faults.next(endpoint, sandboxes.error(code))
        error = await error_of(_submitted(one, image))
        assert error.error_class == expected.get(code, listed.error_class if listed else ErrorClass.VENDOR)
        # An internal error may come after the work: the submission is made again, and the bill tells.
        doubtful = endpoint == "transform" and code in (10010, 19999)
        assert (error.code, error.accepted) == (str(code), Accepted.UNLIKELY if doubtful else Accepted.NO)
        transient = code in (10010, 19999) or (endpoint, code) == ("transform", 10011)
        assert error.permanent is not transient


async def test_the_vendors_message_is_flattened_and_our_key_is_taken_out(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        msg = {"api_token": ["The api token field is required.", f"Not {KEY}"], "uid": {"x": 7}}
        sandbox.faults.next("upload", sandboxes.error(30001, msg))
        error = await error_of(_submitted(one, image))
        assert error.message == "api_token: The api token field is required.; Not [redacted]; uid: x: 7"


async def test_neither_the_key_nor_the_callbacks_secret_comes_back_in_an_answer(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        job = work(one.vendor, "matting", image)
        prepared = await one.vendor.prepare(one.account, job)
        reply_to = "http://127.0.0.1:9/callbacks/vanceai/c4llb4ck"
        echo = {"code": 200, "data": {"trans_id": "t1", "status": "fatal"}, "you": [KEY, reply_to]}
        sandbox.faults.next("transform", faults.answering(echo))
        submitted = await one.vendor.submit(one.account, prepared, reply_to, job)
        assert submitted.reply is not None
        assert KEY.encode() not in submitted.reply.body
        assert b"c4llb4ck" not in submitted.reply.body
        sandbox.faults.next("transform", sandboxes.error(10001, f"webhook {reply_to}"))
        assert "c4llb4ck" not in str(await error_of(one.vendor.submit(one.account, prepared, reply_to, job)))


UNKNOWN = {
    "lost": faults.ANSWER_LOST,
    "dropped": faults.DROPPED_BEFORE_WORK,
    "held": faults.HANG_AFTER_WORK,
    "html 500": faults.HTML_500_AFTER_WORK,
    "html 504": Fault(status=504, body=b"<html>", content_type="text/html"),
    "half a JSON": faults.NOT_JSON,
    "html 200": Fault(status=200, body=b"<html>", content_type="text/html"),
    "no trans_id": faults.answering({"code": 200, "data": {"status": "process"}}),
    "truncated": faults.TRUNCATED,
}


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN)
async def test_a_submission_without_a_readable_answer_may_have_been_taken_in(fault: Fault, image: InputFile) -> None:
    async with _running(vendor=HASTY) as (one, sandbox):
        sandbox.faults.next("transform", fault)
        error = await error_of(_submitted(one, image))
        assert (error.accepted, error.permanent) == (Accepted.UNKNOWN, False)


async def test_a_submission_that_never_left_was_not_taken_in(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        job = work(one.vendor, "matting", image)
        prepared = await one.vendor.prepare(one.account, job)
        await sandbox.stop()
        error = await error_of(one.vendor.submit(one.account, prepared, None, job))
        assert (error.accepted, error.permanent, error.code) == (Accepted.NO, False, "connect")


@pytest.mark.parametrize(
    ("status", "error_class", "permanent"),
    [
        (401, "auth", True),
        (403, "auth", True),
        (413, "input", True),
        (429, "rate_limit", False),
        (302, "vendor", False),
    ],
)
async def test_a_refusal_in_front_of_the_vendor_is_a_no(
    status: int, error_class: str, permanent: bool, image: InputFile
) -> None:
    async with _running() as (one, sandbox):
        sandbox.faults.next("transform", Fault(status=status, body=b"<html>", content_type="text/html"))
        error = await error_of(_submitted(one, image))
        assert (error.error_class, error.permanent, error.accepted) == (error_class, permanent, Accepted.NO)


NO_WORD = {
    "lost": faults.ANSWER_LOST,
    "html 500": faults.HTML_500,
    "half a JSON": faults.NOT_JSON,
    "429": Fault(status=429, body=b"slow down", content_type="text/plain"),
    "internal error": sandboxes.error(10010),
    "key refused": sandboxes.error(30001),
    "no credits": sandboxes.error(30004),
    "no status": faults.answering({"code": 200, "data": {}}),
}


@pytest.mark.parametrize("fault", NO_WORD.values(), ids=NO_WORD)
async def test_an_answer_that_says_nothing_of_the_task_does_not_end_it(fault: Fault, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        task, _ = await _submitted(one, image)
        sandbox.faults.next("progress", fault)
        await error_of(one.vendor.ask(one.account, task))
        assert one.vendor.read(await one.vendor.ask(one.account, task), task).state is UpdateState.SUCCEEDED


@pytest.mark.parametrize(
    ("code", "error_class", "retryable"),
    [(10011, "expired", True), (10014, "vendor", True), (10001, "input", False), (19999, "vendor", True)],
)
async def test_a_code_about_the_task_ends_it(code: int, error_class: str, retryable: bool, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        task, _ = await _submitted(one, image)
        sandbox.faults.next("progress", sandboxes.error(code))
        update = one.vendor.read(await one.vendor.ask(one.account, task), task)
        assert update.failure is not None
        assert (update.state, update.charged) == (UpdateState.FAILED, Charged.NO)
        found = (update.failure.error_class, update.failure.code, update.failure.retryable)
        assert found == (error_class, str(code), retryable)


NOT_A_RESULT = {
    "gone": (sandboxes.error(10011), "expired", "10011", True),
    "internal error": (sandboxes.error(10010), "vendor", "10010", False),
    "no credits": (sandboxes.error(30004), "credits", "30004", True),
    "json": (faults.answering({"code": 200}), "vendor", "not_a_picture", False),
    "html": (Fault(status=200, body=b" \n<html>", content_type="image/png"), "vendor", "not_a_picture", False),
    "nothing": (Fault(status=200, content_type="image/png"), "vendor", "not_a_picture", False),
    "html 500": (faults.HTML_500, "vendor", "500", False),
    "lost": (faults.ANSWER_LOST, "vendor", "broken", False),
    "truncated": (faults.TRUNCATED, "vendor", "broken", False),
}


@pytest.mark.parametrize(("fault", "error_class", "code", "permanent"), NOT_A_RESULT.values(), ids=NOT_A_RESULT)
async def test_what_is_no_picture_is_never_a_result(
    fault: Fault, error_class: str, code: str, permanent: bool, image: InputFile
) -> None:
    async with _running() as (one, sandbox):
        task, _ = await _submitted(one, image, "matting")
        sandbox.faults.next("download", fault)
        error = await error_of(one.fetched({"trans_id": task.id}))
        assert (error.error_class, error.code, error.permanent) == (error_class, code, permanent)
        assert (await one.fetched({"trans_id": task.id})).size == (image.width, image.height)


async def test_a_result_that_php_calls_html_is_still_a_picture(image: InputFile) -> None:
    async def give(_: web.Request) -> web.Response:
        return web.Response(body=image.path.read_bytes(), content_type="text/html")

    async with clients.serving(give) as url, clients.client(VanceAI(), url) as one:
        assert (await one.fetched({"trans_id": "t1"})).size == (image.width, image.height)
