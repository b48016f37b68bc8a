"""What VanceAI tells of an account: the balance and where it went; and how each of its six endpoints says no."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.sandbox import faults
from handlers.sandbox import vanceai as sandboxes
from handlers.sandbox.faults import Fault
from handlers.sandbox.vanceai import VanceAISandbox, VanceAISettings
from handlers.vendors.contract import InputFile, Page, Prepared, Purpose, Task
from handlers.vendors.vanceai import CODES, CODES_AT, VanceAI
from schemas.callback import UpdateState
from schemas.job import ErrorClass
from tests.vendors import clients
from tests.vendors.clients import KEY, error_of, work

pytestmark = pytest.mark.anyio

QUICK = VanceAISettings(work_seconds=0, poll_seconds=0)


@asynccontextmanager
async def _running(settings: VanceAISettings = QUICK) -> AsyncIterator[tuple[clients.Client, VanceAI, VanceAISandbox]]:
    vendor = VanceAI()
    async with VanceAISandbox(settings) as sandbox, clients.client(vendor, sandbox.base_url) as one:
        yield one, vendor, sandbox


@pytest.fixture
def image(photos: Path, tmp_path: Path) -> InputFile:
    return clients.picture(photos, "cat.jpg", tmp_path)


async def _task(one: clients.Client, image: InputFile, operation: str = "matting") -> Task:
    job = work(one.vendor, operation, image)
    prepared = await one.vendor.prepare(one.account, job)
    submitted = await one.vendor.submit(one.account, prepared, None, job)
    assert submitted.task_id is not None
    return Task(submitted.task_id, prepared)


# -- the balance -------------------------------------------------------------------------------------------------------


async def test_the_balance_is_what_was_bought_less_what_was_used(image: InputFile) -> None:
    async with _running(replace(QUICK, credits=Decimal(500))) as (one, vendor, sandbox):
        assert (await vendor.credits(one.account)).balance == "500.000"
        await one.fetched({"trans_id": (await _task(one, image, "sharpen3")).id})
        told = await vendor.credits(one.account)
        assert (told.balance, dict(told.raw)) == ("498.000", {"max_num": "500.000", "used_num": "2.000"})
        assert one.turns.taken[-1] == Purpose.LOOK
        assert sandbox.violations == []


@pytest.mark.parametrize(
    ("data", "balance"),
    [
        ({"max_num": "500.000", "used_num": "107.800"}, "392.200"),
        ({"max_num": 500, "used_num": 107.8}, "392.2"),
        ({"max_num": "1", "used_num": "1.5"}, "-0.5"),
        ({"max_num": "500.000"}, None),
        ({"max_num": "a lot", "used_num": "1"}, None),
        ({"max_num": "1e999999999", "used_num": "1"}, None),
        ({"max_num": True, "used_num": []}, None),
        ({"max_num": "NaN", "used_num": "Infinity"}, None),
    ],
)
async def test_a_balance_is_exact_or_not_told(data: dict[str, object], balance: str | None) -> None:
    async with _running() as (one, vendor, sandbox):
        sandbox.faults.next("point", faults.answering({"code": 200, "data": data}))
        told = await vendor.credits(one.account)
        assert (told.balance, dict(told.raw)) == (balance, data)


async def test_the_key_in_the_balances_address_is_told_nowhere() -> None:
    """The document gives this one as a GET with the key in its query: the only one of the six."""

    async def echo(request: web.Request) -> web.StreamResponse:
        said = f"{request.method} {request.path_qs}"
        return web.json_response({"code": 200, "data": {"max_num": "1", "used_num": "0", "asked": said}})

    async with clients.serving(echo) as url, clients.client(VanceAI(), url) as one:
        assert isinstance(one.vendor, VanceAI)
        told = await one.vendor.credits(one.account)
        assert told.raw["asked"] == "GET /point?api_token=[redacted]"
    async with _running() as (one, vendor, sandbox):
        troubles = (faults.HTML_500, faults.ANSWER_LOST, sandboxes.error(30001, {"api_token": [f"not {KEY}"]}))
        for fault in troubles:
            sandbox.faults.next("point", fault)
            # `error_of` looks for the key in all that a traceback would show.
            await error_of(vendor.credits(one.account))
        await sandbox.stop()
        await error_of(vendor.credits(one.account))


# -- the history -------------------------------------------------------------------------------------------------------


async def test_the_history_is_read_page_by_page_and_misses_nothing(image: InputFile) -> None:
    async with _running() as (one, vendor, sandbox):
        for operation in ("matting", "sharpen3", "denoise", "matting", "matting"):
            await one.fetched({"trans_id": (await _task(one, image, operation)).id})
        pages, after = [], None
        while True:
            # Who asks for another size halfway still gets each entry once.
            page = await vendor.credit_history(one.account, after, limit=2 if after is None else 50)
            pages.append(page)
            if (after := page.next) is None:
                break
        assert [len(page.entries) for page in pages] == [2, 2, 1]
        entries = [entry for page in pages for entry in page.entries]
        assert [entry["balance"] for entry in entries] == ["494.000", "495.000", "496.000", "497.000", "499.000"]
        assert [entry["job"] for entry in entries][2:4] == ["denoise", "va_sharpen_standard"]
        assert {entry["point_type"] for entry in entries} == {"download"}
        assert sandbox.violations == []
        assert (await sandbox.seen("record")).query_names == frozenset()


async def test_an_account_without_a_past_has_one_empty_page() -> None:
    async with _running() as (one, vendor, _):
        assert await vendor.credit_history(one.account, None, 20) == Page([], None)


@pytest.mark.parametrize("after", ["", "2", "0x2-20", "-1-20", "2-20-1", "٢-20", "9" * 99 + "-20", "2-"])
async def test_a_cursor_that_nobody_gave_is_the_callers_fault_and_costs_no_request(after: str) -> None:
    async with _running() as (one, vendor, sandbox):
        error = await error_of(vendor.credit_history(one.account, after, 20))
        assert (error.error_class, error.permanent) == (ErrorClass.INPUT, True)
        assert sandbox.requests == []


@pytest.mark.parametrize(
    "data", [None, [], {}, {"datas": "none"}, {"datas": {"0": {"job": "denoise"}}}, {"datas": None, "last_page": 3}]
)
async def test_a_history_that_can_not_be_read_is_an_error_and_no_empty_page(data: object) -> None:
    async with _running() as (one, vendor, sandbox):
        sandbox.faults.next("record", faults.answering({"code": 200, "data": data}))
        assert (await error_of(vendor.credit_history(one.account, None, 20))).code == "unreadable"


@pytest.mark.parametrize(("last", "after"), [("5", "2-20"), (5, "2-20"), (1, None), (None, None), ("many", None)])
async def test_there_is_a_next_page_only_where_the_vendor_says_so(last: object, after: str | None) -> None:
    async with _running() as (one, vendor, sandbox):
        row = {"job": "denoise", "point": "1.000"}
        data = {"datas": [row, "odd"], "last_page": last}
        sandbox.faults.next("record", faults.answering({"code": 200, "data": data}))
        assert await vendor.credit_history(one.account, None, 20) == Page([row], after)


# -- every no, at every endpoint, in both shapes -----------------------------------------------------------------------

Call = Callable[[clients.Client, VanceAI, InputFile, Task], Awaitable[object]]
ENDPOINTS: Mapping[str, Call] = {
    "upload": lambda one, vendor, image, _: vendor.prepare(one.account, work(vendor, "matting", image)),
    "transform": lambda one, vendor, image, task: vendor.submit(
        one.account, task.prepared, None, work(vendor, "matting", image)
    ),
    "download": lambda one, _, __, task: one.fetched({"trans_id": task.id}),
    "point": lambda one, vendor, _, __: vendor.credits(one.account),
    "record": lambda one, vendor, _, __: vendor.credit_history(one.account, None, 20),
}
SHAPES: Mapping[str, tuple[Any, str]] = {
    "string": ("Something is wrong", "Something is wrong"),
    "object": ({"uid": ["The uid field is required.", "Again."]}, "uid: The uid field is required.; Again."),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_code_keeps_its_class_and_its_words_at_every_endpoint(
    endpoint: str, shape: str, image: InputFile
) -> None:
    msg, message = SHAPES[shape]
    async with _running() as (one, vendor, sandbox):
        task = await _task(one, image)
        for code in (*CODES, 19999):
            for given in (code, str(code)):
                sandbox.faults.next(endpoint, faults.answering({"code": given, "msg": msg}))
                error = await error_of(ENDPOINTS[endpoint](one, vendor, image, task))
                listed = CODES_AT.get((endpoint, code)) or CODES.get(code)
                expected = listed.error_class if listed else ErrorClass.VENDOR
                assert (error.error_class, error.code, error.message) == (expected, str(code), message)
                assert error.as_failure().retryable is (listed is None or listed.retryable)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_failed_task_keeps_the_vendors_words_in_either_shape(shape: str, image: InputFile) -> None:
    msg, message = SHAPES[shape]
    async with _running() as (one, vendor, sandbox):
        task = await _task(one, image)
        for code in (10001, 10011, 10012, 10013, 10014, 19999):
            sandbox.faults.next("progress", faults.answering({"code": code, "msg": msg}))
            update = vendor.read(await vendor.ask(one.account, task), task)
            assert update.state is UpdateState.FAILED
            assert update.failure is not None
            assert (update.failure.code, update.failure.message) == (str(code), message)
        for code in (10010, 30001, 30004):
            sandbox.faults.next("progress", faults.answering({"code": code, "msg": msg}))
            error = await error_of(vendor.ask(one.account, task))
            assert (error.code, error.message) == (str(code), message)


def test_a_new_try_is_offered_only_where_it_can_help() -> None:
    """Not for a picture or a param that is wrong, nor while the key is refused or the account is empty."""
    helped = {code for code, meaning in CODES.items() if meaning.retryable}
    assert helped == {10010, 10011, 10014}
    assert {endpoint for (endpoint, _), meaning in CODES_AT.items() if meaning.retryable} == {"transform"}
    assert all(meaning.retryable for meaning in CODES.values() if not meaning.permanent)


async def test_a_proxys_error_page_is_the_vendors_bad_day(image: InputFile) -> None:
    async with _running() as (one, vendor, sandbox):
        task = await _task(one, image)
        for endpoint, call in ENDPOINTS.items():
            sandbox.faults.next(endpoint, Fault(status=502, body=b"<html>", content_type="text/html"))
            error = await error_of(call(one, vendor, image, Task(task.id, Prepared(task.prepared.data))))
            assert (error.error_class, error.code, error.permanent) == (ErrorClass.VENDOR, "502", False)
