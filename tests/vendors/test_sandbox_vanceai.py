"""VanceAI's stand-in keeps VanceAI's document (seed 002), so that a client that passes here has read it too."""

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from PIL import Image

from handlers.sandbox import faults, vanceai
from handlers.sandbox.faults import Fault
from handlers.sandbox.vanceai_webhook import Shape, WebhookPlan
from tests.vendors.vanceai_by_hand import AT_ONCE, KEY, SHARPEN, Client, running, small_photo

pytestmark = pytest.mark.anyio


@pytest.fixture
def photo(photos: Path) -> bytes:
    return small_photo(photos)


@pytest.fixture
def vendor(photo: bytes) -> Callable[..., AbstractAsyncContextManager[Client]]:
    return partial(running, photo)


class Receiver:
    """A client's webhook URL. Answers the given statuses in turn, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses or (204,))
        self.got: list[tuple[str, str, bytes]] = []
        self.url = ""

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append((request.method, request.content_type, await request.read()))
        return web.Response(status=self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])

    async def __aenter__(self) -> "Receiver":
        app = web.Application()
        app.router.add_route("*", "/hook", self._take)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()


async def test_an_upload_is_answered_with_the_documents_fields(vendor: Any, photo: bytes) -> None:
    async with vendor() as client:
        answer = await client.upload()
    assert answer["code"] == answer["cscode"] == 200
    data = answer["data"]
    assert (data["w"], data["h"], data["filesize"]) == (120, 80, len(photo))
    assert data.keys() == {"uid", "name", "thumbnail", "w", "h", "filesize"}
    assert len(data["uid"]) == 32


async def test_an_upload_over_10_mb_or_34_megapixels_is_10012_and_another_type_is_10001(
    vendor: Any, photo: bytes
) -> None:
    def blank(form: str, size: tuple[int, int]) -> bytes:
        buffer = io.BytesIO()
        Image.new("1", size).save(buffer, form)
        return buffer.getvalue()

    heavy = photo + bytes(10 * 1024 * 1024)
    async with vendor() as client:
        answers = [
            (await client.upload(data, "cat.png"))["code"]
            for data in (heavy, blank("PNG", (6000, 5700)), blank("PNG", (7680, 4320)), blank("GIF", (9, 9)), b"no")
        ]
        assert answers == [10012, 10012, 200, 10001, 10001]
        assert len(client.sandbox.violations) == 4


async def test_a_missing_token_is_explained_by_an_object_and_a_wrong_one_by_a_string(vendor: Any) -> None:
    async with vendor() as client:
        missing = await client.answer("progress", api_token="", trans_id="x")
        wrong = await client.answer("progress", api_token="another", trans_id="x")
    assert missing == {"code": 30001, "msg": {"api_token": ["The api token field is required."]}}
    assert wrong["code"] == 30001
    assert isinstance(wrong["msg"], str)


async def test_without_a_webhook_transform_blocks_until_the_job_is_done(vendor: Any) -> None:
    done = asyncio.Event()
    async with vendor(replace(AT_ONCE, work_seconds=done.wait)) as client:
        transform = asyncio.create_task(client.transform())
        await client.sandbox.seen("/transform")
        (trans_id,) = client.sandbox.tasks
        while (status := (await client.answer("progress", trans_id=trans_id))["data"]["status"]) == "waiting":
            pass
        assert status == "process"
        assert not transform.done()
        done.set()
        assert (await transform)["data"] == {"trans_id": trans_id, "status": "finish"}
        progress = (await client.answer("progress", trans_id=trans_id))["data"]
        _, body = await client.bytes_of(trans_id)
    assert progress == {"status": "finish", "filesize": str(len(body))}


async def test_a_busy_vendor_says_so_in_time_and_statuses_can_be_played(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, work_seconds=asyncio.Event().wait, busy_after=0.01)) as client:
        assert (await client.transform())["data"]["status"] == "busy"
        client.sandbox.settings = AT_ONCE
        client.sandbox.play("waiting", "compressing", "fatal")
        trans_id = (await client.transform())["data"]["trans_id"]
        said = [(await client.answer("progress", trans_id=trans_id))["data"]["status"] for _ in range(3)]
        assert said == ["compressing", "fatal", "fatal"]
        assert (await client.answer("download", trans_id=trans_id))["code"] == 10011


@pytest.mark.parametrize(
    ("shape", "content_type"),
    [
        ("json", "application/json"),
        ("form", "application/x-www-form-urlencoded"),
        ("empty", "application/octet-stream"),
        ("text", "text/plain"),
    ],
)
async def test_a_webhook_comes_after_the_answer_in_any_shape(vendor: Any, shape: Shape, content_type: str) -> None:
    settings = replace(AT_ONCE, webhook=WebhookPlan(shape=shape))
    async with Receiver() as receiver, vendor(settings) as client:
        data = (await client.transform(webhook=receiver.url))["data"]
        assert data["status"] == "webhook"
        assert (await client.sandbox.webhook_sent()).status == 204
        method, got_type, body = receiver.got[0]
    assert (method, got_type) == ("POST", content_type)
    assert (data["trans_id"].encode() in body) == (shape != "empty")


async def test_a_webhook_is_repeated_three_times_in_all_on_bad_answers(vendor: Any) -> None:
    settings = replace(AT_ONCE, webhook=WebhookPlan(repeat_seconds=0))
    async with Receiver(400, 404, 500, 400) as receiver, vendor(settings) as client:
        await client.transform(webhook=receiver.url)
        await client.sandbox.webhook_sent(3)
        # The next job's news comes after all that there was of the first.
        await client.transform(webhook=receiver.url)
        await client.sandbox.webhook_sent(6)
        first, second = client.sandbox.tasks
    assert [sent.trans_id for sent in client.sandbox.webhooks] == [first] * 3 + [second] * 3


async def test_a_webhook_may_come_early_twice_or_never(vendor: Any) -> None:
    async with Receiver() as receiver, vendor(replace(AT_ONCE, webhook=WebhookPlan(early=True, copies=2))) as client:
        await client.transform(webhook=receiver.url)
        assert len(receiver.got) == 2
        client.sandbox.settings = replace(AT_ONCE, webhook=WebhookPlan(never=True))
        trans_id = (await client.transform(webhook=receiver.url))["data"]["trans_id"]
        await client.sandbox.tasks[trans_id].ended.wait()
        assert len(receiver.got) == 2


async def test_a_webhook_comes_although_the_answer_to_transform_was_lost(vendor: Any) -> None:
    async with Receiver() as receiver, vendor() as client:
        client.sandbox.faults.next("transform", faults.ANSWER_LOST)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.transform(webhook=receiver.url)
        (trans_id,) = client.sandbox.tasks
        assert (await client.sandbox.webhook_sent()).trans_id == trans_id


@pytest.mark.parametrize("url", ["http://shop.example/hook", "ftp://127.0.0.1/hook", "nonsense"])
async def test_a_webhook_must_be_https_except_towards_loopback(vendor: Any, url: str) -> None:
    async with vendor() as client:
        assert (await client.transform(webhook=url))["code"] == 10001
        client.sandbox.settings = replace(AT_ONCE, allow_http_webhooks=False)
        assert (await client.transform(webhook="http://127.0.0.1/hook"))["code"] == 10001
        assert len(client.sandbox.violations) == 2


async def test_the_first_download_is_charged_and_its_repetition_is_free(vendor: Any) -> None:
    async with vendor() as client:
        enlarged = (await client.transform())["data"]["trans_id"]
        sharpened = (await client.transform(SHARPEN))["data"]["trans_id"]
        assert client.sandbox.charged == []
        for trans_id in (enlarged, enlarged, sharpened, sharpened):
            assert (await client.bytes_of(trans_id))[0] == "image/jpeg"
        assert client.sandbox.charged == [(enlarged, Decimal(1)), (sharpened, Decimal(2))]
        async with client.session.get(f"{client.sandbox.base_url}/point", params={"api_token": KEY}) as reply:
            assert (await reply.json())["data"] == {"max_num": "500.000", "used_num": "3.000"}
        page = (await client.answer("points/record", page="2", limit="1"))["data"]
    assert {name: page[name] for name in ("current_page", "last_page", "per_page", "total")} == {
        "current_page": 2,
        "last_page": 2,
        "per_page": 1,
        "total": 2,
    }
    (row,) = page["datas"]
    assert (row["point_type"], row["job"], row["point"], row["balance"]) == ("download", "enlarge3", "1.000", "499.000")


async def test_where_jobs_are_charged_a_second_transform_is_a_second_bill(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, point_type="job", credits=Decimal(2))) as client:
        uid = await client.uid()
        first, second = [(await client.transform(uid=uid))["data"]["trans_id"] for _ in range(2)]
        await client.bytes_of(first)
        assert client.sandbox.charged == [(first, Decimal(1)), (second, Decimal(1))]
        assert (await client.transform(uid=uid))["code"] == 30004
        assert client.sandbox.violations == []


async def test_a_download_too_early_or_too_late_is_10011_and_noted(vendor: Any) -> None:
    now = 1_000_000.0
    done = asyncio.Event()
    settings = replace(AT_ONCE, work_seconds=done.wait, webhook=WebhookPlan(never=True))
    async with vendor(settings, clock=lambda: now) as client:
        trans_id = (await client.transform(webhook="https://client.example/hook"))["data"]["trans_id"]
        content_type, body = await client.bytes_of(trans_id)
        assert (content_type, json.loads(body)["code"]) == ("application/json", 10011)
        done.set()
        await client.sandbox.tasks[trans_id].ended.wait()
        now += settings.result_seconds + 1
        assert json.loads((await client.bytes_of(trans_id))[1])["code"] == 10011
        assert [note.rsplit(": ", 1)[1] for note in client.sandbox.violations] == [
            "downloaded before the job has finished",
            "downloaded after the result has expired",
        ]
        assert client.sandbox.charged == []


async def test_asking_sooner_than_every_two_seconds_is_noted(vendor: Any) -> None:
    now = 50.0
    settings = replace(AT_ONCE, poll_seconds=2.0, work_seconds=asyncio.Event().wait, busy_after=0.01)
    async with vendor(settings, monotonic=lambda: now) as client:
        trans_id = (await client.transform())["data"]["trans_id"]
        for later in (0.0, 2.0, 1.5):
            now += later
            await client.answer("progress", trans_id=trans_id)
        assert client.sandbox.violations == ["POST progress: asked again after 1.50 s, the document says 2 s"]


async def test_who_is_told_that_the_work_goes_on_must_wait_though_it_was_done_long_ago(vendor: Any) -> None:
    now = 50.0
    async with vendor(replace(AT_ONCE, poll_seconds=2.0), monotonic=lambda: now) as client:
        client.sandbox.play("process", "waiting", "process", "waiting", "finish")
        trans_id = (await client.transform())["data"]["trans_id"]
        await client.sandbox.tasks[trans_id].ended.wait()
        for later in (0.0, 2.0, 1.5):
            now += later
            await client.answer("progress", trans_id=trans_id)
        assert client.sandbox.violations == ["POST progress: asked again after 1.50 s, the document says 2 s"]


async def test_unknown_repeated_or_misplaced_fields_and_urls_are_noted(vendor: Any) -> None:
    async with vendor() as client:
        url = client.sandbox.base_url
        assert (await client.answer("progress", trans_id="x", surprise="1"))["code"] == 10001
        twice = [("api_token", KEY), ("trans_id", "x"), ("trans_id", "y")]
        for request in (
            client.session.post(f"{url}/progress", data=twice),
            client.session.post(f"{url}/progress", params={"api_token": KEY, "trans_id": "x"}),
            client.session.post(f"{url}/progress", json={"api_token": KEY}),
            client.session.post(f"{url}/point", data={"api_token": KEY}),
            client.session.get(f"{url}/nothing"),
        ):
            async with request as reply:
                await reply.read()
        assert len(client.sandbox.violations) == 6
        assert "POST progress: given twice: trans_id" in client.sandbox.violations


async def test_progress_download_and_history_answer_to_get_as_well(vendor: Any) -> None:
    async with vendor() as client:
        trans_id = (await client.transform())["data"]["trans_id"]
        for endpoint, fields in (
            ("progress", {"trans_id": trans_id}),
            ("download", {"trans_id": trans_id}),
            ("points/record", {}),
        ):
            url = f"{client.sandbox.base_url}/{endpoint}"
            async with client.session.get(url, params={"api_token": KEY} | fields) as reply:
                body = await reply.read()
            assert reply.content_type == "image/jpeg" if endpoint == "download" else json.loads(body)["code"] == 200
        assert client.sandbox.violations == []


async def test_the_token_is_told_nowhere(vendor: Any) -> None:
    async with vendor(key="very-secret") as client:
        await client.answer("progress", api_token="very-secret", trans_id="x")
        await client.answer("progress", api_token="guess-secret", trans_id="x")
        async with client.session.get(f"{client.sandbox.base_url}/point", params={"api_token": "very-secret"}) as reply:
            assert reply.status == 200
        assert "secret" not in repr(client.sandbox.requests) + repr(client.sandbox.violations)
        assert client.sandbox.requests[-1].query_names == {"api_token"}


async def test_a_dropped_request_does_nothing_and_a_lost_answer_has_done_everything(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, point_type="job")) as client:
        client.sandbox.faults.next("transform", faults.DROPPED_BEFORE_WORK)
        client.sandbox.faults.next("transform", faults.ANSWER_LOST)
        client.sandbox.faults.next("transform", faults.HTML_500_AFTER_WORK)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.transform()
        assert (client.sandbox.tasks, client.sandbox.charged) == ({}, [])
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.transform()
        assert len(client.sandbox.tasks) == len(client.sandbox.charged) == 1
        with pytest.raises(AssertionError):
            await client.transform()
        assert len(client.sandbox.charged) == 2


async def test_every_kind_of_bad_download_can_be_played(vendor: Any) -> None:
    async with vendor() as client:
        trans_id = (await client.transform())["data"]["trans_id"]
        queue = (vanceai.error(10010, {"file": ["gone"]}), faults.NOT_AN_IMAGE, faults.CUT_IMAGE, faults.TRUNCATED)
        for fault in queue:
            client.sandbox.faults.next("download", fault)
        assert json.loads((await client.bytes_of(trans_id))[1]) == {"code": 10010, "msg": {"file": ["gone"]}}
        content_type, body = await client.bytes_of(trans_id)
        assert content_type == "image/png"
        assert b"not an image" in body
        _, cut = await client.bytes_of(trans_id)
        with pytest.raises(OSError, match="truncated"):
            Image.open(io.BytesIO(cut)).load()
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.bytes_of(trans_id)
        assert len((await client.bytes_of(trans_id))[1]) > len(cut)


async def test_a_held_request_goes_on_when_released(vendor: Any) -> None:
    async with vendor() as client:
        client.sandbox.faults.next("upload", faults.HANG)
        client.sandbox.faults.next("upload", Fault(change=faults.swapped))
        upload = asyncio.create_task(client.upload())
        await client.sandbox.seen("/upload")
        swapped = await client.upload()
        assert not upload.done()
        client.sandbox.faults.release()
        assert (await upload)["code"] == 200
    assert (swapped["code"], swapped["data"]["w"]) == ("200", "120")
    with pytest.raises(KeyError):
        client.sandbox.faults.next("uplaod", faults.HANG)


async def test_stopping_leaves_no_task_and_no_socket(vendor: Any) -> None:
    before = asyncio.all_tasks()
    async with vendor(replace(AT_ONCE, work_seconds=asyncio.Event().wait)) as client:
        client.sandbox.faults.next("progress", faults.HANG)
        waiting = [
            asyncio.create_task(client.transform()),
            asyncio.create_task(client.answer("progress", trans_id="x")),
        ]
        await client.sandbox.seen("/transform")
        await client.sandbox.seen("/progress")
        await client.sandbox.stop()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, aiohttp.ClientConnectionError) for outcome in outcomes)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.upload()
    assert asyncio.all_tasks() == before
