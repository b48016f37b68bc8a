"""PicWish's stand-in keeps PicWish's document (seed 004), so that a client that passes here has read it too."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from PIL import Image

from handlers.sandbox import faults, picwish
from handlers.sandbox.picwish import PicWishSandbox, PicWishSettings
from tests.ports import free_port

pytestmark = pytest.mark.anyio

KEY = "sandbox-key"
PATH = "/api/tasks/visual/self-face-cutout"
# Only the tests about the rate limit keep it; the others would have to wait.
AT_ONCE = PicWishSettings(work_seconds=0, poll_seconds=0, qps=1000)


class Client:
    """The document's curl examples."""

    def __init__(self, sandbox: PicWishSandbox, session: aiohttp.ClientSession, photo: bytes) -> None:
        self.sandbox, self.session, self.photo = sandbox, session, photo
        self.headers = {"X-API-KEY": KEY}

    async def create(self, *, file: bytes | None = None, name: str = "face.jpg", **fields: str) -> tuple[int, Any]:
        form = aiohttp.FormData(default_to_multipart=True)
        for field, value in fields.items():
            form.add_field(field, value)
        if file is not None:
            form.add_field("image_file", io.BytesIO(file), filename=name)
        async with self.session.post(self.sandbox.base_url + PATH, data=form, headers=self.headers) as reply:
            return reply.status, json.loads(await reply.read())

    async def task_id(self, **fields: str) -> str:
        status, answer = await self.create(file=self.photo, sync="0", **fields)
        assert (status, answer["status"], answer["data"].keys()) == (200, 200, {"task_id"})
        return str(answer["data"]["task_id"])

    async def query(self, task_id: str) -> tuple[int, Any]:
        async with self.session.get(f"{self.sandbox.base_url}{PATH}/{task_id}", headers=self.headers) as reply:
            return reply.status, json.loads(await reply.read())

    async def finished(self, **fields: str) -> Any:
        status, answer = await self.create(**({"sync": "1"} | fields), file=self.photo)
        assert status == 200
        return answer["data"]

    async def link(self, url: str) -> tuple[int, bytes]:
        async with self.session.get(url) as reply:
            return reply.status, await reply.read()

    async def image(self, url: str) -> Image.Image:
        image = Image.open(io.BytesIO((await self.link(url))[1]))
        image.load()
        return image


@pytest.fixture
def photo(photos: Path) -> bytes:
    """A portrait small enough for quick filters."""
    with Image.open(photos / "astronaut.jpg") as image:
        image.thumbnail((128, 128))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def vendor(photo: bytes) -> Callable[..., Any]:
    @asynccontextmanager
    async def running(settings: PicWishSettings = AT_ONCE, **options: Any) -> AsyncIterator[Client]:
        async with PicWishSandbox(settings, **options) as sandbox, aiohttp.ClientSession() as session:
            # What never comes fails the test and doesn't hang it.
            async with asyncio.timeout(20):
                yield Client(sandbox, session, photo)

    return running


def blank(form: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", size).save(buffer, form)
    return buffer.getvalue()


@asynccontextmanager
async def serving(answer: web.Response) -> AsyncIterator[str]:
    """A place on the web that has one picture."""

    async def give(_: web.Request) -> web.Response:
        return answer

    app = web.Application()
    app.router.add_get("/face.jpg", give)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/face.jpg"
    finally:
        await runner.cleanup()


async def test_an_asynchronous_task_is_asked_for_until_image_and_mask_are_there(vendor: Any) -> None:
    done = asyncio.Event()
    async with vendor(replace(AT_ONCE, work_seconds=done.wait), clock=lambda: 1_700_000_000.9) as client:
        task_id = await client.task_id()
        while (data := (await client.query(task_id))[1]["data"])["state"] == 0:
            assert data["progress"] == 0
        assert (data["state"], data["created_at"], "image" in data) == (4, "1700000000", False)
        done.set()
        await client.sandbox.tasks[task_id].ended.wait()
        status, answer = await client.query(task_id)
        assert (status, answer["status"], answer["message"]) == (200, 200, "success")
        assert answer["data"].keys() == {
            "task_id",
            "created_at",
            "processed_at",
            "completed_at",
            "image",
            "mask",
            "progress",
            "state",
        }
        assert (answer["data"]["state"], answer["data"]["progress"]) == (1, 100)
        assert answer["data"]["completed_at"] == "1700000000"
        cut, mask = await client.image(answer["data"]["image"]), await client.image(answer["data"]["mask"])
        assert (cut.format, cut.mode, cut.size, mask.mode, mask.size) == ("PNG", "RGBA", (128, 128), "L", (128, 128))
        assert cut.getchannel("A").tobytes() == mask.tobytes()
        assert mask.getextrema() == (0, 255)
        assert "Wirephoto sandbox" in str(cut.info["Comment"])
        assert client.sandbox.violations == []


async def test_a_synchronous_task_is_answered_whole_and_can_still_be_asked_for(vendor: Any) -> None:
    async with vendor() as client:
        data = await client.finished()
        assert isinstance(data.pop("output_type"), int)
        assert (await client.query(data["task_id"]))[1]["data"] == data


async def test_crop_cuts_to_the_face_and_jpg_has_a_white_ground(vendor: Any) -> None:
    async with vendor() as client:
        flat = await client.finished(crop="0", output_format="jpg")
        assert (flat["image"][-4:], flat["mask"][-4:]) == (".jpg", ".png")
        whole = await client.image(flat["image"])
        cropped = await client.finished(crop="1")
        image, mask = await client.image(cropped["image"]), await client.image(cropped["mask"])
    assert (whole.format, whole.mode, whole.size) == ("JPEG", "RGB", (128, 128))
    corner = whole.getpixel((127, 127))
    assert isinstance(corner, tuple)
    assert min(corner) > 245
    assert image.size == mask.size
    assert image.width < 128
    assert image.height < 128


@pytest.mark.parametrize(
    "fields",
    [
        {"sync": "0"},
        {"image_url": "https://x.example/a.jpg", "file": b"both"},
        {"image_url": "ftp://x.example/a.jpg"},
        {"file": b"x", "sync": "2"},
        {"file": b"x", "sync": "true"},
        {"file": b"x", "crop": "yes"},
        {"file": b"x", "output_format": "webp"},
        {"file": b"x", "surprise": "1"},
        {"file": b"x", "name": "a.gif"},
    ],
    ids=str,
)
async def test_a_create_against_the_document_is_400_and_noted(vendor: Any, fields: dict[str, Any]) -> None:
    async with vendor() as client:
        status, answer = await client.create(**fields)
        assert (status, answer["status"]) == (400, 400)
        assert len(client.sandbox.violations) == 1
        assert client.sandbox.tasks == {}


async def test_create_takes_nothing_but_multipart(vendor: Any) -> None:
    async with vendor() as client:
        form = {"sync": "0", "image_url": "https://x.example/a.jpg"}
        for body in ({"data": form}, {"json": form}):
            async with client.session.post(client.sandbox.base_url + PATH, headers=client.headers, **body) as reply:
                assert reply.status == 400


async def test_a_missing_or_wrong_key_is_401_and_told_nowhere(vendor: Any) -> None:
    async with vendor(key="very-secret") as client:
        for headers in ({}, {"X-API-KEY": "guess-secret"}):
            client.headers = headers
            assert (await client.create(file=client.photo))[0] == 401
            assert (await client.query("x"))[0] == 401
        client.headers = {"X-API-KEY": "very-secret"}
        await client.task_id()
        assert "secret" not in repr(client.sandbox.requests) + repr(client.sandbox.violations)


async def test_a_file_over_20_mb_or_4096_pixels_is_413(vendor: Any, photo: bytes) -> None:
    async with vendor() as client:
        assert (await client.create(file=photo + bytes(20 * 1024 * 1024)))[0] == 413
        assert (await client.create(file=blank("PNG", (4097, 10)), name="a.png"))[0] == 413
        assert (await client.create(file=blank("PNG", (4096, 10)), name="a.png"))[0] == 200


@pytest.mark.parametrize("data", [b"no image", blank("GIF", (9, 9)), b""], ids=["text", "gif", "empty"])
async def test_a_file_that_is_no_image_of_the_list_ends_as_minus_7(vendor: Any, data: bytes) -> None:
    async with vendor() as client:
        _, answer = await client.create(file=data, sync="1")
        assert (answer["status"], answer["data"]["state"]) == (200, -7)
        assert client.sandbox.charged == []


async def test_the_vendor_fetches_an_image_url_itself(vendor: Any, photo: bytes) -> None:
    async with vendor() as client:
        async with serving(web.Response(body=photo)) as url:
            assert (await client.create(image_url=url, sync="1"))[1]["data"]["state"] == 1
        # Now nobody listens there any more.
        assert (await client.create(image_url=url, sync="1"))[1]["data"]["state"] == -3
        async with serving(web.Response(status=403)) as url:
            assert (await client.create(image_url=url, sync="1"))[1]["data"]["state"] == -3
        async with serving(web.Response(body=photo + bytes(30 * 1024 * 1024))) as url:
            assert (await client.create(image_url=url, sync="1"))[1]["data"]["state"] == -5


async def test_the_third_request_within_a_second_is_429_and_noted_whatever_it_asks(vendor: Any) -> None:
    now = 100.0
    async with vendor(replace(AT_ONCE, qps=2), monotonic=lambda: now) as client:
        task_id = await client.task_id()
        now += 0.999
        assert (await client.query(task_id))[0] == 200
        status, answer = await client.query(task_id)
        assert (status, answer["status"]) == (429, 429)
        # Refused requests count: the window slides over arrivals, not over answers.
        now += 0.5
        assert (await client.query(task_id))[0] == 429
        assert client.sandbox.violations == [
            "GET query: 3 requests within 0.999 s",
            "GET query: 3 requests within 0.500 s",
        ]
        now += 1.0
        assert [(await client.query(task_id))[0] for _ in range(2)] == [200, 200]


async def test_result_links_are_outside_the_rate_limit_and_need_no_key(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, qps=1), monotonic=lambda: 0.0) as client:
        data = await client.finished()
        assert [(await client.link(data[name]))[0] for name in ("image", "mask", "image")] == [200, 200, 200]
        assert client.sandbox.violations == []
        async with client.session.get(data["image"], headers=client.headers) as reply:
            await reply.read()
        assert client.sandbox.violations == ["GET result: the API key was sent to a result link"]


@pytest.mark.parametrize("state", [0, 2, 3, 4, 5, 6, 99, -1, -2, -3, -5, -7, -8, -9, -10, -11, -13, -14, -15, -16, -17])
async def test_every_state_can_be_played(vendor: Any, state: int) -> None:
    async with vendor() as client:
        client.sandbox.play(0, 3, state)
        task_id = await client.task_id()
        said = [(await client.query(task_id))[1]["data"] for _ in range(4)]
        assert [data["state"] for data in said] == [0, 3, state, state]
        assert not any("image" in data for data in said)
        assert client.sandbox.charged == []


async def test_a_played_success_is_not_said_before_there_is_a_result(vendor: Any) -> None:
    done = asyncio.Event()
    async with vendor(replace(AT_ONCE, work_seconds=done.wait)) as client:
        client.sandbox.play(6, 1)
        task_id = await client.task_id()
        assert (await client.query(task_id))[1]["data"]["state"] == 6
        assert (await client.query(task_id))[1]["data"]["state"] in (0, 4)
        done.set()
        await client.sandbox.tasks[task_id].ended.wait()
        assert (await client.query(task_id))[1]["data"]["state"] == 1


async def test_a_task_over_the_vendors_time_ends_as_minus_8(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, work_seconds=asyncio.Event().wait, max_seconds=0.01)) as client:
        assert (await client.finished())["state"] == -8


async def test_tasks_and_links_are_gone_after_the_hour_and_unknown_ones_never_were(vendor: Any) -> None:
    now = 1_000_000.0
    async with vendor(clock=lambda: now) as client:
        data = await client.finished()
        now += 3600
        assert (await client.query(data["task_id"]))[0] == 200
        assert (await client.link(data["image"]))[0] == 200
        now += 1
        status, answer = await client.query(data["task_id"])
        assert (status, answer["status"]) == (404, 404)
        assert (await client.link(data["image"]))[0] == (await client.link(data["mask"]))[0] == 404
        assert (await client.query("0" * 32))[0] == 404
        assert (await client.link(f"{client.sandbox.base_url}{PATH}-of-cats"))[0] == 404
        assert len(client.sandbox.violations) == 5


async def test_asking_sooner_than_every_second_is_noted(vendor: Any) -> None:
    now = 0.0
    async with vendor(replace(AT_ONCE, poll_seconds=1.0), monotonic=lambda: now) as client:
        task_id = await client.task_id()
        for later in (0.0, 1.0, 0.6):
            now += later
            await client.query(task_id)
        assert client.sandbox.violations == ["GET query: asked again after 0.60 s, the document says 1 s"]


async def test_more_tasks_than_the_vendor_works_on_wait_in_its_queue(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, parallel=1, work_seconds=asyncio.Event().wait)) as client:
        first, second = await client.task_id(), await client.task_id()
        while (await client.query(first))[1]["data"]["state"] != 4:
            pass
        assert (await client.query(second))[1]["data"]["state"] == 0


async def test_a_lost_answer_leaves_a_task_behind_and_errors_can_be_played(vendor: Any) -> None:
    async with vendor() as client:
        client.sandbox.faults.next("create", faults.DROPPED_BEFORE_WORK)
        client.sandbox.faults.next("create", faults.ANSWER_LOST)
        client.sandbox.faults.next("create", picwish.error(500))
        for left in (0, 1):
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.task_id()
            assert len(client.sandbox.tasks) == left
        assert (await client.sandbox.seen("create", 2)).fields["sync"] == "0"
        assert await client.create(file=client.photo) == (500, {"status": 500, "message": picwish.MESSAGES[500]})
        client.sandbox.faults.next("result", faults.NOT_AN_IMAGE)
        client.sandbox.faults.next("query", faults.WRONG_TYPES)
        data = await client.finished()
        assert b"not an image" in (await client.link(data["image"]))[1]
        assert (await client.query(data["task_id"]))[1]["data"]["state"] == "1"


async def test_the_same_photo_gives_the_same_bytes(vendor: Any) -> None:
    async with vendor() as client:
        first, second = await client.finished(), await client.finished()
        assert first["task_id"] != second["task_id"]
        assert (await client.link(first["image"]))[1] == (await client.link(second["image"]))[1]


async def test_a_vendor_that_comes_back_still_knows_its_tasks(vendor: Any) -> None:
    async with vendor() as client:
        port = free_port()
        await client.sandbox.stop()
        await client.sandbox.start(port=port)
        data = await client.finished()
        await client.sandbox.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.query(data["task_id"])
        await client.sandbox.start(port=port)
        assert (await client.query(data["task_id"]))[1]["data"]["image"] == data["image"]
