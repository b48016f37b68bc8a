"""What PicWish's words mean, and which params it takes: all without a request."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.vendors.contract import Prepared, Task
from handlers.vendors.picwish import PicWish
from schemas.callback import Callback, Update, UpdateState, Via
from schemas.catalogue import params_errors
from schemas.job import Charged
from tests.vendors import clients

CUTOUT = "self-face-cutout"
TASK = Task("t1", Prepared({"operation": CUTOUT, "fields": {}}))
LINK = "https://cdn.example/1.png?sig=1"


def _poll(value: object, status: int | None = 200) -> Update:
    return PicWish().read(Callback(Via.POLL, json.dumps(value).encode(), status=status), TASK)


def _said(state: object, **more: object) -> dict[str, object]:
    return {"status": 200, "message": "success", "data": {"task_id": "t1", "state": state, **more}}


@pytest.mark.parametrize(
    "params", [{"sync": 2}, {"sync": "2"}, {"sync": True}, {"crop": True}, {"output_format": "webp"}, {"sinc": 1}]
)
def test_a_param_out_of_its_documented_range_is_refused(params: dict[str, Any]) -> None:
    assert params_errors(PicWish.operations[CUTOUT], params) != []


@pytest.mark.parametrize("image", [None, "", 7, ["x"], "ftp://cdn.example/1.png"])
def test_success_without_an_image_is_a_failure(image: object) -> None:
    update = _poll(_said(1, image=image, mask=LINK))
    assert update.failure is not None
    assert (update.failure.error_class, update.failure.code, update.charged) == ("vendor", "no_image", Charged.UNKNOWN)


def test_an_image_without_its_mask_is_a_success() -> None:
    assert [found.name for found in _poll(_said(1, image=LINK)).outputs] == ["image"]


@pytest.mark.parametrize(("state", "status"), [("1", "200"), (1.0, 200.0), ("1.0", None), (" 1 ", " 200")])
def test_numbers_may_be_strings_and_floats(state: object, status: object) -> None:
    update = _poll(_said(state, image=LINK, progress="99.6") | {"status": status})
    assert (update.state, update.progress) == (UpdateState.SUCCEEDED, 100)


@pytest.mark.parametrize(
    ("http", "own", "state", "error_class"),
    [
        (200, 404, UpdateState.MISSING, "expired"),
        (404, 200, UpdateState.MISSING, "expired"),
        (404, None, UpdateState.MISSING, "expired"),
        (200, "400", UpdateState.FAILED, "input"),
        (400, 400, UpdateState.FAILED, "input"),
        (200, 41300, UpdateState.FAILED, "vendor"),
        (200, 401, UpdateState.RUNNING, None),
        (429, 429, UpdateState.RUNNING, None),
        (200, 500, UpdateState.RUNNING, None),
        (301, None, UpdateState.RUNNING, None),
    ],
)
def test_success_takes_both_statuses(http: int, own: object, state: UpdateState, error_class: str | None) -> None:
    update = _poll(_said(1, image=LINK) | {"status": own}, http)
    assert update.state is state
    assert (update.failure.error_class if update.failure else None) == error_class


@pytest.mark.parametrize("status", [400, 404, 413, 418])
def test_a_page_of_what_stands_before_the_vendor_ends_no_task(status: int) -> None:
    update = PicWish().read(Callback(Via.POLL, b"<html>404 Not Found</html>", "text/html", status), TASK)
    assert (update.state, update.raw_state) == (UpdateState.RUNNING, None)


def test_nobody_can_call_back_in_picwishs_name() -> None:
    update = PicWish().read(Callback(Via.WEBHOOK, json.dumps(_said(1, image=LINK)).encode()), TASK)
    assert (update.state, update.outputs) == (UpdateState.HINT, ())


@given(
    clients.any_bodies("status", "message", "data", "state", "image", "mask", "progress", "task_id"),
    clients.CONTENT_TYPES,
    st.sampled_from(Via),
    st.sampled_from([None, 200, 404, 429, 500]),
    st.sampled_from([None, TASK]),
)
def test_no_words_are_strange_enough_to_raise(
    body: bytes, content_type: str, via: Via, status: int | None, task: Task | None
) -> None:
    update = PicWish().read(Callback(via, body, content_type, status), task)
    assert (update.failure is not None) == (update.state in (UpdateState.FAILED, UpdateState.MISSING))
    assert (update.outputs != ()) == (update.state is UpdateState.SUCCEEDED)
    json.dumps([update.raw_state, update.task_id, dict(update.raw)], ensure_ascii=False, allow_nan=False).encode()
