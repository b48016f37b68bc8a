"""What the tests of shops share: a service, a job whose picture is for a product, and a shop that is made of paper.

The paper shop keeps to the contract of destinations and lies in memory, so that what is shown with it is shown of the
service: steps, pictures, turns, outcomes. What is shown of real shops stands beside their destinations.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from handlers.destinations.contract import Check, Destination, Message, Pictures, Steps
from handlers.destinations.shops import Impossible, placed
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target
from service.pipeline.shops import Results
from tests.acceptance.helpers import ENLARGE
from tests.harness import PATIENCE, Client, Stand

CONFIG: dict[str, Any] = {"shop": "http://127.0.0.1:9/admin-api", "api_key": "key-of-the-shop"}
PRODUCT = {"product_id": "8411"}

Between = Callable[["Try"], Awaitable[None]]


@dataclass
class Try:
    """One attempt, as it stands between two calls of the shop."""

    number: int
    call: str
    target: Target


class Pass:
    """Holds the shop's calls of one name up until it is opened, and counts those it holds."""

    def __init__(self, call: str) -> None:
        self.call, self.opened, self.held = call, asyncio.Event(), 0
        self._came = asyncio.Condition()

    async def __call__(self, at: Try) -> None:
        if at.call == self.call:
            self.held += 1
            async with self._came:
                self._came.notify_all()
            await self.opened.wait()

    async def holds(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(lambda: self.held >= count)


@dataclass
class PaperShop(Destination):
    """Two calls a picture: `upload`, and `attach`. `between` is asked before each, and may hold it up or raise."""

    pictures: Pictures
    kind: str = "vendure"
    deadline: float = 60.0
    files: dict[str, str] = field(default_factory=dict)  # name → SHA-256
    gallery: list[str] = field(default_factory=list)
    outcomes: list[Attempt] = field(default_factory=list)  # given in turn before anything is done
    between: Between | None = None
    calls: list[str] = field(default_factory=list)
    seen: list[Target] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    checked: list[Mapping[str, str]] = field(default_factory=list)

    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:
        self.seen.append(target)
        if self.outcomes:
            return self.outcomes.pop(0)
        try:
            for picture in placed(message, target):
                if steps.done(f"{picture.step}.upload") is None:
                    await self._call("upload", target)
                    async with self.pictures(target, picture.asset) as path:
                        if path is None:
                            raise Impossible("the picture is no longer kept")
                        self.files[picture.name] = hashlib.sha256(path.read_bytes()).hexdigest()
                    await steps.save(f"{picture.step}.upload", picture.name)
                if picture.name not in self.gallery:
                    await self._call("attach", target)
                    self.gallery.append(picture.name)
        except Impossible as why:
            return attempt(Outcome.ABORT, error=str(why))
        return attempt(Outcome.DELIVERED, status=200)

    async def _call(self, name: str, target: Target) -> None:
        self.calls.append(name)
        if self.between is not None:
            await self.between(Try(len(self.seen), name, target))

    async def check(self, target: Target, metadata: Mapping[str, str], seconds: float) -> Sequence[Check]:
        assert 0 < seconds <= 30
        self.seen.append(target)
        self.checked.append(dict(metadata))
        if self.between is not None:
            await self.between(Try(len(self.seen), "check", target))
        return self.checks


def attempt(outcome: Outcome, **more: Any) -> Attempt:
    return Attempt(outcome, 1_765_000_000_000, 1, **more)


def paper_shop(it: Stand) -> PaperShop:
    """In the place of the real destination of kind vendure."""
    shop = PaperShop(Results(it.wirephoto.core))
    cast(dict[str, Destination], it.wirephoto.site.destinations)["vendure"] = shop
    return shop


async def shop_endpoint(client: Client, **fields: Any) -> dict[str, Any]:
    config = fields.pop("config", {})
    if "kind" not in fields:
        config = {**CONFIG, **config}
    status, made = await client.call("POST", "/v1/endpoints", json={"kind": "vendure", "config": config, **fields})
    assert status == 201, made
    endpoint: dict[str, Any] = made
    return endpoint


async def finished(client: Client, photo: Path, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A job that has succeeded, with its picture."""
    status, job = await client.submit(
        ENLARGE, photo, headers={"Prefer": "wait=20"}, metadata=dict(PRODUCT if metadata is None else metadata)
    )
    assert (status, job["state"]) == (200, "succeeded"), job
    done: dict[str, Any] = job
    return done


async def deliveries(client: Client, endpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Oldest first, each with its attempts."""
    status, page = await client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}")
    assert status == 200
    whole = [(await client.call("GET", f"/v1/deliveries/{entry['id']}"))[1] for entry in page["data"]]
    return whole[::-1]


async def settled(client: Client, endpoint: Mapping[str, Any], *states: str) -> list[dict[str, Any]]:
    """The endpoint's deliveries as soon as their states are these."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await deliveries(client, endpoint)
            if [entry["state"] for entry in found] == list(states):
                return found
