"""AILabTools' own SDK works against AILabTools' stand-in, unchanged: what it takes for the vendor's words, we say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from ailabtools import AILabClient  # type: ignore[import-untyped]  # it says that it is typed, and has no py.typed
from ailabtools.errors import AILabApiError  # type: ignore[import-untyped]
from PIL import Image

from handlers.sandbox import ailabtools as sandboxes
from handlers.sandbox import faults
from handlers.sandbox.ailabtools import AILabToolsSandbox, AILabToolsSettings

pytestmark = pytest.mark.anyio

QUICK = AILabToolsSettings(work_seconds=0, poll_seconds=0)
SIZE = (200, 160)


@asynccontextmanager
async def _running(
    settings: AILabToolsSettings = QUICK, key: str = "sandbox-key"
) -> AsyncIterator[tuple[AILabClient, AILabToolsSandbox]]:
    async with AILabToolsSandbox(settings) as sandbox:
        client = AILabClient(key, base_url=sandbox.base_url)
        try:
            yield client, sandbox
        finally:
            await client.aclose()


@pytest.fixture
def photo(photos: Path) -> bytes:
    buffer = BytesIO()
    with Image.open(photos / "astronaut.jpg") as image:
        image.resize(SIZE).save(buffer, "JPEG")
    return buffer.getvalue()


async def _fetched(url: str) -> Image.Image:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return Image.open(BytesIO(await answer.read()))


async def test_the_sdk_retouches_a_photo(photo: bytes) -> None:
    async with _running() as (client, sandbox):
        result = await client.image.imagePhotoEditing({"image": photo, "style": BytesIO(photo)})
        assert (await _fetched(result["data"]["image_url"])).size == SIZE
        assert sandbox.violations == []


@pytest.mark.parametrize("below", [frozenset(), frozenset({"task_id", "task_status", "output"})], ids=["top", "data"])
async def test_the_sdk_refines_a_try_on_and_waits_for_it(photo: bytes, below: frozenset[str]) -> None:
    async with _running(replace(QUICK, under_data=below)) as (client, sandbox):
        sandbox.play(0, 1, 2)
        task = await client.portrait.portraitTryOnClothesRefiner(
            {
                "taskType": "async",
                "personImage": photo,
                "topGarment": photo,
                "coarseImage": photo,
                "bottomGarment": photo,
                "gender": "man",
            }
        )
        task_id = task.get("task_id") or task["data"]["task_id"]
        result = await client.wait_for_task(task_id, interval=0)
        output = result.get("output") or result["data"]["output"]
        assert (await _fetched(output["image_url"])).size == SIZE
        assert result["usage"] == {"image_count": 1}
        assert len([seen for seen in sandbox.requests if seen.endpoint == "query"]) >= 3
        assert sandbox.violations == []


async def test_the_sdk_sees_a_task_fail_in_both_ways(photo: bytes) -> None:
    async with _running() as (client, sandbox):
        given = {"taskType": "async", "personImage": photo, "topGarment": photo, "coarseImage": photo, "gender": "man"}
        sandbox.play(1, 3)
        task = await client.portrait.portraitTryOnClothesRefiner(given)
        with pytest.raises(RuntimeError, match="failed"):
            await client.wait_for_task(task["task_id"], interval=0)
        sandbox.play(1, "ERROR_BLURRY_FACE")
        task = await client.portrait.portraitTryOnClothesRefiner(given)
        with pytest.raises(AILabApiError) as caught:
            await client.wait_for_task(task["task_id"], interval=0)
        assert caught.value.detail is not None
        assert (caught.value.detail.status_code, caught.value.detail.code) == (422, "ERROR_BLURRY_FACE")


async def test_the_sdk_reads_the_credits(photo: bytes) -> None:
    async with _running(replace(QUICK, credits={"common": Decimal("100.5")})) as (client, sandbox):
        await client.image.imagePhotoEditing({"image": photo, "style": photo})
        answer = await client.common.commonQueryCredits({})
        assert [(pool["unique_sign"], pool["balance"]) for pool in answer["data"]] == [("common", 97.5)]
        assert sandbox.violations == []


async def test_the_sdk_is_told_errors_as_it_expects_them(photo: bytes) -> None:
    async with _running(key="wrong") as (client, _):
        with pytest.raises(AILabApiError) as caught:
            await client.common.commonQueryCredits({})
        assert caught.value.detail is not None
        assert (caught.value.detail.status_code, caught.value.detail.code) == (401, "ERROR_USER_NOT_EXISTS")
        assert caught.value.request_id
    async with _running(replace(QUICK, credits={"common": Decimal(1)})) as (client, sandbox):
        with pytest.raises(AILabApiError) as caught:
            await client.image.imagePhotoEditing({"image": photo, "style": photo})
        assert caught.value.detail is not None
        assert (caught.value.detail.status_code, caught.value.detail.code) == (429, "ERROR_NOT_ENOUGH_CREDITS")
        sandbox.faults.next("retouch", sandboxes.error("EXCEEDING_LIMITS"))
        sandbox.faults.next("retouch", faults.HTML_500)
        with pytest.raises(AILabApiError) as caught:
            await client.image.imagePhotoEditing({"image": photo, "style": photo})
        assert caught.value.detail is not None
        assert (caught.value.detail.status_code, caught.value.detail.code) == (429, "EXCEEDING_LIMITS")
        with pytest.raises(AILabApiError):
            await client.image.imagePhotoEditing({"image": photo, "style": photo})
        assert sandbox.violations == []
