"""What was owed is what was delivered, exactly, while endpoints come and go, pause, turn their secrets and replay."""

import asyncio
import itertools
import json
import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.acceptance.helpers import ENLARGE
from tests.harness import Client, Received, server_of, stand

pytestmark = pytest.mark.anyio

MOST_ENDPOINTS = 8
MOST_AT_ONCE = 32
JOBS_A_SECOND = 15
JOBS_FOR_A_CHANGE = 4
JOBS_REPLAYED = 50
OVERLAP_SECONDS = 20
NOWHERE = "http://127.0.0.1:9/none.jpg"


@dataclass
class Subscriber:
    """An endpoint as its owner knows it: it was there from `since` on, and until `until`, in the world's own time."""

    path: str
    id: str
    secrets: list[str]
    asked_at: int
    since: int
    until: int | None = None
    paused: bool = False
    replayed: bool = False


@dataclass
class World:
    client: Client
    url: str
    chance: random.Random
    fails: float  # of all requests to receivers
    subscribers: dict[str, Subscriber] = field(default_factory=dict)
    jobs: dict[str, tuple[int, int]] = field(default_factory=dict)  # when each was begun, and when it had ended
    times: list[str] = field(default_factory=list)  # when jobs were made, as the service tells
    replays: list[str] = field(default_factory=list)
    time: Iterator[int] = field(default_factory=itertools.count)
    taken: defaultdict[str, list[Received]] = field(default_factory=lambda: defaultdict(list))
    unverified: defaultdict[str, list[Received]] = field(default_factory=lambda: defaultdict(list))

    # -- what happens to endpoints -------------------------------------------------------------------------------------

    async def add(self) -> None:
        path = f"e{len(self.subscribers)}"
        wanted = {
            "url": f"{self.url}/{path}",
            "events": ["job.*"],
            "retry_schedule": [1] * 30,
            "max_in_flight": self.chance.choice([1, 4, 32]),
            "ordered": self.chance.random() < 0.3,
            "description": path,
        }
        asked_at = next(self.time)
        status, made = await self.client.call("POST", "/v1/endpoints", json=wanted)
        assert status == 201, made
        one = self.subscribers[path] = Subscriber(path, made["id"], [made["secret"]], asked_at, next(self.time))
        self.verify(one)

    async def pause_or_resume(self, one: Subscriber) -> None:
        status, told = await self.client.call("POST", f"/v1/endpoints/{one.id}/{'resume' if one.paused else 'pause'}")
        assert status == 200, told
        one.paused = not one.paused

    async def rotate(self, one: Subscriber) -> None:
        overlap = {"overlap_seconds": OVERLAP_SECONDS}
        status, told = await self.client.call("POST", f"/v1/endpoints/{one.id}/rotate-secret", json=overlap)
        if status == 409:  # as many secrets as may be sign already
            return
        assert status == 200, told
        one.secrets.append(told["secret"])
        self.verify(one)

    async def replay(self, one: Subscriber) -> None:
        if not self.times:
            return
        since = self.times[-self.chance.randint(1, min(JOBS_REPLAYED, len(self.times)))]
        asked = {"since": since, "only": self.chance.choice(["undelivered", "all"])}
        status, told = await self.client.call("POST", f"/v1/endpoints/{one.id}/replay", json=asked)
        # One at a time is what an endpoint takes.
        assert status in {202, 409}, told
        if status == 202:
            one.replayed = True
            self.replays.append(told["id"])

    async def remove(self, one: Subscriber) -> None:
        one.until = next(self.time)
        status, told = await self.client.call("DELETE", f"/v1/endpoints/{one.id}")
        assert status == 204, told

    async def meddle(self) -> None:
        alive = [one for one in self.subscribers.values() if one.until is None]
        acts = [self.pause_or_resume, self.pause_or_resume, self.rotate, self.replay]
        if len(alive) > 3:
            acts.append(self.remove)
        if len(alive) < MOST_ENDPOINTS and self.chance.random() < 0.4:
            await self.add()
        else:
            await self.chance.choice(acts)(self.chance.choice(alive))

    # -- what is said --------------------------------------------------------------------------------------------------

    async def happen(self) -> None:
        """A job that is queued and canceled: two events, unless its picture was missed first."""
        begun = next(self.time)
        status, job = await self.client.submit(ENLARGE, inputs={"image": {"url": NOWHERE}})
        assert status == 202, job
        await self.client.call("POST", f"/v1/jobs/{job['id']}/cancel")
        self.times.append(job["created_at"])
        self.jobs[job["id"]] = begun, next(self.time)

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.chance.random() < self.fails:
            return web.Response(status=self.chance.choice([404, 500, 503]), headers={"retry-after": "1"})
        headers = {name.lower(): value for name, value in request.headers.items()}
        path, message = request.path.strip("/"), Received(headers, body)
        self.taken[path].append(message)
        self.unverified[path].append(message)
        if path in self.subscribers:
            self.verify(self.subscribers[path])
        return web.Response(status=204)

    def verify(self, one: Subscriber) -> None:
        """At once, for no signature is good for long; what a new secret has signed stays until its owner knows it."""
        self.unverified[one.path] = [found for found in self.unverified[one.path] if not verified(found, one.secrets)]

    # -- what is known at the end --------------------------------------------------------------------------------------

    async def everything(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while cursor is not None:
            status, page = await self.client.call("GET", f"{path}limit=200{cursor and f'&after={cursor}'}")
            assert status == 200, page
            found += page["data"]
            cursor = page["next"]
        return found

    async def settle(self) -> None:
        for one in self.subscribers.values():
            if one.paused and one.until is None:
                await self.pause_or_resume(one)
        for replay in self.replays:
            while (await self.client.call("GET", f"/v1/replays/{replay}"))[1]["state"] == "running":
                pass
        for state in ("pending", "held"):
            while (await self.client.call("GET", f"/v1/deliveries?state={state}&limit=1"))[1]["data"]:
                pass


def verified(message: Received, secrets: list[str]) -> bool:
    for secret in secrets:
        try:
            Webhook(secret).verify(message.body, dict(message.headers))
        except WebhookVerificationError:
            continue
        return True
    return False


@asynccontextmanager
async def world(folder: Path, seed: int, fails: float) -> AsyncIterator[World]:
    async with stand(folder / "data") as it:
        meant = World(it.client, "", random.Random(seed), fails)
        app = web.Application()
        app.router.add_post("/{tail:.*}", meant.receive)
        async with server_of(app) as url:
            meant.url = url
            yield meant


async def run(it: World, seconds: float) -> None:
    for _ in range(3):
        await it.add()
    at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def happen() -> None:
        async with at_once:
            await it.happen()

    async with asyncio.TaskGroup() as group:
        for number in range(round(seconds * JOBS_A_SECOND)):
            group.create_task(happen())
            if number % JOBS_FOR_A_CHANGE == 0:
                await it.meddle()
            # The load's own pace; nothing is waited for by it.
            await asyncio.sleep(1 / JOBS_A_SECOND)
    await it.settle()


async def judge(it: World) -> Mapping[str, int]:
    events = {event["id"]: event for event in await it.everything("/v1/events?")}
    by_job = defaultdict(set)
    for event in events.values():
        by_job[event["data"]["id"]].add(event["id"])
    assert not any(it.unverified.values()), "each was signed with its endpoint's secret"
    count = 0
    for path, one in it.subscribers.items():
        ledger = await it.everything(f"/v1/deliveries?endpoint={one.id}&")
        rows = {entry["event"]: entry for entry in ledger}
        assert len(rows) == len(ledger), "one delivery for an event and an endpoint"
        taken = {message.headers["webhook-id"] for message in it.taken[path]}
        assert taken <= set(rows), "what came was owed"
        for message in it.taken[path]:
            assert json.loads(message.body) == events[message.headers["webhook-id"]]
        delivered = {event for event, entry in rows.items() if entry["delivered_at"] is not None}
        assert delivered <= taken, "what is called delivered came"
        count += len(delivered)
        until = math.inf if one.until is None else one.until
        for job, (begun, ended) in it.jobs.items():
            if one.since < begun and ended < until:
                assert by_job[job] <= set(rows), "what happened wholly in its time was owed to it"
            if ended < one.asked_at and not one.replayed:
                assert not by_job[job] & set(rows), "what was over before it came was not"
        states = {entry["state"] for entry in ledger}
        if one.until is None:
            assert delivered == taken == set(rows), "and all that was owed came"
            assert states <= {"delivered"}
        else:
            assert states <= {"delivered", "discarded"}
    return {"jobs": len(it.jobs), "events": len(events), "delivered": count, "endpoints": len(it.subscribers)}


@pytest.mark.usefixtures("everywhere")
async def test_what_was_owed_is_what_was_delivered(tmp_path: Path) -> None:
    async with world(tmp_path, seed=6, fails=0.02) as it:
        await run(it, seconds=2)
        await judge(it)


@pytest.mark.slow
@pytest.mark.usefixtures("everywhere")
async def test_what_was_owed_is_what_was_delivered_after_two_minutes_of_load(tmp_path: Path) -> None:
    async with world(tmp_path, seed=7, fails=0.1) as it:
        await run(it, seconds=120)
        print(json.dumps(await judge(it)))
