"""A shop's destination without the service: the event, the steps that are kept, the pictures and the turns."""

import asyncio
import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from handlers.destinations.contract import Check, Message
from handlers.destinations.putting import Shop
from handlers.http import Http
from schemas.delivery import Attempt
from schemas.endpoint import Target
from schemas.shop import ShopConfig
from tests.conftest import PHOTOS
from tests.unit.http_servers import guarded

LOOPBACK = "127.0.0.0/8"
SIZES = {"coffee": (600, 400), "cat": (451, 300), "astronaut": (512, 512)}


def now() -> int:
    return time.time_ns() // 1_000_000


class Steps:
    """Kept across tries, as the store keeps them. `ledger`: what places show, shared by those of one endpoint;
    `sequence`: of the event whose delivery this is.
    """

    def __init__(self, sequence: int = 1, ledger: dict[str, int] | None = None) -> None:
        self.saved: dict[str, str] = {}
        self.sequence = sequence
        self.ledger = {} if ledger is None else ledger

    def done(self, step: str) -> str | None:
        return self.saved.get(step)

    async def save(self, step: str, value: str) -> None:
        self.saved[step] = value

    async def overtaken(self, place: str) -> bool:
        return self.ledger.get(place, 0) > self.sequence

    async def arrived(self, place: str) -> None:
        self.ledger[place] = max(self.sequence, self.ledger.get(place, 0))


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


class Sender(ABC):
    """A shop's destination that sends to one address, its steps kept."""

    metadata: Mapping[str, str]

    def __init__(self, url: str, destination: Shop, pictures: Pictures, naps: Naps) -> None:
        self.url = url
        self.destination = destination
        self.pictures = pictures
        self.naps = naps
        self.steps = Steps()

    @abstractmethod
    def target(self, endpoint: str = "ep_1", **config: Any) -> Target: ...

    async def send(
        self,
        *photos: str,
        metadata: Mapping[str, str] | None = None,
        steps: Steps | None = None,
        job: str = "job_1",
        outputs: list[dict[str, Any]] | None = None,
        **config: Any,
    ) -> Attempt:
        event = message(self.metadata if metadata is None else metadata, *photos, job=job, outputs=outputs)
        return await self.destination.send(event, self.target(**config), self.steps if steps is None else steps)

    async def check(
        self, metadata: Mapping[str, str] | None = None, seconds: float = 30.0, **config: Any
    ) -> list[Check]:
        looked_for = self.metadata if metadata is None else metadata
        return list(await self.destination.check(self.target(**config), looked_for, seconds))


def http() -> Http:
    return guarded(LOOPBACK)


def photo(name: str) -> bytes:
    return (PHOTOS / f"{name}.jpg").read_bytes()
