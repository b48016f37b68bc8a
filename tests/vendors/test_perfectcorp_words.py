"""What Perfect Corp's words mean, and which params it takes: all without a request."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.http import Answer
from handlers.vendors import perfectcorp_features as table
from handlers.vendors import perfectcorp_words as words
from handlers.vendors.contract import Accepted, Prepared, Task
from handlers.vendors.perfectcorp import PACE, PerfectCorp
from handlers.vendors.perfectcorp_words import ENGINE
from schemas.callback import Callback, Update, UpdateState, Via
from schemas.catalogue import params_errors
from schemas.job import Charged, ErrorClass
from tests.vendors import clients

PERFECT = PerfectCorp()
TASK = Task("SX9A+a/b=", Prepared({"slug": "hair-style"}))
LINK = "https://cdn.example/1.jpg?sig=a%2Fb"
STYLED = {"hair-style", "wig", "hair-ext", "hair-bang", "hair-vol", "text-to-image"}
STYLE = {"style_group_id": "18213963761051864", "style_ids": ["13045969587275114"]}


def _poll(result: object, status: int | None = 200, **more: object) -> Update:
    body = json.dumps({"status": 200, "result": result, **more}).encode()
    return PERFECT.read(Callback(Via.POLL, body, status=status), TASK)


def _answer(value: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(value).encode(), truncated=False, ms=1)


def _success(*results: object) -> Update:
    return _poll({"polling_interval": 1000, "status": "success", "results": list(results)})


# -- states and results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["running", "RUNNING", "queued", "whatever comes next"])
def test_a_state_that_is_not_listed_is_still_running_and_its_word_is_kept(word: str) -> None:
    update = _poll({"status": word, "polling_interval": "1500"})
    assert (update.state, update.raw_state, update.ask_again_ms) == (UpdateState.RUNNING, word, 1500)


@pytest.mark.parametrize("interval", [None, 0, -5, "soon", True, [], 10**12, 1.5])
def test_a_polling_interval_that_is_none_asks_for_nothing(interval: object) -> None:
    assert _poll({"status": "running", "polling_interval": interval}).ask_again_ms is None


def test_results_come_by_the_id_of_their_action() -> None:
    update = _success(
        {"id": 2, "data": [{"dst_id": "c", "url": f"{LINK}#2"}]},
        {"id": "0", "data": [{"dst_id": "a", "url": f"{LINK}#0"}, {"dst_id": "b", "url": f"{LINK}#1"}]},
        {"data": {"url": f"{LINK}#3"}},
    )
    assert (update.state, update.progress, update.charged) == (UpdateState.SUCCEEDED, 100, Charged.YES)
    assert [(found.name, found.source.get("dst_id")) for found in update.outputs] == [
        ("image", "a"),
        ("image_2", "b"),
        ("image_3", "c"),
        ("image_4", None),
    ]
    assert [found.source["url"] for found in update.outputs] == [f"{LINK}#{number}" for number in range(4)]
    assert {found.lives_seconds for found in update.outputs} == {7200}


def test_what_else_is_said_of_a_result_goes_through() -> None:
    info = {"age": 31, "age_idx": 1, "age_min": 10, "age_max": 80, "num_of_photos": 2}
    pictures = [{"dst_id": f"d{age}", "url": LINK, "res_age": age} for age in (10, 80)]
    update = _success({"id": 0, "data": pictures, "custom_info": info, "prod_rec": {"lipstick": 18213963761051864}})
    (result,) = update.raw["result"]["results"]
    assert (result["custom_info"], result["data"][1]["res_age"]) == (info, 80)
    assert result["prod_rec"]["lipstick"] == 18213963761051864


@pytest.mark.parametrize(
    "results",
    [None, [], {}, [{"id": 0}], [{"id": 0, "data": []}], [{"id": 0, "data": [{"dst_id": "x"}]}], [{"data": ["x"]}]],
)
@pytest.mark.parametrize("url", [None, 7, "ftp://cdn.example/1.jpg"])
def test_success_without_a_result_is_a_failure(results: Any, url: object) -> None:
    results = results if results is None else [*results, {"id": 1, "data": [{"url": url}]}]
    update = _poll({"status": "success", "results": results})
    assert update.failure is not None
    assert (update.failure.code, update.failure.retryable, update.charged) == ("no_result", True, Charged.UNKNOWN)


# -- failures ----------------------------------------------------------------------------------------------------------

MENDED_BY_THE_USER = {
    "exceed_max_filesize",
    "invalid_parameter",
    "error_decode_image",
    "error_decode_mask",
    "error_no_face",
    "error_pose",
    "error_face_parsing",
    "error_multiple_people",
    "error_no_shoulder",
    "error_large_face_angle",
}
MODERATED = {"error_nsfw_content_detected", "exceed_nsfw_retry_limits"}
OF_THE_VENDOR = {
    "error_download_image",
    "error_download_mask",
    "error_inference",
    "error_upload",
    "unknown_internal_error",
}


def test_every_code_of_the_document_is_in_the_table() -> None:
    assert set(ENGINE) == MENDED_BY_THE_USER | MODERATED | OF_THE_VENDOR


@pytest.mark.parametrize("code", [*ENGINE, "error_that_came_on_a_friday"])
def test_every_code_has_its_class_and_an_unknown_one_is_the_vendors(code: str) -> None:
    update = _poll({"status": "error", "error": code})
    assert update.failure is not None
    assert (update.state, update.failure.code, update.charged) == (UpdateState.FAILED, code, Charged.NO)
    assert (update.failure.error_class is ErrorClass.INPUT) == (code in MENDED_BY_THE_USER)
    assert (update.failure.error_class is ErrorClass.MODERATION) == (code in MODERATED)
    if update.failure.error_class is ErrorClass.VENDOR:
        assert update.failure.retryable
    if code in MENDED_BY_THE_USER or code == "error_nsfw_content_detected":
        assert not update.failure.retryable


@pytest.mark.parametrize("error", [None, "", {}, []])
def test_an_error_without_a_code_is_a_failure_all_the_same(error: object) -> None:
    update = _poll({"status": "error", "error": error})
    assert update.failure is not None
    assert (update.failure.error_class, update.failure.code) == (ErrorClass.VENDOR, "unknown")


@pytest.mark.parametrize(
    ("status", "body", "missing"),
    [
        (404, {"status": 404, "error": "no such task", "error_code": "InvalidTaskId"}, True),
        (404, {"status": 404, "error": "no such task"}, True),
        (400, {"status": 400, "error_code": "InvalidTaskId"}, True),
        (200, {"status": 404, "errorCode": "InvalidTaskId"}, True),
        (404, [], False),
        (400, {"status": 400, "error_code": "InvalidParameters"}, False),
        (401, {"status": 401, "error_code": "InvalidAccessToken"}, False),
        (429, {"status": 429}, False),
        (500, {"status": 500, "error_code": "unknown_internal_error"}, False),
    ],
)
def test_a_task_that_the_vendor_does_not_know_is_missing_and_nothing_else_is(
    status: int, body: object, missing: bool
) -> None:
    update = PERFECT.read(Callback(Via.POLL, json.dumps(body).encode(), status=status), TASK)
    assert update.state is (UpdateState.MISSING if missing else UpdateState.RUNNING)
    assert update.raw_state == ("InvalidTaskId" if missing else None)
    assert not update.final


@pytest.mark.parametrize(
    ("status", "code", "error_class", "permanent"),
    [
        (400, "CreditInsufficiency", "credits", True),
        (402, None, "credits", True),
        (400, "InvalidAccessToken", "auth", True),
        (401, None, "auth", True),
        (403, "whatever", "auth", True),
        (400, "InvalidParameters", "input", True),
        (400, "invalid_parameter", "input", True),
        (400, "InvalidStyleId", "input", True),
        (404, "InvalidFileId", "vendor", True),
        (413, None, "input", True),
        (429, None, "rate_limit", False),
        (500, None, "vendor", False),
        (503, "unknown_internal_error", "vendor", False),
        (418, None, "vendor", False),
    ],
)
@pytest.mark.parametrize("spelling", ["error_code", "errorCode"])
@pytest.mark.parametrize("by_http", [True, False])
def test_a_refused_request_has_its_class_by_its_code_and_else_by_its_status(
    status: int, code: str | None, error_class: str, permanent: bool, spelling: str, by_http: bool
) -> None:
    body = {"status": status, "error": "no, not with tok3n", spelling: code}
    error = words.fault(_answer(body, status if by_http else 200), ("tok3n",))
    assert error is not None
    assert (error.error_class, error.permanent, error.code) == (error_class, permanent, code or str(status))
    assert error.message == "no, not with [redacted]"
    assert error.accepted is Accepted.NO
    paid = words.fault(_answer(body, status if by_http else 200), (), paid=True)
    assert paid is not None
    assert (paid.accepted is Accepted.UNKNOWN) == (status >= 500)


def test_only_a_no_is_a_no() -> None:
    assert words.fault(_answer({"status": 200, "result": {}, "error_code": None}), ()) is None
    assert words.fault(_answer({"status": 200, "error_code": 0}), ()) is None
    assert words.fault(_answer({"status": "200"}), ()) is None


def test_a_no_that_another_upload_may_mend_is_not_the_end() -> None:
    refused = _answer({"status": 400, "error": "no such file", "error_code": "InvalidFileId"}, 400)
    again = words.fault(refused, (), paid=True, reused=True)
    assert again is not None
    assert (again.permanent, again.accepted) == (False, Accepted.NO)
    for code in ("CreditInsufficiency", "InvalidAccessToken"):
        for_good = words.fault(_answer({"status": 400, "error_code": code}, 400), (), reused=True)
        assert for_good is not None
        assert for_good.permanent


# -- operations --------------------------------------------------------------------------------------------------------


def test_twelve_can_be_called_and_seven_are_declared() -> None:
    declared = {name for name, operation in PERFECT.operations.items() if operation.declared}
    assert len(PERFECT.operations) - len(declared) == 12
    assert declared == {
        "video-enhance",
        "background-change",
        "background-blur",
        "lighting",
        "color-correction",
        "replace",
        "face-swap",
    }
    assert {name for name, one in PERFECT.operations.items() if PERFECT.has_styles(one)} == STYLED
    assert {name for name, one in PERFECT.operations.items() if "image/heic" in str(one.inputs)} == set()


@pytest.mark.parametrize(
    ("name", "params", "fits"),
    [
        ("hair-style", STYLE, True),
        ("hair-style", {**STYLE, "style_ids": [2**53 - 1], "style_group_id": 7, "output_ext": "jpg"}, True),
        ("hair-style", {**STYLE, "style_ids": [2**53]}, False),
        ("hair-style", {**STYLE, "style_ids": ["9" * 20]}, False),
        ("hair-style", {**STYLE, "style_ids": ["1", "2"]}, False),
        ("hair-style", {**STYLE, "style_ids": []}, False),
        ("hair-style", {**STYLE, "style_ids": [True]}, False),
        ("hair-style", {**STYLE, "style_group_id": "x1"}, False),
        ("hair-style", {"style_ids": ["1"]}, False),
        ("hair-style", {**STYLE, "output_ext": "png"}, False),
        ("aging", {}, True),
        ("aging", STYLE, False),
        ("sod", {"output_ext": "webp"}, True),
        ("sod", {"output_ext": "jpg"}, False),
        ("enhance", {"scale": 4}, True),
        ("enhance", {"scale": 3}, False),
        ("enhance", {}, False),
        ("text-to-image", {**STYLE, "prompt": "a cat"}, True),
        ("text-to-image", {**STYLE, "prompt": ""}, False),
    ],
)
def test_params_are_held_to_the_document(name: str, params: dict[str, Any], fits: bool) -> None:
    assert (params_errors(PERFECT.operations[name], params) == []) is fits


def test_ids_leave_as_json_integers_of_any_size() -> None:
    style = {"style_group_id": "18213963761051864123", "style_ids": ["9999999999999999999"]}
    made = table.payload(PERFECT.operations["hair-style"], style, {}, {"image": "f1"})
    assert json.dumps(made) == (
        '{"file_sets": {"src_ids": ["f1"]}, "actions": [{"id": 0, "params": {"style_group_id": 18213963761051864123, '
        '"style_ids": [9999999999999999999]}}], "output_ext": "jpg"}'
    )


@pytest.mark.parametrize(
    ("name", "params", "extra", "files", "made"),
    [
        (
            "aging",
            {},
            {},
            {"image": "f"},
            {"file_sets": {"src_ids": ["f"]}, "actions": [{"id": 0}], "output_ext": "jpg"},
        ),
        (
            "obj-removal",
            {"output_ext": "webp"},
            {},
            {"image": "f", "mask": "m"},
            {"file_sets": {"src_ids": ["f"], "mask_ids": ["m"]}, "actions": [{"id": 0}], "output_ext": "webp"},
        ),
        (
            "makeup-transfer",
            {},
            {"strength": 3},
            {"image": "f", "reference": "r"},
            {
                "file_sets": {"src_ids": ["f"], "ref_ids": ["r"]},
                "actions": [{"id": 0, "params": {"strength": 3}}],
                "output_ext": "jpg",
            },
        ),
        (
            "enhance",
            {"scale": 2.0},
            {},
            {"image": "f"},
            {
                "file_sets": {"src_ids": ["f"]},
                "actions": [{"id": 0, "params": {"scale": 2}}],
                "output_ext": "jpg",
            },
        ),
        (
            "text-to-image",
            {"prompt": "a cat", "style_group_id": 1, "style_ids": [2.0]},
            {},
            {},
            {
                "actions": [{"id": 0, "params": {"prompt": "a cat", "style_group_id": 1, "style_ids": [2]}}],
                "output_ext": "jpg",
            },
        ),
    ],
)
def test_the_payload_has_what_the_document_shows_and_nothing_else(
    name: str, params: dict[str, Any], extra: dict[str, Any], files: dict[str, str], made: dict[str, Any]
) -> None:
    assert json.dumps(table.payload(PERFECT.operations[name], params, extra, files)) == json.dumps(made)


def test_a_setting_makes_a_declared_feature_callable() -> None:
    call = table.Call("relight", {"strength": 0.5, "mode": "soft", "fast": True, "steps": 3}, ("webp", "jpg"))
    operation = PerfectCorp(features={"lighting": call}).operations["lighting"]
    assert not operation.declared
    assert params_errors(operation, {"strength": 1, "mode": "hard", "output_ext": "jpg"}) == []
    assert len(params_errors(operation, {"strength": "1", "fast": 1, "steps": 2.5, "more": 1})) == 4
    assert table.payload(operation, {"steps": 4}, {}, {"image": "f"}) == {
        "file_sets": {"src_ids": ["f"]},
        "actions": [{"id": 0, "params": {"strength": 0.5, "mode": "soft", "fast": True, "steps": 4}}],
        "output_ext": "webp",
    }
    assert operation.inputs[0].min_side == 256


def test_the_documented_pace_keeps_a_task_alive() -> None:
    assert PACE.keep_alive == 10
    assert [(window.scope, window.requests, window.seconds) for window in PACE.windows] == [
        ("ip", 100, 300),
        ("account", 100, 60),
    ]


def test_nobody_can_call_back_in_perfect_corps_name() -> None:
    body = json.dumps({"result": {"status": "success", "results": [{"id": 0, "data": [{"url": LINK}]}]}}).encode()
    update = PERFECT.read(Callback(Via.WEBHOOK, body), TASK)
    assert (update.state, update.outputs) == (UpdateState.HINT, ())


@given(
    clients.any_bodies(
        "status", "result", "results", "data", "id", "url", "dst_id", "error", "error_code", "polling_interval"
    ),
    clients.CONTENT_TYPES,
    st.sampled_from(Via),
    st.sampled_from([None, 200, 404, 429, 500]),
    st.sampled_from([None, TASK]),
)
def test_no_words_are_strange_enough_to_raise(
    body: bytes, content_type: str, via: Via, status: int | None, task: Task | None
) -> None:
    update = PERFECT.read(Callback(via, body, content_type, status), task)
    assert (update.failure is not None) == (update.state is UpdateState.FAILED)
    assert (update.outputs != ()) == (update.state is UpdateState.SUCCEEDED)
    told = [update.raw_state, update.task_id, update.ask_again_ms, dict(update.raw)]
    json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    words.fault(Answer(status or 200, {"Content-Type": content_type}, body, truncated=False, ms=1), ())
