"""A shop's destination without the service: the event, the steps that are kept, the pictures and the turns."""

import asyncio
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from handlers.destinations.contract import Message
from handlers.http import Http
from schemas.endpoint import Target
from schemas.shop import ShopConfig
from tests.conftest import PHOTOS
from tests.unit.http_servers import guarded

LOOPBACK = "127.0.0.0/8"
SIZES = {"coffee": (600, 400), "cat": (451, 300), "astronaut": (512, 512)}


def now() -> int:
    return time.time_ns() // 1_000_000


class Steps:
    """Kept across tries, as the store keeps them."""

    def __init__(self) -> None:
        self.saved: dict[str, str] = {}

    def done(self, step: str) -> str | None:
        return self.saved.get(step)

    async def save(self, step: str, value: str) -> None:
        self.saved[step] = value


class Turns:
    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        async with self._locks[key]:
            yield


class Pictures:
    """The photos, by name as assets; what is `gone` is no longer kept."""

    def __init__(self) -> None:
        self.gone: set[str] = set()

    @asynccontextmanager
    async def __call__(self, target: Target, asset: str) -> AsyncIterator[Path | None]:
        assert target.id
        yield None if asset in self.gone else PHOTOS / f"{asset}.jpg"


class Naps:
    """Nobody sleeps; how long they would have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def output(photo: str, **other: Any) -> dict[str, Any]:
    body = (PHOTOS / f"{photo}.jpg").read_bytes()
    width, height = SIZES[photo]
    return {
        "name": "image",
        "asset": photo,
        "url": f"https://wirephoto.example/a/{photo}",
        "content_type": "image/jpeg",
        "bytes": len(body),
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(body).hexdigest(),
        **other,
    }


def message(
    metadata: Mapping[str, str], *photos: str, job: str = "job_1", outputs: list[dict[str, Any]] | None = None
) -> Message:
    data = {
        "id": job,
        "operation": "picwish/remove_background",
        "metadata": dict(metadata),
        "outputs": outputs or [output(photo) for photo in photos or ("coffee",)],
    }
    return Message(f"evt_{job}", "job.succeeded", json.dumps({"type": "job.succeeded", "data": data}).encode())


def target(kind: str, config: ShopConfig, endpoint: str = "ep_1") -> Target:
    return Target(endpoint, kind, "", "whsec_unused", {}, shop=config)


def http() -> Http:
    return guarded(LOOPBACK)


def photo(name: str) -> bytes:
    return (PHOTOS / f"{name}.jpg").read_bytes()
