"""Whatever a vendor answers, a call ends in a result or in an error that says what it is: nothing else comes out."""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.http import Answer
from handlers.vendors.contract import (
    Account,
    Credits,
    InputFile,
    InputLink,
    Page,
    Prepared,
    Submitted,
    Task,
    Vendor,
    VendorError,
)
from handlers.vendors.picwish import PicWish
from handlers.vendors.vanceai import VanceAI
from tests.vendors import clients
from tests.vendors.clients import KEY, told, work

VANCE, PICWISH = VanceAI(), PicWish()
NAMES = ("code", "msg", "data", "status", "trans_id", "uid", "max_num", "used_num", "datas", "last_page")
ANSWERS = st.builds(
    lambda status, content_type, body: Answer(status, {"Content-Type": content_type}, body, truncated=False, ms=1),
    st.sampled_from([200, 200, 200, 302, 404, 429, 500]),
    clients.CONTENT_TYPES,
    clients.any_bodies(*NAMES, "message", "task_id", "state", "image", "mask", "progress")
    # Vendors repeat what they were sent.
    | st.sampled_from(NAMES).map(lambda name: json.dumps({"code": 1, name: {"x": [f"not {KEY}"]}}).encode()),
)
LINK = InputLink("https://cdn.example/1.png")
PICTURE = InputFile(Path(__file__), "image/jpeg", "a.jpg", 1, 1, 1)
READY = Prepared({"uid": "u", "jconfig": "{}", "operation": "self-face-cutout", "fields": {"sync": "1"}})


async def _fetched(vendor: Vendor, account: Account) -> bytes:
    async with vendor.fetch(account, {"trans_id": "t1", "url": "http://v/1.png"}) as stream:
        return b"".join([chunk async for chunk in stream.chunks()])


Call = Callable[[Account], Awaitable[Any]]
CALLS: Mapping[str, tuple[Vendor, Call]] = {
    "vanceai upload": (VANCE, lambda account: VANCE.prepare(account, work(VANCE, "matting", PICTURE))),
    "vanceai transform": (
        VANCE,
        lambda account: VANCE.submit(account, READY, None, work(VANCE, "matting", PICTURE)),
    ),
    "vanceai progress": (VANCE, lambda account: VANCE.ask(account, Task("t1", READY))),
    "vanceai download": (VANCE, lambda account: _fetched(VANCE, account)),
    "vanceai point": (VANCE, VANCE.credits),
    "vanceai record": (VANCE, lambda account: VANCE.credit_history(account, "2-20", 20)),
    "picwish create": (
        PICWISH,
        lambda account: PICWISH.submit(account, READY, None, work(PICWISH, "self-face-cutout", LINK)),
    ),
    "picwish query": (PICWISH, lambda account: PICWISH.ask(account, Task("t1", READY))),
    "picwish result": (PICWISH, lambda account: _fetched(PICWISH, account)),
}


def _whole(found: Any) -> bool:
    """A result that the service can work with: storable, and with what it cannot do without."""
    match found:
        case VendorError():
            words = f"{found} {found.code}"
            return KEY not in words and "\0" not in words and bool(words.encode())
        case Prepared(data=data):
            return bool(data["uid"]) and bool(json.dumps(dict(data), ensure_ascii=False).encode())
        case Submitted(task_id=task_id, reply=reply):
            return bool(task_id) or reply is not None
        case Credits(balance=balance, raw=raw):
            float(balance or 0)
            return bool(json.dumps(dict(raw), ensure_ascii=False, allow_nan=False).encode())
        case Page(entries=entries, next=after):
            return all(isinstance(entry, Mapping) for entry in entries) and after in (None, "3-20")
        case bytes():
            return found.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"", b"{", b"[", b"<")
        case _:
            return KEY.encode() not in found.body


@pytest.mark.parametrize("name", CALLS)
@given(ANSWERS)
def test_no_answer_is_strange_enough_to_come_out_as_anything_else(name: str, answer: Answer) -> None:
    vendor, call = CALLS[name]
    assert _whole(told(vendor, answer, call))


@pytest.mark.parametrize("name", CALLS)
def test_the_wildest_answers_of_all_are_no_exception(name: str) -> None:
    vendor, call = CALLS[name]
    for body in (b"[" * 100_000, b'{"data":' * 50_000, b'{"code":' + b"1" * 5000 + b"}", b"\x00" * 4096, b"\xff\xfe"):
        for status in (200, 500):
            answer = Answer(status, {"Content-Type": "application/json"}, body, truncated=True, ms=1)
            assert _whole(told(vendor, answer, call))


@pytest.mark.parametrize("name", CALLS)
def test_no_part_of_the_key_is_left_where_long_words_are_cut(name: str) -> None:
    vendor, call = CALLS[name]
    for lead in range(480, 500):
        words = "x" * lead + KEY
        said = {"code": 1, "msg": words, "status": 400, "message": words, "error_code": 400, "error_msg": words}
        answer = Answer(400, {"Content-Type": "application/json"}, json.dumps(said).encode(), truncated=False, ms=1)
        assert KEY[:4] not in str(told(vendor, answer, call))
