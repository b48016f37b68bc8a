"""What the Perfect Corp client makes of bad days: lost answers, full windows, dead links, words that are no words."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from handlers.sandbox import faults
from handlers.sandbox.faults import Fault
from handlers.sandbox.perfectcorp_accounts import SEED_LIMITS
from handlers.sandbox.perfectcorp_words import error
from handlers.vendors.contract import Accepted, Prepared, Task
from handlers.vendors.perfectcorp import PACE, QUERY_SECONDS, PerfectCorp
from handlers.vendors.perfectcorp_auth import MEMORY, Token
from schemas.callback import UpdateState
from schemas.job import ErrorClass
from tests.vendors import clients
from tests.vendors.clients import error_of
from tests.vendors.perfectcorp_by_hand import AT_ONCE
from tests.vendors.perfectcorp_rig import Rig, rig

pytestmark = pytest.mark.anyio

HASTY = PerfectCorp(replace(PACE, call=0.4))


@pytest.fixture
async def it(photos: Path, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(photos, tmp_path) as running:
        yield running


# -- the paid call -----------------------------------------------------------------------------------------------------

UNKNOWN = {
    "lost": faults.ANSWER_LOST,
    "dropped": faults.DROPPED_BEFORE_WORK,
    "held": faults.HANG_AFTER_WORK,
    "html 500": faults.HTML_500_AFTER_WORK,
    "its own 500": error("InternalError"),
    "half a JSON": faults.NOT_JSON,
    "html 200": Fault(status=200, body=b"<html>", content_type="text/html"),
    "no task_id": faults.answering({"status": 200, "result": {}}),
    "truncated": faults.TRUNCATED,
}


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN)
async def test_a_run_without_a_readable_answer_may_have_been_taken_in_and_is_not_paid_twice(
    fault: Fault, photos: Path, tmp_path: Path
) -> None:
    async with rig(photos, tmp_path, vendor=HASTY) as it:
        job, prepared = await it.prepared()
        it.sandbox.faults.next("run", fault)
        error = await error_of(it.vendor.submit(it.account, prepared, None, job))
        assert (error.accepted, error.permanent) == (Accepted.UNKNOWN, False)
        task = await it.handed_in(job, prepared)
        await it.sandbox.tasks[task.id].ended.wait()
        assert len(it.sandbox.tasks) == len(it.sandbox.charged) == 1


@pytest.mark.parametrize(
    ("fault", "error_class", "permanent"),
    [
        (error("invalid_parameter"), "input", True),
        (error("CreditInsufficiency"), "credits", True),
        (error("InvalidFileId"), "input", True),
        (error("InvalidFileId", "errorCode"), "input", True),
        (error("NotFound"), "vendor", True),
        (error("TooManyRequests"), "rate_limit", False),
    ],
)
async def test_a_run_that_was_refused_was_not_taken_in(
    fault: Fault, error_class: str, permanent: bool, it: Rig
) -> None:
    job, prepared = await it.prepared()
    it.sandbox.faults.next("run", fault)
    refused = await error_of(it.vendor.submit(it.account, prepared, None, job))
    assert (refused.error_class, refused.permanent, refused.accepted) == (error_class, permanent, Accepted.NO)


async def test_a_run_that_never_left_was_not_taken_in(it: Rig) -> None:
    job, prepared = await it.prepared()
    await it.sandbox.stop()
    error = await error_of(it.vendor.submit(it.account, prepared, None, job))
    assert (error.accepted, error.permanent, error.code) == (Accepted.NO, False, "connect")


async def test_without_a_token_nothing_was_handed_in(it: Rig) -> None:
    job, prepared = await it.prepared()
    it.sandbox.tokens.revoke()
    it.sandbox.faults.next("auth", faults.HTML_500)
    error = await error_of(it.vendor.submit(it.account, prepared, None, job))
    assert (error.accepted, error.permanent) == (Accepted.NO, False)


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
async def test_a_full_window_is_told_with_the_wait_that_the_vendor_asks_for(
    told: bool, photos: Path, tmp_path: Path
) -> None:
    async with rig(photos, tmp_path, replace(AT_ONCE, limits=SEED_LIMITS, retry_after=told)) as it:
        it.sandbox.play("running")
        task = await it.submitted()
        for _ in range(100 - 3):
            await it.asked(task)
        error = await error_of(it.vendor.ask(it.account, task))
        assert (error.error_class, error.code) == (ErrorClass.RATE_LIMIT, "TooManyRequests")
        assert error.retry_after == (300 if told else None)
        assert not error.permanent
        assert it.taken.count("poll") == 98, "a refusal is not answered with another request"


# -- questions ---------------------------------------------------------------------------------------------------------

NO_WORD = {
    "lost": faults.ANSWER_LOST,
    "html 500": faults.HTML_500,
    "html 404": Fault(status=404, body=b"<html>", content_type="text/html"),
    "half a JSON": faults.NOT_JSON,
    "too often": error("TooManyRequests"),
    "key refused": Fault(status=403, body=b'{"status": 403, "error_code": "InvalidApiKey"}'),
    "server trouble": error("InternalError"),
    "redirect": Fault(status=302, body=b"<html>", content_type="text/html"),
    "nothing": faults.answering({"status": 200, "result": {}}),
    "no credits": error("CreditInsufficiency"),
}


@pytest.mark.parametrize("fault", NO_WORD.values(), ids=NO_WORD)
async def test_an_answer_that_says_nothing_of_the_task_does_not_end_it(fault: Fault, it: Rig) -> None:
    task = await it.submitted()
    await it.sandbox.tasks[task.id].ended.wait()
    it.sandbox.faults.next("task", fault)
    await error_of(it.vendor.ask(it.account, task))
    assert (await it.asked(task)).state is UpdateState.SUCCEEDED


async def test_types_mixed_up_are_read_all_the_same(it: Rig) -> None:
    task = await it.submitted()
    await it.sandbox.tasks[task.id].ended.wait()
    it.sandbox.faults.next("task", Fault(change=clients.stringly))
    assert (await it.asked(task)).state is UpdateState.SUCCEEDED


async def test_a_question_that_is_never_answered_leaves_time_for_another() -> None:
    """The client itself gives up before the vendor does."""
    assert PACE.keep_alive is not None
    assert PACE.keep_alive > QUERY_SECONDS


async def test_a_task_id_cannot_lead_to_another_path() -> None:
    paths: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        paths.append(request.raw_path)
        return web.json_response({"status": 200, "result": {"status": "running"}})

    async with clients.serving(note) as url, clients.client(PerfectCorp(), url) as one:
        await one.account.memory.keep(MEMORY, Token("a-token-of-some-length", one.account.now() + 3_600_000).as_text())
        await one.vendor.ask(one.account, Task("../a/b?c=d#e+f g&h=", Prepared({"slug": "sod"})))
    assert paths == ["/task/sod?task_id=..%2Fa%2Fb%3Fc%3Dd%23e%2Bf%20g%26h%3D"]


# -- uploads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["file", "upload"])
@pytest.mark.parametrize("fault", [faults.HTML_500, faults.ANSWER_LOST], ids=["html 500", "lost"])
async def test_an_upload_that_failed_is_done_anew_and_nothing_is_paid(endpoint: str, fault: Fault, it: Rig) -> None:
    it.sandbox.faults.next(endpoint, fault)
    error = await error_of(it.prepared())
    assert (error.accepted, error.permanent) == (Accepted.NO, False)
    assert (await it.done()).state is UpdateState.SUCCEEDED
    assert len(it.sandbox.charged) == 1


async def test_a_picture_that_is_gone_here_is_not_the_vendors_fault(it: Rig) -> None:
    it.image.path.unlink()
    assert (await error_of(it.prepared())).code == "unreadable_input"


# -- results -----------------------------------------------------------------------------------------------------------

NOT_A_RESULT = {
    "gone": (Fault(status=403, body=b"<Error/>", content_type="application/xml"), "expired", "403", True),
    "html 500": (faults.HTML_500, "vendor", "500", False),
    "json": (faults.answering({"status": 200}), "vendor", "not_a_picture", False),
    "nothing": (Fault(status=200, content_type="image/png"), "vendor", "not_a_picture", False),
    "truncated": (faults.TRUNCATED, "vendor", "broken", False),
}


@pytest.mark.parametrize(("fault", "error_class", "code", "permanent"), NOT_A_RESULT.values(), ids=NOT_A_RESULT)
async def test_what_is_no_picture_is_never_a_result(
    fault: Fault, error_class: str, code: str, permanent: bool, it: Rig
) -> None:
    source = (await it.done()).outputs[0].source
    it.sandbox.faults.next("result", fault)
    error = await error_of(it.client.fetched(source))
    assert (error.error_class, error.code, error.permanent) == (error_class, code, permanent)
    assert (await it.client.fetched(source)).size == (it.image.width, it.image.height)


async def test_a_link_is_good_for_two_hours_and_then_dead(it: Rig) -> None:
    source = (await it.done()).outputs[0].source
    it.clock.now += 7199
    await it.client.fetched(source)
    it.clock.now += 2
    error = await error_of(it.client.fetched(source))
    assert (error.error_class, error.permanent) == (ErrorClass.EXPIRED, True)


@pytest.mark.parametrize("endpoint", ["credit", "history", "style", "style-group"])
@pytest.mark.parametrize("fault", [faults.HTML_500, faults.NOT_JSON, error("TooManyRequests")])
async def test_a_look_that_fails_says_so(endpoint: str, fault: Fault, it: Rig) -> None:
    styled = it.vendor.operations["wig"]
    looks: dict[str, Callable[[], Awaitable[object]]] = {
        "credit": lambda: it.vendor.credits(it.account),
        "history": lambda: it.vendor.credit_history(it.account, None, 5),
        "style": lambda: it.vendor.styles(it.account, styled, None, None, 5),
        "style-group": lambda: it.vendor.style_groups(it.account, styled, None, 5),
    }
    it.sandbox.faults.next(endpoint, fault)
    assert not (await error_of(looks[endpoint]())).permanent
    await looks[endpoint]()


async def test_many_at_once_are_told_apart(it: Rig) -> None:
    updates = await asyncio.gather(*(it.done("obj-removal") for _ in range(6)))
    assert len({update.task_id for update in updates}) == len(it.sandbox.charged) == 6
    assert it.taken.count("auth") == 1
    assert it.sandbox.violations == []
