"""How AILabTools says no, and what each of its words means: by the code's name, wherever it comes from."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.sandbox import ailabtools as sandboxes
from handlers.sandbox import faults
from handlers.sandbox.ailabtools import CODES, AILabToolsSandbox
from handlers.vendors.ailabtools import AILabTools
from handlers.vendors.contract import Accepted, InputFile, Prepared, Submitted, Task, Work
from schemas.callback import Callback, Update, UpdateState, Via
from schemas.job import Charged
from tests.vendors import clients
from tests.vendors.clients import KEY, Client, error_of

pytestmark = pytest.mark.anyio

REFINE, RETOUCH = "try-on-clothes-refiner", "photo-retouching"
TASK = Task("t1", Prepared({"operation": REFINE, "fields": {}}))
LINK = "https://cdn.example/1.png?sig=1"
NO, UNLIKELY, UNKNOWN = Accepted.NO, Accepted.UNLIKELY, Accepted.UNKNOWN

# By code: its class, whether the same call can help, whether the paid call may have begun something, and whether a new
# job can help.
MEANT = {
    "MISSING_PARAMETERS": ("input", True, NO, False),
    "ERROR_INVALID_PARAMETER": ("input", True, NO, False),
    "ERROR_USER_NOT_EXISTS": ("auth", True, NO, None),
    "ERROR_USER_LOCKED": ("auth", True, NO, None),
    "ERROR_AI_NOT_EXISTS": ("vendor", True, NO, None),
    "ERROR_RESOURCE_NOT_FOUND": ("vendor", True, NO, True),
    "ERROR_RESOURCE_RECLAIMED": ("vendor", False, UNLIKELY, True),
    "FILE_SIZE_EXCEEDS_LIMIT": ("input", True, NO, False),
    "FILE_RESOLUTION_EXCEEDS_LIMITS": ("input", True, NO, False),
    "UNSUPPORTED_FILE_TYPES": ("input", True, NO, False),
    "FILE_DECODING_FAILURE": ("input", True, NO, False),
    "ERROR_NO_FACE_IN_FILE": ("input", True, NO, False),
    "ERROR_FACE_SIZE_RATIO_NOT_MET": ("input", True, NO, False),
    "ERROR_BLURRY_FACE": ("input", True, NO, False),
    "ERROR_CONTENT_NON_COMPLIANCE": ("moderation", True, NO, False),
    "ERROR_NOT_ENOUGH_CREDITS": ("credits", True, NO, None),
    "EXCEEDING_LIMITS": ("rate_limit", False, NO, None),
    "PROCESSING_FAILURE": ("vendor", False, UNLIKELY, True),
    "AI_SERVICE_ERROR": ("vendor", False, UNLIKELY, True),
    "ERROR_INSUFFICIENT_RESOURCES": ("vendor", False, NO, True),
    "AI_SERVICE_TIMEOUT": ("timeout", False, UNLIKELY, True),
}
# What only a question after a task can mean.
GONE = {"ERROR_RESOURCE_NOT_FOUND", "ERROR_RESOURCE_RECLAIMED"}


async def _submit(one: Client, operation: str) -> Submitted:
    """Without pictures: the answer is a fault's anyway."""
    params = {"gender": "man"} if operation == REFINE else {}
    inputs: dict[str, InputFile] = {}
    work = Work("job_1", one.vendor.operations[operation], params, {}, inputs)
    return await one.vendor.submit(one.account, await one.vendor.prepare(one.account, work), None, work)


@pytest.mark.parametrize("code", MEANT)
@pytest.mark.parametrize(("operation", "endpoint"), [(RETOUCH, "retouch"), (REFINE, "refine")])
async def test_every_code_refuses_a_submission_with_its_class(code: str, operation: str, endpoint: str) -> None:
    async with AILabToolsSandbox() as sandbox, clients.client(AILabTools(), sandbox.base_url) as one:
        for newest in (False, True):
            sandbox.faults.next(endpoint, sandboxes.error(code, f"no, {KEY}", newest=newest))
            error = await error_of(_submit(one, operation))
            error_class, permanent, accepted, _ = MEANT[code]
            assert (error.error_class, error.permanent, error.accepted) == (error_class, permanent, accepted)
            assert (error.code, error.message) == (code, f"{CODES[code][1]} no, [redacted]")


def _poll(value: object, status: int = 200) -> Update:
    return AILabTools().read(Callback(Via.POLL, json.dumps(value).encode(), status=status), TASK)


@pytest.mark.parametrize("code", MEANT)
async def test_every_code_that_speaks_of_the_task_ends_it_and_no_other_does(code: str) -> None:
    async with AILabToolsSandbox() as sandbox, clients.client(AILabTools(), sandbox.base_url) as one:
        error_class, _, _, retryable = MEANT[code]
        sandbox.faults.next("query", sandboxes.error(code))
        if retryable is None:
            assert (await error_of(one.vendor.ask(one.account, TASK))).error_class == error_class
            return
        update = one.vendor.read(await one.vendor.ask(one.account, TASK), TASK)
        assert update.failure is not None
        gone = code in GONE
        state = UpdateState.MISSING if gone else UpdateState.FAILED
        assert (update.state, update.raw_state, update.failure.code) == (state, code, code)
        assert update.failure.error_class == ("expired" if gone else error_class)
        assert (update.failure.retryable, update.failure.message) == (retryable, CODES[code][1])
        # Credits are taken for successful calls; what is gone may have been one.
        assert update.charged is (Charged.UNKNOWN if gone else Charged.NO)


@pytest.mark.parametrize("code", [code for code, meant in MEANT.items() if meant[3] is not None and code not in GONE])
def test_a_failed_status_says_why_where_the_answer_does(code: str) -> None:
    detail = {"code": code, "code_message": "", "message": "so it is"}
    update = _poll({"error_code": 0, "task_status": 3, "error_detail": detail})
    assert update.failure is not None
    assert (update.state, update.raw_state, update.charged) == (UpdateState.FAILED, "3", Charged.NO)
    assert (update.failure.error_class, update.failure.code) == (MEANT[code][0], code)
    assert update.failure.message == "so it is"


def test_a_failed_status_alone_is_the_vendors_failure() -> None:
    update = _poll({"error_code": 0, "data": {"task_status": "3"}, "error_detail": {"code": ""}})
    assert update.failure is not None
    assert (update.failure.error_class, update.failure.code, update.failure.retryable) == ("vendor", "3", True)


def _no(status: int, **told: Any) -> dict[str, Any]:
    return {"error_code": status, "error_detail": {"status_code": status, **told}}


@pytest.mark.parametrize(
    ("status", "code", "error_class"),
    [
        # The vendor's documents give one code different statuses.
        (400, "PROCESSING_FAILURE", "vendor"),
        (400, "FILE_DECODING_FAILURE", "input"),
        (422, "FILE_RESOLUTION_EXCEEDS_LIMITS", "input"),
        (422, "ERROR_INVALID_PARAMETER", "input"),
        (403, "ERROR_ILLEGAL_FILE", "input"),
        (422, "EXCEEDING_LIMITS", "vendor"),
        (500, "AI_SERVICE_ERROR", "vendor"),
        # Names that we don't list: by the status, and where that says nothing either, the vendor's fault.
        (422, "ERROR_POOR_FACE_LIGHTING", "input"),
        (400, "ERROR_OF_TOMORROW", "input"),
        (409, "ERROR_OF_TOMORROW", "vendor"),
        (500, "ERROR_OF_TOMORROW", "vendor"),
    ],
)
@pytest.mark.parametrize("by_http", [True, False])
def test_the_name_decides_and_the_status_where_it_is_unknown(
    status: int, code: str, error_class: str, by_http: bool
) -> None:
    update = _poll(_no(status, code=code), status if by_http else 200)
    assert update.failure is not None
    assert (update.state, update.failure.error_class, update.failure.code) == (UpdateState.FAILED, error_class, code)


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_status_of_the_requests_own_trouble_ends_no_task(status: int) -> None:
    assert _poll(_no(status, code=""), status).state is UpdateState.RUNNING


async def test_the_old_coarse_name_is_read_only_where_there_is_no_other() -> None:
    told = {"error_code": 422, "error_code_str": "FILE_CONTENT_NON_COMPLIANCE", "error_msg": "not met - 222202"}
    for detail, code in (({}, "FILE_CONTENT_NON_COMPLIANCE"), ({"code": "ERROR_BLURRY_FACE"}, "ERROR_BLURRY_FACE")):
        update = _poll({**told, "error_detail": detail}, 422)
        assert update.failure is not None
        assert (update.failure.code, update.failure.message) == (code, "not met - 222202")


async def test_the_two_429s_are_told_apart_by_name_alone() -> None:
    async with AILabToolsSandbox() as sandbox, clients.client(AILabTools(), sandbox.base_url) as one:
        ends = {"ERROR_NOT_ENOUGH_CREDITS": ("credits", True), "EXCEEDING_LIMITS": ("rate_limit", False)}
        for code, (error_class, permanent) in ends.items():
            sandbox.faults.next("refine", faults.answering(_no(429, code=code), 429))
            error = await error_of(_submit(one, REFINE))
            assert (error.error_class, error.permanent, error.accepted) == (error_class, permanent, NO)
        # Without a name it is the rate, as everywhere: nobody's job ends for a full window.
        sandbox.faults.next("refine", faults.answering({}, 429))
        error = await error_of(_submit(one, REFINE))
        assert (error.error_class, error.permanent, error.code) == ("rate_limit", False, "429")


@pytest.mark.parametrize("odd", ["", None, 0, "429", "not_enough"])
async def test_an_empty_account_is_not_waited_for_because_one_of_two_names_is_odd(odd: object) -> None:
    """Read as a full window, it would be tried again for ever."""
    told = {**_no(429, code=odd), "error_code_str": "ERROR_NOT_ENOUGH_CREDITS"}
    async with AILabToolsSandbox() as sandbox, clients.client(AILabTools(), sandbox.base_url) as one:
        sandbox.faults.next("refine", faults.answering(told, 429))
        error = await error_of(_submit(one, REFINE))
        assert (error.error_class, error.code, error.permanent) == ("credits", "ERROR_NOT_ENOUGH_CREDITS", True)


@pytest.mark.parametrize(
    ("code", "error_class"), [("FILE_DECODING_FAILURE", "input"), ("ERROR_OF_TOMORROW", "input"), ("", "input")]
)
async def test_a_no_of_the_newest_document_beside_a_fine_http_status_is_a_no(code: str, error_class: str) -> None:
    """It has no error_code any more: the status stands in error_detail alone. No second bill for what was refused."""
    told = {"error_detail": {"status_code": 422, "code": code, "message": "no"}}
    async with AILabToolsSandbox() as sandbox, clients.client(AILabTools(), sandbox.base_url) as one:
        sandbox.faults.next("retouch", faults.answering(told))
        error = await error_of(_submit(one, RETOUCH))
        assert (error.error_class, error.permanent, error.accepted) == (error_class, True, NO)
    update = _poll(told)
    assert update.failure is not None
    assert (update.state, update.failure.error_class) == (UpdateState.FAILED, error_class)


@pytest.mark.parametrize(("http", "error_class"), [(422, "input"), (404, "expired"), (418, "vendor")])
def test_a_number_of_the_vendors_own_leaves_the_word_to_https_status(http: int, error_class: str) -> None:
    update = _poll({"error_code": 222202, "error_msg": "not met"}, http)
    assert update.failure is not None
    state = UpdateState.MISSING if http == 404 else UpdateState.FAILED
    assert (update.state, update.failure.error_class) == (state, error_class)


async def test_a_no_without_the_vendors_own_words_may_hide_a_yes() -> None:
    async with AILabToolsSandbox() as sandbox, clients.client(AILabTools(), sandbox.base_url) as one:
        for body, accepted in ((_no(500, code=""), UNLIKELY), ({"message": "upstream"}, UNKNOWN)):
            sandbox.faults.next("retouch", faults.answering(body, 500))
            error = await error_of(_submit(one, RETOUCH))
            assert (error.error_class, error.code, error.accepted) == ("vendor", "500", accepted)


def test_no_code_of_the_vendor_is_left_out() -> None:
    assert set(MEANT) == set(CODES)


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, "0", 1.0, 4, 17, -1, "soon"])
def test_every_status_but_two_and_three_means_still_running(status: object) -> None:
    update = _poll({"error_code": 0, "task_status": status, "output": {"image_url": LINK}})
    assert update.state is UpdateState.RUNNING
    assert update.raw_state is not None


@pytest.mark.parametrize("image", [None, "", 7, ["x"], "ftp://cdn.example/1.png"])
def test_success_without_an_image_is_a_failure(image: object) -> None:
    update = _poll({"error_code": 0, "task_status": 2, "output": {"image_url": image}, "usage": {"image_count": 0}})
    assert update.failure is not None
    assert (update.failure.error_class, update.failure.code, update.charged) == ("vendor", "no_image", Charged.UNKNOWN)


@pytest.mark.parametrize(("status", "number"), [("2", "0"), (2.0, 0.0), (" 2 ", None), ("2.0", "")])
def test_numbers_may_be_strings_and_floats(status: object, number: object) -> None:
    update = _poll({"error_code": number, "task_status": status, "output": json.dumps({"image_url": LINK})})
    assert (update.state, update.outputs[0].source) == (UpdateState.SUCCEEDED, {"url": LINK})


def test_nobody_can_call_back_in_ailabtools_name() -> None:
    body = json.dumps({"error_code": 0, "task_status": 2, "output": {"image_url": LINK}}).encode()
    update = AILabTools().read(Callback(Via.WEBHOOK, body), TASK)
    assert (update.state, update.outputs) == (UpdateState.HINT, ())


_NAMES = (
    "error_code",
    "error_code_str",
    "error_detail",
    "code",
    "data",
    "task_status",
    "output",
    "image_url",
    "task_id",
)


@given(
    clients.any_bodies(*_NAMES),
    clients.CONTENT_TYPES,
    st.sampled_from(Via),
    st.sampled_from([None, 200, 404, 422, 429, 500]),
    st.sampled_from([None, TASK]),
)
def test_no_words_are_strange_enough_to_raise(
    body: bytes, content_type: str, via: Via, status: int | None, task: Task | None
) -> None:
    update = AILabTools().read(Callback(via, body, content_type, status), task)
    assert (update.failure is not None) == (update.state in (UpdateState.FAILED, UpdateState.MISSING))
    assert (update.outputs != ()) == (update.state is UpdateState.SUCCEEDED)
    json.dumps([update.raw_state, update.task_id, dict(update.raw)], ensure_ascii=False, allow_nan=False).encode()
