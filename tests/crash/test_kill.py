import asyncio
from collections.abc import Iterator
from pathlib import Path
import pytest
from tests.crash.scene import *

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def launch() -> Iterator[Launch]:
    with launching() as started:
        yield started

@pytest.fixture
def photo(photos, tmp_path):
    from PIL import Image
    p = tmp_path/"small.jpg"
    with Image.open(photos / "cat.jpg") as im: im.resize((96,64)).save(p)
    return p

@pytest.mark.parametrize("op", [ENLARGE, CUTOUT])
async def test_smoke(launch, tmp_path, photo, op):
    async with scene(launch, tmp_path/"d", photo) as s:
        c = await s.start("before:conclude.conclude:1")
        await s.subscribe()
        j = await s.submit(op)
        await c.killed()
        c2 = await s.start()
        job = await s.end_of(j)
        await s.pictures_are_whole(job)
        assert s.charges == 1
        c2.terminate()
        assert await c2.ended()==0
