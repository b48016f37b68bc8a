"""A plain client for VanceAI's stand-in: the document's curl examples, and nothing of our own client."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from handlers.sandbox.vanceai import VanceAISandbox, VanceAISettings

KEY = "sandbox-key"
AT_ONCE = VanceAISettings(work_seconds=0, poll_seconds=0)


def config(module: str, model: str, *, name: str = "", key: str = "name", **params: Any) -> dict[str, Any]:
    inner = {"module": module, "module_params": {"model_name": model, **params}}
    return {key: name or module, "config": inner}


ENLARGE = config("enlarge3", "EnlargeStandard_2x_Stable", suppress_noise=40, remove_blur=60, scale=2)
SHARPEN = config(
    "sharpen3",
    "SharpenGeneralStable",
    name="va_sharpen_standard",
    remove_blur=0.5,
    suppress_noise=0.5,
    remove_artifacts=0.5,
    autoparams=True,
    automodel=True,
)
MATTING = config("matting", "MattingStable")


class Client:
    def __init__(self, sandbox: VanceAISandbox, session: aiohttp.ClientSession, photo: bytes) -> None:
        self.sandbox, self.session, self.photo = sandbox, session, photo

    async def answer(self, endpoint: str, **fields: str) -> Any:
        async with self.session.post(f"{self.sandbox.base_url}/{endpoint}", data={"api_token": KEY} | fields) as reply:
            assert reply.status == 200
            return json.loads(await reply.read())

    async def upload(self, photo: bytes | None = None, name: str = "cat.jpg") -> Any:
        form = aiohttp.FormData()
        form.add_field("api_token", KEY)
        form.add_field("file", io.BytesIO(photo or self.photo), filename=name)
        async with self.session.post(f"{self.sandbox.base_url}/upload", data=form) as reply:
            return json.loads(await reply.read())

    async def uid(self) -> str:
        return str((await self.upload())["data"]["uid"])

    async def transform(self, jconfig: Any = ENLARGE, **fields: str) -> Any:
        given = {"uid": await self.uid(), "jconfig": json.dumps(jconfig)} | fields
        return await self.answer("transform", **given)

    async def bytes_of(self, trans_id: str) -> tuple[str, bytes]:
        form = {"api_token": KEY, "trans_id": trans_id}
        async with self.session.post(f"{self.sandbox.base_url}/download", data=form) as reply:
            return reply.content_type, await reply.read()

    async def result(self, jconfig: Any) -> Image.Image:
        data = (await self.transform(jconfig))["data"]
        assert data["status"] == "finish"
        _, body = await self.bytes_of(data["trans_id"])
        return Image.open(io.BytesIO(body))


def small_photo(photos: Path) -> bytes:
    """A photograph small enough for quick filters: 120 × 80."""
    with Image.open(photos / "cat.jpg") as image:
        image.thumbnail((120, 80))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
    return buffer.getvalue()


@asynccontextmanager
async def running(photo: bytes, settings: VanceAISettings = AT_ONCE, **options: Any) -> AsyncIterator[Client]:
    """A client and its vendor; `options` are the sandbox's. What never comes fails the test and doesn't hang it."""
    async with VanceAISandbox(settings, **options) as sandbox, aiohttp.ClientSession() as session, asyncio.timeout(20):
        yield Client(sandbox, session, photo)
