"""Pictures and requests that tests make, and the proof that a refused request left nothing behind."""

import asyncio
import io
import json
import os
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from tests.harness import Stand

ENLARGE = "vanceai/enlarge3"
NOBODY_THERE = "http://127.0.0.1:1/nobody-listens-here.jpg"


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    held = io.BytesIO()
    Image.new(mode, size, 1).save(held, kind)
    return held.getvalue()


def noise(size: tuple[int, int]) -> bytes:
    """A PNG that can't be compressed."""
    held = io.BytesIO()
    Image.frombytes("RGB", size, os.urandom(size[0] * size[1] * 3)).save(held, "PNG", compress_level=0)
    return held.getvalue()


def bomb() -> bytes:
    """A small PNG whose header claims ten thousand megapixels."""
    data = bytearray(picture())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def form(job: Any, **files: bytes) -> aiohttp.FormData:
    """A multipart submission; `job` as JSON, or as a file of these bytes."""
    made = aiohttp.FormData()
    if isinstance(job, bytes):
        made.add_field("job", io.BytesIO(job), filename="job.json", content_type="application/json")
    else:
        made.add_field("job", json.dumps(job), content_type="application/json")
    for name, data in files.items():
        made.add_field(name, io.BytesIO(data), filename=f"{name}.bin", content_type="application/octet-stream")
    return made


async def upload(it: Stand, data: bytes, **how: Any) -> dict[str, Any]:
    status, asset = await it.client.call("POST", "/v1/assets", data=io.BytesIO(data), **how)
    assert status == 201, asset
    made: dict[str, Any] = asset
    return made


async def queue(it: Stand, **more: Any) -> dict[str, Any]:
    """A job that nobody will finish soon: its source does not answer."""
    status, job = await it.client.submit(ENLARGE, inputs={"image": {"url": NOBODY_THERE}}, **more)
    assert status == 202, job
    made: dict[str, Any] = job
    return made


async def traces(it: Stand) -> tuple[list[str], list[str], list[str], list[str]]:
    """What a request could leave behind: jobs, events, deliveries, and files still on their way in."""
    ids = []
    for path in ("/v1/jobs", "/v1/events", "/v1/deliveries"):
        _, page = await it.client.call("GET", f"{path}?limit=200")
        ids.append([entry["id"] for entry in page["data"]])
    incoming = it.wirephoto.settings.data_dir / "assets" / "incoming"
    jobs, events, deliveries = ids
    return jobs, events, deliveries, sorted(path.name for path in incoming.glob("*"))


@asynccontextmanager
async def leaving_nothing(it: Stand) -> AsyncIterator[None]:
    """What happens inside queues nothing, tells nobody, asks no vendor and leaves no stray file."""
    before, asked = await traces(it), len(it.vanceai.requests) + len(it.picwish.requests)
    yield
    assert await traces(it) == before
    assert before[3] == []
    assert len(it.vanceai.requests) + len(it.picwish.requests) == asked


def fields(problem: Any) -> set[str]:
    return {error["field"] for error in problem["errors"]}


def hold_work(it: Stand) -> asyncio.Event:
    """From now on VanceAI's work ends when the event is set."""
    done = asyncio.Event()
    it.vanceai.settings = replace(it.vanceai.settings, work_seconds=done.wait)
    return done


async def finished(it: Stand, photo: Path, operation: str = ENLARGE, **job: Any) -> dict[str, Any]:
    status, body = await it.client.submit(operation, photo, headers={"Prefer": "wait=20"}, **job)
    assert (status, body["state"]) == (200, "succeeded"), body
    made: dict[str, Any] = body
    return made
