"""PicWish's stand-in for the tasks beside the cutout: what the vendor's public pages say of them, and nothing else."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from handlers.sandbox.picwish import VISUAL_TASKS, PicWishSandbox, PicWishSettings

pytestmark = pytest.mark.anyio

KEY = {"X-API-KEY": "sandbox-key"}
SYNC = {"sync": "1"}


class Client:
    """The pages' curl examples."""

    def __init__(self, sandbox: PicWishSandbox, session: aiohttp.ClientSession, photo: bytes) -> None:
        self.sandbox, self._session, self._photo = sandbox, session, photo

    async def create(self, task: str, **fields: str) -> tuple[int, Any]:
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in fields.items():
            form.add_field(name, value)
        form.add_field("image_file", io.BytesIO(self._photo), filename="a.jpg")
        url = f"{self.sandbox.base_url}/api/tasks/visual/{task}"
        async with self._session.post(url, data=form, headers=KEY) as reply:
            return reply.status, json.loads(await reply.read())

    async def query(self, task: str, task_id: str) -> int:
        url = f"{self.sandbox.base_url}/api/tasks/visual/{task}/{task_id}"
        async with self._session.get(url, headers=KEY) as reply:
            return reply.status

    async def results(self, task: str, **fields: str) -> dict[str, Image.Image]:
        status, answer = await self.create(task, **SYNC, **fields)
        assert (status, answer["data"]["state"]) == (200, 1)
        found: dict[str, Image.Image] = {}
        for name in ("image", "mask"):
            if name in answer["data"]:
                async with self._session.get(answer["data"][name]) as reply:
                    found[name] = Image.open(io.BytesIO(await reply.read()))
                    found[name].load()
        return found


@pytest.fixture
async def client(photos: Path) -> AsyncIterator[Client]:
    async with _running(photos) as it:
        yield it


@asynccontextmanager
async def _running(photos: Path, side: int = 128) -> AsyncIterator[Client]:
    with Image.open(photos / "astronaut.jpg") as image:
        buffer = io.BytesIO()
        image.resize((side, side)).save(buffer, "JPEG")
    settings = PicWishSettings(work_seconds=0, poll_seconds=0, qps=1000)
    async with PicWishSandbox(settings) as sandbox, aiohttp.ClientSession() as session:
        yield Client(sandbox, session, buffer.getvalue())


@pytest.mark.parametrize(
    ("asked", "names"), [("", ["image"]), ("2", ["image"]), ("1", ["image", "mask"]), ("3", ["mask"])]
)
async def test_background_removal_gives_what_output_type_asks_for(client: Client, asked: str, names: list[str]) -> None:
    found = await client.results("segmentation", **({"output_type": asked} if asked else {}))
    assert list(found) == names
    modes = {"image": "RGBA", "mask": "L"}
    assert all(image.mode == modes[name] and image.size == (128, 128) for name, image in found.items())
    assert client.sandbox.violations == []


async def test_a_jpg_without_background_is_white_or_of_the_colour_asked_for(client: Client) -> None:
    for colour, expected in (("", (255, 255, 255)), ("00ff80", (0, 255, 128))):
        asked = {"bg_color": colour} if colour else {}
        found = await client.results("segmentation", format="jpg", output_type="1", **asked)
        image, mask = found["image"], found["mask"]
        assert (image.format, image.mode) == ("JPEG", "RGB")
        spot = mask.tobytes().index(0)
        pixel = image.getpixel((spot % 128, spot // 128))
        assert isinstance(pixel, tuple)
        assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) < 12


async def test_crop_cuts_to_the_subject(client: Client) -> None:
    cropped = (await client.results("segmentation", crop="1", type="person"))["image"]
    assert max(cropped.size) < 128


@pytest.mark.parametrize(
    ("side", "fields", "size"),
    [
        (128, {}, 512),
        (600, {}, 1200),
        (1100, {}, 1100),
        (128, {"scale_factor": "1"}, 128),
        (128, {"scale_factor": "2", "type": "face"}, 256),
    ],
)
async def test_enhancement_scales_as_asked_or_by_the_pictures_size(
    photos: Path, side: int, fields: dict[str, str], size: int
) -> None:
    async with _running(photos, side) as client:
        found = await client.results("scale", **fields)
        assert {name: image.size for name, image in found.items()} == {"image": (size, size)}


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("segmentation", {"output_format": "png"}),
        ("segmentation", {"output_type": "4"}),
        ("segmentation", {"type": "cat"}),
        ("segmentation", {"bg_color": "#ffffff"}),
        ("segmentation", {"bg_color": "white"}),
        ("segmentation", {"format": "webp"}),
        ("segmentation", {"scale_factor": "2"}),
        ("scale", {"scale_factor": "3"}),
        ("scale", {"type": "person"}),
        ("scale", {"crop": "1"}),
        ("scale", {"sync": "yes"}),
        ("self-face-cutout", {"type": "person"}),
    ],
)
async def test_an_option_of_another_task_or_none_is_400_and_noted(
    client: Client, task: str, fields: dict[str, str]
) -> None:
    assert (await client.create(task, **fields))[0] == 400
    assert len(client.sandbox.violations) == 1
    assert client.sandbox.tasks == {}


async def test_a_task_is_known_under_its_own_path_only(client: Client) -> None:
    for task in VISUAL_TASKS:
        _, answer = await client.create(task, **SYNC)
        found = {other: await client.query(other, answer["data"]["task_id"]) for other in VISUAL_TASKS}
        assert found == {other: 200 if other == task else 404 for other in VISUAL_TASKS}
