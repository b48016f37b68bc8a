"""AILabTools' stand-in keeps the vendor's documents (seeds 001 and 003), so that a client that passes has read them."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image, ImageStat

from handlers.sandbox import ailabtools, faults
from handlers.sandbox.ailabtools import CODES, QUERY_PATH, AILabToolsSandbox, AILabToolsSettings

pytestmark = pytest.mark.anyio

AT_ONCE = AILabToolsSettings(work_seconds=0, poll_seconds=0)
REFINE = {"task_type": "async", "gender": "woman"}
Answer = tuple[int, Any]


class Client:
    """The documents' curl examples."""

    def __init__(self, sandbox: AILabToolsSandbox, session: aiohttp.ClientSession, photo: bytes) -> None:
        self.sandbox, self.session, self.photo = sandbox, session, photo
        self.headers = {"ailabapi-api-key": sandbox.credentials["api_key"]}

    async def post(self, path: str, files: Mapping[str, Any], fields: Mapping[str, str]) -> Answer:
        """A file is its bytes, or its name and its bytes; None leaves it out."""
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in fields.items():
            form.add_field(name, value)
        for name, given in files.items():
            if given is not None:
                filename, data = given if isinstance(given, tuple) else (f"{name}.jpg", given)
                form.add_field(name, io.BytesIO(data), filename=filename)
        async with self.session.post(self.sandbox.base_url + path, data=form, headers=self.headers) as reply:
            return reply.status, json.loads(await reply.read())

    async def get(self, path: str, **query: str) -> Answer:
        url = self.sandbox.base_url + path
        async with self.session.get(url, params=query, headers=self.headers) as reply:
            return reply.status, json.loads(await reply.read())

    async def retouch(self, files: Mapping[str, Any] | None = None, **fields: str) -> Answer:
        given = {"image": self.photo, "style": self.photo, **(files or {})}
        return await self.post("/api/image/editing/photo-retouching", given, fields)

    async def refine(self, files: Mapping[str, Any] | None = None, **fields: str) -> Answer:
        given = {"person_image": self.photo, "top_garment": self.photo, "coarse_image": self.photo, **(files or {})}
        sent = {name: value for name, value in {**REFINE, **fields}.items() if value}
        return await self.post("/api/portrait/enhance/try-on-clothes-refiner", given, sent)

    async def task_id(self) -> str:
        status, answer = await self.refine()
        assert (status, answer["error_code"], answer["task_type"]) == (200, 0, "async")
        return str(answer["task_id"])

    async def query(self, task_id: str) -> Answer:
        return await self.get(QUERY_PATH, task_id=task_id)

    async def finished(self) -> Any:
        task_id = await self.task_id()
        await self.sandbox.tasks[task_id].ended.wait()
        return (await self.query(task_id))[1]

    async def link(self, url: str) -> tuple[int, bytes]:
        async with self.session.get(url) as reply:
            return reply.status, await reply.read()

    async def image(self, url: str) -> Image.Image:
        image = Image.open(io.BytesIO((await self.link(url))[1]))
        image.load()
        return image


@pytest.fixture
def photo(photos: Path) -> bytes:
    return encoded(photos / "astronaut.jpg", "JPEG", (200, 160))


@pytest.fixture
def vendor(photo: bytes) -> Callable[..., Any]:
    @asynccontextmanager
    async def running(settings: AILabToolsSettings = AT_ONCE, **options: Any) -> AsyncIterator[Client]:
        async with AILabToolsSandbox(settings, **options) as sandbox, aiohttp.ClientSession() as session:
            # What never comes fails the test and doesn't hang it.
            async with asyncio.timeout(20):
                yield Client(sandbox, session, photo)

    return running


def encoded(path: Path, form: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.resize(size).save(buffer, form)
    return buffer.getvalue()


def blank(form: str, size: tuple[int, int], mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form)
    return buffer.getvalue()


def refusal(code: str, answer: Answer) -> bool:
    """Whether an answer is this code's, in all the places where the document has it."""
    status, told = answer
    expected, summary = CODES[code]
    assert (status, told["error_code"], told["error_detail"]["status_code"]) == (expected, expected, expected)
    assert told["error_detail"]["code_message"] == summary
    assert told["request_id"]
    assert told["log_id"]
    return bool(told["error_detail"]["code"] == code)


async def test_a_retouch_is_answered_with_its_result(vendor: Any, photos: Path) -> None:
    async with vendor() as client:
        style = encoded(photos / "coffee.jpg", "PNG", (64, 64))
        status, answer = await client.retouch({"style": ("style.png", style)})
        assert (status, answer["error_code"], answer["error_code_str"], answer["error_msg"]) == (200, 0, "", "")
        assert answer["error_detail"] == {"status_code": 200, "code": "", "code_message": "", "message": ""}
        assert answer["data"].keys() == {"image_url"}
        image = await client.image(answer["data"]["image_url"])
        assert image.size == (200, 160)
        # The picture took the style's tones: it is not simply given back.
        wanted = ImageStat.Stat(Image.open(io.BytesIO(style)).convert("RGB")).mean
        found = ImageStat.Stat(image.convert("RGB")).mean
        assert all(abs(one - other) < 12 for one, other in zip(wanted, found, strict=True))
        assert "Wirephoto sandbox" in str(image.info["Comment"])
        assert [points for _, points in client.sandbox.charged] == [Decimal(3)]
        assert client.sandbox.violations == []


async def test_a_refinement_is_asked_for_until_it_is_there(vendor: Any) -> None:
    done = asyncio.Event()
    async with vendor(replace(AT_ONCE, work_seconds=done.wait)) as client:
        task_id = await client.task_id()
        while (await client.query(task_id))[1]["task_status"] == 0:
            pass
        running = (await client.query(task_id))[1]
        assert (running["task_status"], running["error_code"], "output" in running) == (1, 0, False)
        assert client.sandbox.charged == []
        done.set()
        await client.sandbox.tasks[task_id].ended.wait()
        status, answer = await client.query(task_id)
        assert (status, answer["error_code"], answer["task_status"]) == (200, 0, 2)
        assert answer["usage"] == {"image_count": 1}
        assert (await client.image(answer["output"]["image_url"])).size == (200, 160)
        assert client.sandbox.charged == [(task_id, Decimal(25))]
        assert client.sandbox.violations == []


async def test_all_six_fields_and_every_format_of_the_document_are_taken(vendor: Any, photos: Path) -> None:
    async with vendor() as client:
        for form, name in (("JPEG", "a.JPEG"), ("PNG", "a.png"), ("BMP", "a.bmp")):
            data = encoded(photos / "cat.jpg", form, (151, 4095))
            status, _ = await client.refine(
                {"person_image": (name, data), "bottom_garment": ("bottom" + name[1:], data)}
            )
            assert status == 200
        for gender in ("woman", "man"):
            assert (await client.refine(gender=gender))[0] == 200
        assert client.sandbox.violations == []


@pytest.mark.parametrize(
    ("operation", "code", "changes"),
    [
        ("refine", "MISSING_PARAMETERS", {"task_type": ""}),
        ("refine", "MISSING_PARAMETERS", {"gender": ""}),
        ("refine", "MISSING_PARAMETERS", {"files": {"coarse_image": None}}),
        ("refine", "MISSING_PARAMETERS", {"files": {"top_garment": None}}),
        ("refine", "MISSING_PARAMETERS", {"files": {"person_image": None}}),
        ("refine", "ERROR_INVALID_PARAMETER", {"task_type": "sync"}),
        ("refine", "ERROR_INVALID_PARAMETER", {"gender": "female"}),
        ("refine", "ERROR_INVALID_PARAMETER", {"surprise": "1"}),
        ("refine", "ERROR_INVALID_PARAMETER", {"files": {"surprise": b"x"}}),
        ("refine", "ERROR_INVALID_PARAMETER", {"bottom_garment": "https://x.example/a.jpg"}),
        ("refine", "UNSUPPORTED_FILE_TYPES", {"files": {"bottom_garment": b"no image"}}),
        ("refine", "UNSUPPORTED_FILE_TYPES", {"files": {"top_garment": ("a.gif", blank("GIF", (200, 200)))}}),
        ("refine", "UNSUPPORTED_FILE_TYPES", {"files": {"top_garment": ("a.jpg", blank("PNG", (200, 200)))}}),
        ("refine", "FILE_RESOLUTION_EXCEEDS_LIMITS", {"files": {"top_garment": ("a.png", blank("PNG", (150, 200)))}}),
        ("refine", "FILE_RESOLUTION_EXCEEDS_LIMITS", {"files": {"top_garment": ("a.png", blank("PNG", (200, 4096)))}}),
        ("retouch", "MISSING_PARAMETERS", {"files": {"style": None}}),
        ("retouch", "MISSING_PARAMETERS", {"files": {"image": None}}),
        ("retouch", "ERROR_INVALID_PARAMETER", {"task_type": "async"}),
        ("retouch", "UNSUPPORTED_FILE_TYPES", {"files": {"style": ("a.bmp", blank("BMP", (200, 200)))}}),
        ("retouch", "FILE_RESOLUTION_EXCEEDS_LIMITS", {"files": {"style": ("a.png", blank("PNG", (32, 200)))}}),
        ("retouch", "FILE_RESOLUTION_EXCEEDS_LIMITS", {"files": {"image": ("a.png", blank("PNG", (3000, 200)))}}),
    ],
    ids=str,
)
async def test_what_is_against_the_document_is_refused_and_noted(
    vendor: Any, operation: str, code: str, changes: dict[str, Any]
) -> None:
    async with vendor() as client:
        assert refusal(code, await getattr(client, operation)(**changes))
        assert len(client.sandbox.violations) == 1
        assert client.sandbox.tasks == {}


async def test_a_field_given_twice_is_refused(vendor: Any, photo: bytes) -> None:
    async with vendor() as client:
        form = aiohttp.FormData(default_to_multipart=True)
        for name in ("image", "style", "style"):
            form.add_field(name, io.BytesIO(photo), filename=f"{name}.jpg")
        url = f"{client.sandbox.base_url}/api/image/editing/photo-retouching"
        async with client.session.post(url, data=form, headers=client.headers) as reply:
            assert refusal("ERROR_INVALID_PARAMETER", (reply.status, json.loads(await reply.read())))
        assert client.sandbox.violations == ["POST retouch: given twice: style"]


async def test_files_of_more_than_3_or_5_mb_are_too_large(vendor: Any, photo: bytes) -> None:
    async with vendor() as client:
        assert refusal("FILE_SIZE_EXCEEDS_LIMIT", await client.retouch({"style": photo + bytes(3 * 1024 * 1024)}))
        four = photo + bytes(4 * 1024 * 1024)
        assert (await client.refine({"person_image": four, "coarse_image": four}))[0] == 200
        assert refusal("FILE_SIZE_EXCEEDS_LIMIT", await client.refine({"coarse_image": four + bytes(1024 * 1024)}))


async def test_sides_between_the_limits_are_taken(vendor: Any) -> None:
    async with vendor() as client:
        narrow = ("a.png", blank("PNG", (33, 2999), "RGB"))
        assert (await client.retouch({"image": narrow, "style": narrow}))[0] == 200
        assert client.sandbox.violations == []


async def test_a_file_that_breaks_off_cannot_be_decoded(vendor: Any, photo: bytes) -> None:
    async with vendor() as client:
        assert refusal("FILE_DECODING_FAILURE", await client.retouch({"image": photo[: len(photo) // 2]}))
        _, answer = await client.refine({"coarse_image": photo[: len(photo) // 2]})
        await client.sandbox.tasks[answer["task_id"]].ended.wait()
        assert refusal("FILE_DECODING_FAILURE", await client.query(answer["task_id"]))
        assert client.sandbox.charged == []


async def test_a_missing_or_wrong_key_is_401_and_told_nowhere(vendor: Any) -> None:
    async with vendor(key="very-secret") as client:
        for headers in ({}, {"ailabapi-api-key": "guess-secret"}):
            client.headers = headers
            for answer in (
                client.retouch(),
                client.refine(),
                client.query("x"),
                client.get("/api/common/query-credits"),
            ):
                assert refusal("ERROR_USER_NOT_EXISTS", await answer)
        client.headers = {"ailabapi-api-key": "very-secret"}
        await client.task_id()
        assert "secret" not in repr(client.sandbox.requests) + repr(client.sandbox.violations)


async def test_work_is_paid_from_the_universal_credits_and_refused_where_they_end(vendor: Any) -> None:
    pools = {"common": Decimal(28), "image_photo_editing": Decimal("7.5")}
    async with vendor(replace(AT_ONCE, credits=pools)) as client:
        await client.finished()
        assert (await client.retouch())[0] == 200
        assert refusal("ERROR_NOT_ENOUGH_CREDITS", await client.retouch())
        _, answer = await client.get("/api/common/query-credits")
        assert [(pool["unique_sign"], pool["balance"], pool["total"]) for pool in answer["data"]] == [
            ("common", 0, 28),
            ("image_photo_editing", 7.5, 7.5),
        ]
        assert client.sandbox.violations == []
        client.sandbox.settings = replace(client.sandbox.settings, credits_alone=True)
        assert (await client.get("/api/common/query-credits"))[1]["data"]["unique_sign"] == "common"


@pytest.mark.parametrize("code", CODES)
async def test_every_code_can_be_played_at_every_endpoint_and_as_a_tasks_end(vendor: Any, code: str) -> None:
    async with vendor() as client:
        client.sandbox.faults.next("retouch", ailabtools.error(code))
        client.sandbox.faults.next("refine", ailabtools.error(code))
        for answer in (await client.retouch(), await client.refine()):
            assert (answer[0], answer[1]["error_detail"]["code"]) == (CODES[code][0], code)
        client.sandbox.play(0, 1, code)
        task_id = await client.task_id()
        assert [(await client.query(task_id))[1]["task_status"] for _ in range(2)] == [0, 1]
        assert refusal(code, await client.query(task_id))
        client.sandbox.play(code)
        assert refusal(code, await client.retouch())
        assert client.sandbox.charged == []
        assert client.sandbox.violations == []


async def test_a_failed_task_can_be_a_fine_answer_with_status_3(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, failure_as_status=True)) as client:
        client.sandbox.play("ERROR_BLURRY_FACE")
        status, answer = await client.query(await client.task_id())
        assert (status, answer["error_code"], answer["task_status"]) == (200, 0, 3)
        assert answer["error_detail"]["code"] == "ERROR_BLURRY_FACE"
        client.sandbox.play(1, 3)
        task_id = await client.task_id()
        assert [(await client.query(task_id))[1]["task_status"] for _ in range(3)] == [1, 3, 3]


async def test_fields_can_stand_under_data(vendor: Any) -> None:
    below = frozenset({"task_id", "task_type", "task_status", "output"})
    async with vendor(replace(AT_ONCE, under_data=below)) as client:
        _, answer = await client.refine()
        assert "task_id" not in answer
        task_id = answer["data"]["task_id"]
        await client.sandbox.tasks[task_id].ended.wait()
        _, answer = await client.query(task_id)
        assert (answer["data"].keys(), answer["usage"]) == ({"task_status", "output"}, {"image_count": 1})


async def test_the_newest_documents_fields_can_be_played(vendor: Any) -> None:
    async with vendor(replace(AT_ONCE, newest=True)) as client:
        _, answer = await client.retouch()
        assert answer.keys() == {"request_id", "log_id", "error_detail", "data"}
        status, answer = await client.refine(gender="x")
        assert (status, answer["error_detail"]["code"]) == (400, "ERROR_INVALID_PARAMETER")
        assert "error_code" not in answer
        assert "status_code" not in answer["error_detail"]


async def test_the_old_name_of_a_code_is_coarser_than_the_new_one(vendor: Any) -> None:
    async with vendor() as client:
        client.sandbox.play("ERROR_NO_FACE_IN_FILE")
        _, answer = await client.retouch()
        assert (answer["error_code_str"], answer["error_detail"]["code"]) == (
            "FILE_CONTENT_NON_COMPLIANCE",
            "ERROR_NO_FACE_IN_FILE",
        )


async def test_tasks_and_links_are_gone_after_their_day_and_unknown_ones_never_were(vendor: Any) -> None:
    now = 1_000_000.0
    async with vendor(clock=lambda: now) as client:
        answer, retouched = await client.finished(), (await client.retouch())[1]
        task_id = next(iter(client.sandbox.tasks))
        links = [answer["output"]["image_url"], retouched["data"]["image_url"]]
        now += 24 * 3600
        assert (await client.query(task_id))[0] == 200
        assert [(await client.link(link))[0] for link in links] == [200, 200]
        now += 1
        assert refusal("ERROR_RESOURCE_NOT_FOUND", await client.query(task_id))
        assert [(await client.link(link))[0] for link in links] == [404, 404]
        assert (await client.query("nobody's"))[0] == 404
        # What was answered at once is no task that could be asked for.
        assert (await client.query(retouched["request_id"]))[0] == 404
        assert (await client.link(f"{client.sandbox.base_url}/results/guess/{task_id}.png"))[0] == 404
        assert len(client.sandbox.violations) == 6


@pytest.mark.parametrize(
    ("waits", "noted"),
    # What was not asked earlier may be asked later, but not in a rush.
    [((0.0, 5.0, 4.5), "asked 3 times in 9.50 s"), ((13.0, 4.5, 2.0), "asked again after 2.00 s")],
)
async def test_questions_more_often_than_every_five_seconds_are_noted(vendor: Any, waits: Any, noted: str) -> None:
    now = 0.0
    async with vendor(replace(AT_ONCE, poll_seconds=5.0), monotonic=lambda: now) as client:
        task_id = await client.task_id()
        for later in waits:
            now += later
            await client.query(task_id)
        assert client.sandbox.violations == [f"GET query: {noted}, the document says every 5 s"]


async def test_a_query_says_which_task_and_nothing_else(vendor: Any) -> None:
    async with vendor() as client:
        task_id = await client.task_id()
        assert refusal("MISSING_PARAMETERS", await client.get(QUERY_PATH))
        assert refusal("ERROR_INVALID_PARAMETER", await client.get(QUERY_PATH, task_id=task_id, page="2"))
        assert refusal("ERROR_AI_NOT_EXISTS", await client.get("/api/common/query-async-task"))
        assert len(client.sandbox.violations) == 3


async def test_result_links_need_no_key_and_must_not_get_it(vendor: Any) -> None:
    async with vendor() as client:
        url = (await client.finished())["output"]["image_url"]
        assert (await client.link(url))[0] == 200
        assert client.sandbox.violations == []
        async with client.session.get(url, headers=client.headers) as reply:
            await reply.read()
        assert client.sandbox.violations == ["GET result: the API key was sent to a result link"]


async def test_a_lost_answer_leaves_paid_work_behind(vendor: Any) -> None:
    async with vendor() as client:
        client.sandbox.faults.next("retouch", faults.DROPPED_BEFORE_WORK)
        client.sandbox.faults.next("retouch", faults.ANSWER_LOST)
        client.sandbox.faults.next("retouch", faults.HTML_500)
        for left in (0, 1):
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.retouch()
            assert len(client.sandbox.charged) == left
        with pytest.raises(json.JSONDecodeError):
            await client.retouch()
