"""A day in the life of a service: jobs all day at both vendors, and subscribers of every kind.

Two projects. The first has a subscriber that is well, one that is out of order for some hours, one that never takes
anything and is disabled for it, one that said `410` once and is held for, and one that comes and goes each hour.
"""

import asyncio
import gc
import random
import secrets
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from service.clock import SystemClock
from service.pipeline.retry import HOUR, MINUTE, SECOND
from service.store.database import Reader
from tests.harness import TERMINAL, Client, Stand, server_of, stand
from tests.racing_clock import RacingClock, Watched
from tests.stores import store_for

WORK_SECONDS = 20.0
RETRIES = [5.0, 60.0, 300.0, 1800.0]
OUT_OF_ORDER = range(1, 3)  # hours
OPERATIONS = ("vanceai/enlarge3", "picwish/self-face-cutout")
NOBODY = {"image": {"url": "http://127.0.0.1:9/none.jpg"}}
TABLES = [
    "assets",
    "attempts",
    "callbacks",
    "deliveries",
    "endpoints",
    "events",
    "idempotency_keys",
    "job_inputs",
    "jobs",
    "nodes",
    "results",
    "submissions",
    "vendor_requests",
]


@dataclass
class Measured:
    """What the service holds at one instant."""

    rows: Mapping[str, int]
    database_bytes: int
    wal_bytes: int
    asset_bytes: int
    objects: Mapping[str, int]


@dataclass
class Heard:
    """What a subscriber has heard: how each job ended, the jobs that ended twice, and how late the latest event came.

    Written small, for it grows all day: what is measured is the service.
    """

    ends: dict[str, tuple[str, str]] = field(default_factory=dict)  # by job: the event's id and type
    twice: list[str] = field(default_factory=list)
    latest_ms: int = 0
    count: int = 0


class Day:
    """A running service, and what is done to it. `every`: seconds from one job to the next."""

    def __init__(self, it: Stand, clock: RacingClock, folder: Path, every: float) -> None:
        self.stand, self.clock = it, clock
        self.began = clock.now()
        self.accepted: dict[str, tuple[str, ...]] = {}  # by job: the ways in which it may end
        self.ends: dict[str, tuple[str, str]] = {}
        self.heard: dict[str, Heard] = defaultdict(Heard)
        self.hooks: set[str] = set()
        self.url = ""
        self._folder = folder
        self._every = every
        self._luck = random.Random(1935)
        self._beside = it.client

    @property
    def hour(self) -> float:
        return (self.clock.now() - self.began) / HOUR

    async def subscribe(self) -> None:
        client = self.stand.client
        for name, wanted in (("well", "*"), ("ill", "job.*"), ("dead", "job.succeeded"), ("gone", "job.*")):
            await client.subscribe(f"{self.url}/{name}", events=[wanted])
        _, project = await client.call("POST", "/v1/projects", json={"name": "beside"})
        self._beside = Client(client.url, client.http, project["api_key"])
        await self._beside.subscribe(f"{self.url}/beside")

    async def take(self, request: web.Request) -> web.Response:
        """All subscribers' servers."""
        name, event = request.match_info["name"], await request.json()
        if name == "dead" or (name == "ill" and int(self.hour) in OUT_OF_ORDER):
            return web.Response(status=500)
        if name == "gone":
            return web.Response(status=410)
        heard = self.heard[name]
        heard.count += 1
        heard.latest_ms = max(heard.latest_ms, self.clock.now() - _at(event))
        if event["type"] in TERMINAL:
            job = sys.intern(event["data"]["id"])
            # The same event may come twice.
            end = self.ends.setdefault(job, (event["id"], sys.intern(event["type"])))
            heard.ends[job] = end
            if end[0] != event["id"]:
                heard.twice.append(job)
        return web.Response(status=204)

    async def jobs(self, until: int) -> None:
        """Submit jobs until then, one after another."""
        number = 0
        while self.clock.now() < until:
            await self._job(number)
            number += 1
            await self.clock.sleep(self._every)

    async def _job(self, number: int) -> None:
        client = self._beside if number % 5 == 4 else self.stand.client
        operation = OPERATIONS[number % 2]
        more: dict[str, Any] = {"webhook": f"{self.url}/own"} if number % 3 == 0 else {}
        if number % 16 == 15:
            status, job = await client.submit(operation, inputs=NOBODY, **more)
            ends: tuple[str, ...] = ("job.failed",)
        else:
            status, job = await client.submit(operation, self._picture(), **more)
            ends = ("job.succeeded",)
        assert status == 202, job
        if number % 31 == 30:
            await client.call("POST", f"/v1/jobs/{job['id']}/cancel")
            ends = ("job.canceled", "job.failed")
        self.accepted[sys.intern(job["id"])] = ends
        if number % 3 == 0:
            self.hooks.add(sys.intern(job["id"]))

    def _picture(self) -> Path:
        """Never the same twice."""
        path = self._folder / "picture.png"
        Image.frombytes("RGB", (24, 16), self._luck.randbytes(24 * 16 * 3)).save(path)
        return path

    async def come_and_go(self, until: int) -> None:
        """A hook that an automation sets up and takes down again each hour."""
        while self.clock.now() < until:
            endpoint = await self.stand.client.subscribe(f"{self.url}/dead", events=["job.failed"])
            await self.clock.sleep(HOUR / SECOND / 2)
            await self.stand.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}")
            await self.clock.sleep(HOUR / SECOND / 2)

    async def forget_played(self) -> None:
        """The stand-ins remember everything for their tests' sake; a vendor is no part of the service."""
        uploads = self.stand.vanceai._files
        for uid in list(uploads)[:-10]:
            del uploads[uid]
        for sandbox in (self.stand.vanceai, self.stand.picwish):
            sandbox.requests.clear()
            sandbox.charged.clear()
            for task in [task for task in sandbox.tasks.values() if task.ended.is_set()]:
                if self.clock.seconds() - task.ended_at > HOUR / SECOND:
                    del sandbox.tasks[task.id]

    async def measured(self) -> Measured:
        data = self._folder / "data"
        database = data / "wirephoto.sqlite3"
        wal = database.with_name(database.name + "-wal")
        gc.collect()
        return Measured(
            rows=await self.stand.wirephoto.core.db.read(_counts),
            database_bytes=_size(database),
            wal_bytes=_size(wal),
            asset_bytes=sum(path.stat().st_size for path in (data / "assets").rglob("*") if path.is_file()),
            objects=Counter(filter(_is_ours, (_name(type(found)) for found in gc.get_objects()))),
        )


def _size(path: Path) -> int:
    # PostgreSQL keeps its own house, by the clock of the wall.
    return path.stat().st_size if path.exists() else 0


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_ours(name: str) -> bool:
    return name.startswith(("service.", "schemas.", "handlers.")) and not name.startswith("handlers.sandbox.")


def _at(event: Mapping[str, Any]) -> int:
    return round(datetime.fromisoformat(event["timestamp"]).timestamp() * 1000)


async def _counts(reader: Reader) -> dict[str, int]:
    counts = {}
    for table in TABLES:
        row = await reader.one(f"SELECT COUNT(*) AS count FROM {table}", {})
        assert row is not None
        counts[table] = int(row["count"])
    return counts


@asynccontextmanager
async def day(folder: Path, *, retention_hours: float, every: float) -> AsyncIterator[Day]:
    """Both vendors work for WORK_SECONDS of the same time as the service's."""
    clock = RacingClock(SystemClock().now())

    def work() -> Any:
        return clock.sleep(WORK_SECONDS)

    async with AsyncExitStack() as stack:
        times: dict[str, Any] = {"clock": clock.seconds, "monotonic": clock.seconds, "seed": secrets.randbits(32)}
        vanceai = VanceAISandbox(VanceAIPlay(work_seconds=work), **times)
        picwish = PicWishSandbox(PicWishPlay(work_seconds=work, max_seconds=None), **times)
        for sandbox in (vanceai, picwish):
            await sandbox.start()
            stack.push_async_callback(sandbox.stop)
        store = Watched(store_for(folder / "data"), clock.busy)
        await store.open()
        stack.push_async_callback(store.close)
        polled = {"poll_seconds": 5.0}
        it = await stack.enter_async_context(
            stand(
                folder / "data",
                clock=clock,
                database=store,
                vanceai=vanceai,
                picwish=picwish,
                vanceai_settings=polled,
                picwish_settings=polled,
                event_retention_days=retention_hours / 24,
                asset_retention_days=retention_hours / 24,
                retry_schedule=RETRIES,
            )
        )
        made = Day(it, clock, folder, every)
        app = web.Application()
        app.router.add_post("/{name}", made.take)
        made.url = await stack.enter_async_context(server_of(app))
        await made.subscribe()
        yield made


async def lived(it: Day, hours: int, each: Callable[[], None] = lambda: None) -> list[Measured]:
    """So many hours of jobs, measured at the end of each; and then until every job has ended and been told of."""
    end = it.began + hours * HOUR
    work = [asyncio.create_task(it.jobs(end)), asyncio.create_task(it.come_and_go(end))]
    measured = []
    for hour in range(1, hours + 1):
        await it.clock.race(it.began + hour * HOUR)
        for task in work:
            if task.done():
                task.result()
        await it.forget_played()
        measured.append(await it.measured())
        each()
    await it.clock.race(end + 5 * MINUTE)
    await asyncio.gather(*work)
    return measured
