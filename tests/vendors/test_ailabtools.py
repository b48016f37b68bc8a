"""The AILabTools client keeps its promises against AILabTools' stand-in, over real HTTP."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from handlers.sandbox import ailabtools as sandboxes
from handlers.sandbox import faults
from handlers.sandbox.ailabtools import AILabToolsSandbox, AILabToolsSettings
from handlers.sandbox.faults import Fault
from handlers.vendors.ailabtools import PACE, QUERY_PATH, AILabTools
from handlers.vendors.contract import (
    Accepted,
    Credits,
    InputFile,
    InputLink,
    Prepared,
    Submitted,
    Task,
    TellsCredits,
    Work,
)
from schemas.callback import Update, UpdateState, Via
from schemas.catalogue import params_errors
from schemas.job import Charged, ErrorClass
from tests.vendors import clients
from tests.vendors.clients import KEY, Client, error_of

pytestmark = pytest.mark.anyio

RETOUCH, REFINE = "photo-retouching", "try-on-clothes-refiner"
PAID_CALLS = pytest.mark.parametrize(("operation", "endpoint"), [(RETOUCH, "retouch"), (REFINE, "refine")])
QUICK = AILabToolsSettings(work_seconds=0, poll_seconds=0)
HASTY = AILabTools(replace(PACE, call=0.5, blocking_call=0.5))
TASK = Task("t1", Prepared({"operation": REFINE, "fields": {}}))
SIZE = (200, 160)

Pictures = Mapping[str, InputFile]


class Now:
    """The sandbox's clock."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def _running(
    settings: AILabToolsSettings = QUICK, vendor: AILabTools | None = None, now: Now | None = None
) -> AsyncIterator[tuple[Client, AILabToolsSandbox]]:
    async with (
        AILabToolsSandbox(settings, clock=now or Now()) as sandbox,
        clients.client(vendor or AILabTools(), sandbox.base_url) as one,
    ):
        yield one, sandbox


@pytest.fixture
def pictures(photos: Path, tmp_path: Path) -> Pictures:
    """One for each input of both operations, in every format that its document takes."""
    kinds = {"image": "png", "style": "jpeg", "person_image": "jpeg", "top_garment": "png", "coarse_image": "bmp"}
    made = {}
    for name, kind in {**kinds, "bottom_garment": "bmp"}.items():
        # As the service names them: by the content type, and not as the vendor expects.
        path = tmp_path / f"ast_{name}.{kind}"
        with Image.open(photos / "astronaut.jpg") as image:
            image.resize(SIZE).save(path)
        made[name] = InputFile(path, f"image/{kind}", path.name, path.stat().st_size, *SIZE)
    return made


def _work(operation: str, pictures: Pictures, extra: Mapping[str, Any] | None = None, **params: Any) -> Work:
    found = AILabTools.operations[operation]
    wanted = params or ({"gender": "woman"} if operation == REFINE else {})
    assert params_errors(found, wanted) == []
    named = {spec.name: pictures[spec.name] for spec in found.inputs if spec.name in pictures}
    return Work("job_1", found, wanted, extra or {}, named)


async def _answered(one: Client, work: Work) -> tuple[Submitted, Prepared]:
    prepared = await one.vendor.prepare(one.account, work)
    # What is saved must come back as it was.
    again = Prepared(json.loads(json.dumps(dict(prepared.data))))
    return await one.vendor.submit(one.account, again, None, work), again


async def _submitted(one: Client, pictures: Pictures) -> Task:
    submitted, prepared = await _answered(one, _work(REFINE, pictures))
    assert submitted.reply is None
    assert submitted.task_id is not None
    return Task(submitted.task_id, prepared)


async def _asked(one: Client, task: Task) -> Update:
    return one.vendor.read(await one.vendor.ask(one.account, task), task)


async def _done(one: Client, sandbox: AILabToolsSandbox, pictures: Pictures) -> Update:
    task = await _submitted(one, pictures)
    await sandbox.tasks[task.id].ended.wait()
    return await _asked(one, task)


# -- the way of a job --------------------------------------------------------------------------------------------------


async def test_a_retouch_is_answered_with_its_own_callback(pictures: Pictures) -> None:
    async with _running() as (one, sandbox):
        submitted, prepared = await _answered(one, _work(RETOUCH, pictures))
        assert submitted.reply is not None
        assert submitted.task_id is not None
        assert submitted.reply.via is Via.REPLY
        update = one.vendor.read(submitted.reply, None)
        # It means the same to whoever knows the id already.
        assert one.vendor.read(submitted.reply, Task(submitted.task_id, prepared)) == update
        assert (update.state, update.charged) == (UpdateState.SUCCEEDED, Charged.YES)
        # No task that could be asked for: the request's own id, which the vendor's support wants to know.
        assert submitted.task_id == update.task_id == next(iter(sandbox.tasks))
        assert [(found.name, found.lives_seconds) for found in update.outputs] == [("image", 86_400)]
        assert (await one.fetched(update.outputs[0].source)).size == SIZE
        assert one.turns.taken == ["submit"]
        assert sandbox.violations == []


async def test_a_refinement_sends_all_six_fields_and_is_asked_for(pictures: Pictures) -> None:
    async with _running() as (one, sandbox):
        update = await _done(one, sandbox, pictures)
        assert (update.state, update.progress, update.charged) == (UpdateState.SUCCEEDED, 100, Charged.YES)
        assert (await one.fetched(update.outputs[0].source)).size == SIZE
        assert update.raw["usage"] == {"image_count": 1}
        fields = (await sandbox.seen("refine")).fields
        assert (fields["task_type"], fields["gender"]) == ("async", "woman")
        assert {name: text.partition(",")[0] for name, text in fields.items() if "<" in text} == {
            "person_image": "<person_image.jpg",
            "top_garment": "<top_garment.png",
            "coarse_image": "<coarse_image.bmp",
            "bottom_garment": "<bottom_garment.bmp",
        }
        assert one.turns.taken == ["submit", "poll"]
        assert sandbox.violations == []


async def test_a_refinement_needs_no_bottom_garment_and_takes_a_man_too(pictures: Pictures) -> None:
    async with _running() as (one, sandbox):
        three = {name: picture for name, picture in pictures.items() if name != "bottom_garment"}
        submitted, _ = await _answered(one, _work(REFINE, three, gender="man"))
        assert submitted.task_id is not None
        fields = (await sandbox.seen("refine")).fields
        assert "bottom_garment" not in fields
        assert fields["gender"] == "man"
        assert sandbox.violations == []


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        (REFINE, {}),
        (REFINE, {"gender": "female"}),
        (REFINE, {"gender": "man", "task_type": "async"}),
        (RETOUCH, {"x": 1}),
    ],
)
def test_a_param_out_of_its_documented_range_is_refused(operation: str, params: dict[str, Any]) -> None:
    assert params_errors(AILabTools.operations[operation], params) != []


async def test_extra_goes_on_top_and_never_takes_a_pictures_place(pictures: Pictures) -> None:
    async with _running() as (one, sandbox):
        await error_of(_answered(one, _work(RETOUCH, pictures, {"strength": 2, "auto": True})))
        fields = (await sandbox.seen("retouch")).fields
        assert (fields["strength"], fields["auto"]) == ("2", "true")
        error = await error_of(_answered(one, _work(RETOUCH, pictures, {"style": "https://x.example/1.png"})))
        assert (error.error_class, error.permanent) == (ErrorClass.INPUT, True)
        link = replace(_work(RETOUCH, pictures), inputs={"image": InputLink("https://x.example/1.png")})
        error = await error_of(_answered(one, link))
        assert (error.error_class, error.permanent) == (ErrorClass.INPUT, True)
        assert len(sandbox.requests) == 1


async def test_the_key_stays_in_its_header(pictures: Pictures) -> None:
    async with _running() as (one, sandbox):
        update = await _done(one, sandbox, pictures)
        await one.fetched(update.outputs[0].source)
        # The sandbox notes a key sent to a result link.
        assert sandbox.violations == []
        assert all(KEY not in f"{seen.path} {seen.fields}" for seen in sandbox.requests)
        assert {seen.query_names for seen in sandbox.requests} == {frozenset(), frozenset({"task_id"})}


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("below", [set(), {"task_id", "task_status"}, {"task_id", "task_status", "output", "usage"}])
async def test_a_task_is_read_wherever_its_fields_stand(newest: bool, below: set[str], pictures: Pictures) -> None:
    async with _running(replace(QUICK, under_data=frozenset(below), newest=newest)) as (one, sandbox):
        assert (await _done(one, sandbox, pictures)).state is UpdateState.SUCCEEDED
        submitted, _ = await _answered(one, _work(RETOUCH, pictures))
        assert submitted.reply is not None
        sandbox.play(1, "ERROR_BLURRY_FACE")
        task = await _submitted(one, pictures)
        assert (await _asked(one, task)).raw_state == "1"
        update = await _asked(one, task)
        assert update.failure is not None
        assert (update.failure.code, update.failure.error_class) == ("ERROR_BLURRY_FACE", ErrorClass.INPUT)


async def _credits(one: Client) -> Credits:
    assert isinstance(one.vendor, TellsCredits)
    return await one.vendor.credits(one.account)


# -- what is left ------------------------------------------------------------------------------------------------------


async def test_the_balance_is_the_sum_of_all_pools(pictures: Pictures) -> None:
    pools = {"common": Decimal("100.25"), "image_photo_editing": Decimal("0.5")}
    async with _running(replace(QUICK, credits=pools)) as (one, sandbox):
        assert (await _credits(one)).balance == "100.75"
        await _answered(one, _work(RETOUCH, pictures))
        one.turns.taken.clear()
        told = await _credits(one)
        assert told.balance == "97.75"
        assert [pool["unique_sign"] for pool in told.raw["data"]] == ["common", "image_photo_editing"]
        assert one.turns.taken == ["look"]
        sandbox.settings = replace(sandbox.settings, credits_alone=True)
        assert (await _credits(one)).balance == "97.25"
        assert sandbox.violations == []


@pytest.mark.parametrize(
    ("data", "balance"), [([], "0"), ([{"balance": "7.10"}], "7.10"), ([{"balance": None}, {"balance": 3}], None)]
)
async def test_a_balance_that_cannot_be_read_is_not_made_up(data: object, balance: str | None) -> None:
    async with _running() as (one, sandbox):
        sandbox.faults.next("credits", faults.answering({"error_code": 0, "data": data, "error_msg": KEY}))
        told = await _credits(one)
        assert told.balance == balance
        assert KEY not in str(told)


# -- results -----------------------------------------------------------------------------------------------------------


async def test_after_its_day_a_task_is_expired_and_so_is_its_link(pictures: Pictures) -> None:
    now = Now()
    async with _running(now=now) as (one, sandbox):
        task = await _submitted(one, pictures)
        await sandbox.tasks[task.id].ended.wait()
        link = (await _asked(one, task)).outputs[0].source
        now.seconds += 24 * 3600 + 1
        for gone in ("ERROR_RESOURCE_NOT_FOUND", "ERROR_RESOURCE_RECLAIMED"):
            sandbox.settings = replace(sandbox.settings, gone=gone)
            update = await _asked(one, task)
            assert update.failure is not None
            assert (update.failure.error_class, update.failure.code) == ("expired", gone)
            assert update.charged is Charged.UNKNOWN
        error = await error_of(one.fetched(link))
        assert (error.error_class, error.permanent) == (ErrorClass.EXPIRED, True)


async def test_a_task_id_cannot_lead_to_another_question() -> None:
    urls: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        urls.append(request.raw_path)
        return web.json_response({"error_code": 0, "task_status": 1})

    async with clients.serving(note) as url, clients.client(AILabTools(), url) as one:
        await one.vendor.ask(one.account, replace(TASK, id="../a&task_id=b#c+d"))
    assert urls == [f"{QUERY_PATH}?task_id=..%2Fa%26task_id%3Db%23c%2Bd"]


async def test_a_vendor_that_has_moved_is_asked_where_the_operator_says(pictures: Pictures) -> None:
    moved = replace(QUICK, query_path="/v2/task", credits_path="/v2/credits")
    async with _running(moved, AILabTools(query_path="/v2/task", credits_path="/v2/credits")) as (one, sandbox):
        assert (await _done(one, sandbox, pictures)).state is UpdateState.SUCCEEDED
        await one.vendor.try_credentials(one.account)
        assert sandbox.violations == []


NOT_A_RESULT = {
    "gone": (Fault(status=403, body=b"<Error/>", content_type="application/xml"), "expired", "403", True),
    "html 500": (faults.HTML_500, "vendor", "500", False),
    "json": (faults.answering({"error_code": 0}), "vendor", "not_a_picture", False),
    "nothing": (Fault(status=200, content_type="image/png"), "vendor", "not_a_picture", False),
    "truncated": (faults.TRUNCATED, "vendor", "broken", False),
}


@pytest.mark.parametrize(("fault", "error_class", "code", "permanent"), NOT_A_RESULT.values(), ids=NOT_A_RESULT)
async def test_what_is_no_picture_is_never_a_result(
    fault: Fault, error_class: str, code: str, permanent: bool, pictures: Pictures
) -> None:
    async with _running() as (one, sandbox):
        source = (await _done(one, sandbox, pictures)).outputs[0].source
        sandbox.faults.next("result", fault)
        error = await error_of(one.fetched(source))
        assert (error.error_class, error.code, error.permanent) == (error_class, code, permanent)
        assert (await one.fetched(source)).size == SIZE


# -- lost answers ------------------------------------------------------------------------------------------------------

UNKNOWN = {
    "lost": faults.ANSWER_LOST,
    "dropped": faults.DROPPED_BEFORE_WORK,
    "held": faults.HANG_AFTER_WORK,
    "html 502": Fault(status=502, body=b"<html>", content_type="text/html", after_work=True),
    "half a JSON": faults.NOT_JSON,
    "html 200": Fault(status=200, body=b"<html>", content_type="text/html"),
    "no result": faults.answering({"error_code": 0, "data": {"image_url": ""}, "request_id": "r"}),
    "truncated": faults.TRUNCATED,
}


@PAID_CALLS
@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN)
async def test_a_submission_without_a_readable_answer_may_have_been_taken_in(
    fault: Fault, operation: str, endpoint: str, pictures: Pictures
) -> None:
    async with _running(vendor=HASTY) as (one, sandbox):
        sandbox.faults.next(endpoint, fault)
        error = await error_of(_answered(one, _work(operation, pictures)))
        assert (error.accepted, error.permanent) == (Accepted.UNKNOWN, False)


@PAID_CALLS
async def test_a_submission_that_never_left_was_not_taken_in(operation: str, endpoint: str, pictures: Pictures) -> None:
    async with _running() as (one, sandbox):
        await sandbox.stop()
        error = await error_of(_answered(one, _work(operation, pictures)))
        assert (error.accepted, error.permanent, error.code) == (Accepted.NO, False, "connect")
        assert len(sandbox.requests) == 0, endpoint


async def test_a_retouch_waits_longer_than_a_call_that_only_begins_the_work(pictures: Pictures) -> None:
    assert (PACE.blocking_call, PACE.call, PACE.interval, PACE.windows) == (120, 60, 5, ())
    vendor = AILabTools(replace(PACE, call=60, blocking_call=0.3))
    async with _running(replace(QUICK, work_seconds=60), vendor) as (one, _):
        error = await error_of(_answered(one, _work(RETOUCH, pictures)))
        assert (error.accepted, error.error_class) == (Accepted.UNKNOWN, ErrorClass.TIMEOUT)


NO_WORD = {
    "lost": faults.ANSWER_LOST,
    "html 500": faults.HTML_500,
    "html 404": Fault(status=404, body=b"<html>", content_type="text/html"),
    "half a JSON": faults.NOT_JSON,
    "too often": sandboxes.error("EXCEEDING_LIMITS"),
    "no credits for a question": sandboxes.error("ERROR_NOT_ENOUGH_CREDITS"),
    "key refused": sandboxes.error("ERROR_USER_NOT_EXISTS"),
    "address unknown": sandboxes.error("ERROR_AI_NOT_EXISTS"),
    "redirect": Fault(status=302, body=b"<html>", content_type="text/html"),
    "bare 503": faults.answering({"error_code": 503}, 503),
    "own trouble": faults.answering({"error_detail": {"code": "UNKNOWN_ERROR"}}, 500),
    "nothing": faults.answering({"error_code": 0}),
    "a fine 502": faults.answering({"error_code": 0, "task_status": 3}, 502),
    "every type wrong": faults.WRONG_TYPES,
}


@pytest.mark.parametrize("fault", NO_WORD.values(), ids=NO_WORD)
async def test_an_answer_that_says_nothing_of_the_task_does_not_end_it(fault: Fault, pictures: Pictures) -> None:
    async with _running() as (one, sandbox):
        sandbox.play(1, 2)
        task = await _submitted(one, pictures)
        await sandbox.tasks[task.id].ended.wait()
        sandbox.faults.next("query", fault)
        if fault is faults.WRONG_TYPES:
            # Numbers as strings are read all the same.
            assert (await _asked(one, task)).raw_state == "1"
        else:
            await error_of(one.vendor.ask(one.account, task))
            sandbox.tasks[task.id].script.clear()
        assert (await _asked(one, task)).state is UpdateState.SUCCEEDED
