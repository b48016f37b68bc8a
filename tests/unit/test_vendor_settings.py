"""How an operator tells what the documents of VanceAI, AILabTools and PicWish leave open, or have in two ways."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers.http import Answer
from handlers.sandbox.ailabtools import AILabToolsSettings
from handlers.sandbox.picwish import PicWishSettings
from handlers.sandbox.vanceai import VanceAISettings
from handlers.vendors.contract import Account, InputFile, Task, Vendor, Work
from service.accounts import KNOWN
from service.clock import SystemClock
from service.config import InvalidSettings, load, section
from service.pacing.waits import Member
from service.vendor_memory import ShortMemory
from tests.vendors.clients import SECRETS, Saying, Turns

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WIREPHOTO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def made(name: str) -> Vendor:
    """The vendor as the settings of this moment want it."""
    (known,) = [known for known in KNOWN if known.name == name]
    return known.made(section(load(), name))


class Listening(Saying):
    """Says the same to everything, and remembers where it was asked, and for what."""

    def __init__(self, words: Mapping[str, Any]) -> None:
        answer = Answer(200, {"Content-Type": "application/json"}, json.dumps(words).encode(), truncated=False, ms=1)
        super().__init__(answer)
        self.asked: list[str] = []
        self.seconds: list[float] = []

    async def request(self, method: str, url: str, **how: Any) -> Answer:
        self.asked.append(f"{method} {url.removeprefix('http://v')}")
        self.seconds.append(how["deadline"])
        return await super().request(method, url, **how)

    def account(self, vendor: Vendor) -> Account:
        clock = SystemClock()
        return Account(vendor.name, "http://v", self, self, Turns(), ShortMemory(clock), clock.now, SECRETS)


def work(vendor: Vendor, operation: str) -> Work:
    image = InputFile(Path(__file__), "image/jpeg", "a.jpg", 1, 1, 1)
    return Work("job_1", vendor.operations[operation], {}, {}, {"image": image})


@pytest.mark.parametrize("name", ["recolor", "colorize"])
async def test_the_documents_two_names_of_recolor_are_a_choice(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name != "recolor":
        monkeypatch.setenv("WIREPHOTO_VANCEAI__RECOLOR_NAME", name)
    vendor, http = made("vanceai"), Listening({"code": 200, "data": {"uid": "u1"}})
    prepared = await vendor.prepare(http.account(vendor), work(vendor, "sd_recolor"))
    assert json.loads(prepared.data["jconfig"])["name"] == name


@pytest.mark.parametrize(
    ("query", "credit"),
    [("/api/common/query-async-task-result", "/api/common/query-credits"), ("/v2/tasks", "/v2/c-d")],
)
async def test_the_address_that_no_document_gives_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, query: str, credit: str
) -> None:
    if query.startswith("/v2"):
        monkeypatch.setenv("WIREPHOTO_AILABTOOLS__QUERY_PATH", query)
        monkeypatch.setenv("WIREPHOTO_AILABTOOLS__CREDITS_PATH", credit)
    vendor, http = made("ailabtools"), Listening({"error_code": 0, "task_status": 1, "data": []})
    account = http.account(vendor)
    prepared = await vendor.prepare(account, work(vendor, "photo-retouching"))
    await vendor.ask(account, Task("t/1", prepared))
    await vendor.try_credentials(account)
    assert http.asked == [f"GET {query}?task_id=t%2F1", f"GET {credit}"]


async def test_what_picwish_calls_a_sibling_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREPHOTO_PICWISH__SLUGS", '{"scale": "enhance"}')
    vendor, http = made("picwish"), Listening({"status": 200, "data": {"task_id": "t1", "state": 2}})
    account = http.account(vendor)
    for name in ("scale", "segmentation"):
        job = work(vendor, name)
        prepared = await vendor.prepare(account, job)
        submitted = await vendor.submit(account, prepared, None, job)
        await vendor.ask(account, Task(str(submitted.task_id), prepared))
    paths = [f"/api/tasks/visual/{slug}" for slug in ("enhance", "segmentation")]
    assert http.asked == [words for path in paths for words in (f"POST {path}", f"GET {path}/t1")]


@pytest.mark.parametrize(
    ("name", "operation", "params", "seconds"),
    [
        ("vanceai", "matting", {}, 77),  # it has nowhere to call back to
        ("ailabtools", "photo-retouching", {}, 77),
        ("ailabtools", "try-on-clothes-refiner", {}, 33),
        ("picwish", "scale", {"sync": 1}, 77),
        ("picwish", "scale", {}, 33),
    ],
)
async def test_how_long_a_paid_call_may_take_is_told_apart_by_whether_it_blocks(
    monkeypatch: pytest.MonkeyPatch, name: str, operation: str, params: Mapping[str, Any], seconds: float
) -> None:
    monkeypatch.setenv(f"WIREPHOTO_{name.upper()}__CALL_SECONDS", "33")
    monkeypatch.setenv(f"WIREPHOTO_{name.upper()}__BLOCKING_CALL_SECONDS", "77")
    words = {"code": 200, "status": 200, "task_id": "t1", "data": {"uid": "u1", "trans_id": "t1", "task_id": "t1"}}
    vendor, http = made(name), Listening(words)
    account = http.account(vendor)
    job = replace(work(vendor, operation), params=params)
    prepared = await vendor.prepare(account, job)
    await vendor.submit(account, prepared, None, job)
    assert http.seconds[-1] == seconds


DOCUMENTED = {"vanceai": VanceAISettings(), "ailabtools": AILabToolsSettings(), "picwish": PicWishSettings()}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_no_task_is_asked_for_more_often_than_the_document_advises_or_the_operator_wants(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """However well the lives of such tasks are known."""
    advised = 1000 * DOCUMENTED[name].poll_seconds
    member = Member(name, "", made(name).pace)
    assert max(member.least_ms, member.on_average_ms) >= advised
    # Taken over a task's life: then a question may follow another a little sooner.
    assert member.least_ms >= 0.9 * advised
    monkeypatch.setenv(f"WIREPHOTO_{name.upper()}__POLL_SECONDS", "0.5")
    member = Member(name, "", made(name).pace)
    assert max(member.least_ms, member.on_average_ms) <= 500
    monkeypatch.setenv(f"WIREPHOTO_{name.upper()}__POLL_SECONDS", "30")
    patient = Member(name, "", made(name).pace)
    if patient.pace.keep_alive is None:
        assert max(patient.least_ms, patient.on_average_ms) >= 6 * advised
        assert patient.patience > member.patience


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VANCEAI__BLOCKING_CALL_SECONDS", "0"),
        ("VANCEAI__RECOLOR_NAME", "colourize"),
        ("AILABTOOLS__QUERY_PATH", "query"),
        ("AILABTOOLS__QUERY_PATH", "/a?task=1"),
        ("AILABTOOLS__QUERY_PATH", "/a/../b"),
        ("AILABTOOLS__CREDITS_PATH", "https://elsewhere.example/a"),
        ("PICWISH__SLUGS", '{"matting": "x"}'),
        ("PICWISH__SLUGS", '{"scale": "a/b"}'),
    ],
)
def test_what_cannot_be_meant_so_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"WIREPHOTO_{name}", value)
    with pytest.raises(InvalidSettings, match=f"^WIREPHOTO_{name}"):
        load()
