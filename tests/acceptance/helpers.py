"""What the acceptance tests of the vendors share: doing a job by the front door, and judging how it ended."""

import asyncio
import hashlib
import io
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from PIL import Image

from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.requests import Seen
from handlers.sandbox.server import Sandbox
from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from handlers.sandbox.vanceai_webhook import WebhookPlan
from tests.fast_clock import FastClock
from tests.harness import PATIENCE, TERMINAL, Client, Received, Stand, server_of, stand, terminal_events

ENLARGE = "vanceai/enlarge3"
CUTOUT = "picwish/self-face-cutout"
SIZE = (96, 64)
# VanceAI keeps silent; its watchdog soon asks.
NEVER = WebhookPlan(never=True)
SOON: Mapping[str, Any] = {"vanceai_settings": {"watchdog_seconds": 0.1}}


def small(photos: Path, folder: Path) -> Path:
    """A photograph of 96×64 pixels: big enough for every filter, and quick."""
    path = folder / "small.jpg"
    with Image.open(photos / "cat.jpg") as image:
        image.resize(SIZE).save(path, quality=92)
    return path


async def done(client: Client, operation: str, photo: Path | None, **fields: Any) -> dict[str, Any]:
    """Submit, and wait for the end as a user does who has a key for it; the ended job."""
    headers = {"Prefer": "wait=60", "Idempotency-Key": secrets.token_hex(8)}
    async with asyncio.timeout(PATIENCE):
        while True:
            status, job = await client.submit(operation, photo, headers=headers, **fields)
            assert status in (200, 202), job
            if job["finished_at"] is not None:
                ended: dict[str, Any] = job
                return ended


async def begun(client: Client, operation: str, photo: Path | None, **fields: Any) -> str:
    """Submit and don't wait; the job's id."""
    status, job = await client.submit(operation, photo, **fields)
    assert status == 202, job
    return str(job["id"])


async def only_end(client: Client, job_id: str) -> Mapping[str, Any]:
    """The job's one terminal event, which says what the job says."""
    ends = terminal_events(await client.events(), job_id)
    assert len(ends) == 1, ends
    job = await client.job(job_id)
    assert ends[0]["type"] == f"job.{job['state']}"
    told = ends[0]["data"]["callbacks"]
    assert ends[0]["data"] == {**job, "callbacks": told}
    # What comes after the end is recorded at the job; the event is not changed by it.
    assert job["callbacks"][: len(told)] == told
    return ends[0]


async def failed_with(client: Client, job: Mapping[str, Any], error_class: str, code: str) -> None:
    """The job failed for this reason, once."""
    assert job["state"] == "failed", job
    assert (job["error"]["class"], job["error"]["code"]) == (error_class, code), job["error"]
    assert job["outputs"] == []
    await only_end(client, job["id"])


async def raw_status(url: str, request: bytes) -> int:
    """The status that a request gets of which only these bytes are ever sent, after the request line."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode() + request)
        await writer.drain()
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def whole(client: Client, output: Mapping[str, Any]) -> Image.Image:
    """The picture behind an output's signed link, without a key, and exactly what the output says it is."""
    status, body, headers = await client.call_full("GET", output["url"], key="")
    assert status == 200
    assert isinstance(body, bytes)
    assert len(body) == output["bytes"] == int(headers["content-length"])
    assert hashlib.sha256(body).hexdigest() == output["sha256"]
    assert headers["content-type"] == output["content_type"]
    image = Image.open(io.BytesIO(body))
    image.load()
    assert image.size == (output["width"], output["height"])
    assert Image.MIME[image.format or ""] == output["content_type"]
    return image


async def pictures(client: Client, job: Mapping[str, Any]) -> dict[str, Image.Image]:
    """All results of a succeeded job, each checked, by name."""
    assert job["state"] == "succeeded", job
    return {output["name"]: await whole(client, output) for output in job["outputs"]}


async def in_state(client: Client, job_id: str, state: str) -> dict[str, Any]:
    """The job as soon as it is in this state, of which no event tells; each look is a request of its own."""
    async with asyncio.timeout(PATIENCE):
        while (job := await client.job(job_id))["state"] != state:
            pass
    return job


async def reached(sandbox: Sandbox[Any, Any], endpoint: str, count: int = 1) -> Seen:
    """Wait for the `count`-th request to one of the vendor's endpoints."""
    async with asyncio.timeout(PATIENCE):
        return await sandbox.seen(endpoint, count)


def asked(sandbox: Sandbox[Any, Any], endpoint: str) -> list[Seen]:
    return [seen for seen in sandbox.requests if seen.endpoint == endpoint]


def heard(job: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The callbacks that the job tells of: how each came, and what it came to mean."""
    return [(callback["via"], callback["state"]) for callback in job["callbacks"]]


def ends_told(got: Sequence[Received], job_id: str) -> list[str]:
    """The ids of the terminal events about a job that a receiver got."""
    events = [entry.event for entry in got]
    return [event["id"] for event in events if event["type"] in TERMINAL and event["data"]["id"] == job_id]


def restated(states: Mapping[str, object]) -> Callable[[Any], Any]:
    """A fault's `change` that lays `states` over the answer's `data`."""

    def change(answer: Any) -> Any:
        return {**answer, "data": {**answer["data"], **states}}

    return change


def webhook_of(sandbox: VanceAISandbox, submission: int = 1) -> str:
    """The callback URL that a submission gave the vendor."""
    return asked(sandbox, "transform")[submission - 1].fields["webhook"]


async def announced(sandbox: VanceAISandbox, count: int) -> None:
    """Wait until the vendor's `count`-th webhook has been answered."""
    async with asyncio.timeout(PATIENCE):
        await sandbox.webhook_sent(count)


def play(sandbox: Sandbox[Any, Any], **changes: Any) -> None:
    sandbox.settings = replace(sandbox.settings, **changes)


@dataclass
class Front:
    """A vendor's front door: hands all requests on to a sandbox, and says its own words where it is told to.

    `answers` are given in turn to the requests whose path ends so; None lets one pass. Links to the sandbox in an
    answer lead to the front, so that results have the vendor's own host.
    """

    to: str
    url: str = ""
    answers: dict[str, list[web.Response | None]] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    _session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        for ending, waiting in self.answers.items():
            if waiting and request.path.endswith(ending):
                own = waiting.pop(0)
                if own is not None:
                    return own
        self.passed.append(request.path)
        assert self._session is not None
        kept = {name: request.headers[name] for name in ("Content-Type", "X-API-KEY") if name in request.headers}
        async with self._session.request(
            request.method, self.to + request.path_qs, data=body, headers=kept, skip_auto_headers=("Content-Type",)
        ) as answer:
            told = (await answer.read()).replace(self.to.encode(), self.url.encode())
            return web.Response(status=answer.status, body=told, content_type=answer.content_type)


@asynccontextmanager
async def front(to: str) -> AsyncIterator[Front]:
    """`to`: an origin, without a path; it may be set later."""
    it = Front(to)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", it.handle)
    async with aiohttp.ClientSession() as session, server_of(app) as url:
        it.url, it._session = url, session
        yield it


def json_response(value: object, status: int = 200, **headers: str) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(value).encode(), content_type="application/json", headers=headers
    )


@asynccontextmanager
async def fast_stand(folder: Path, clock: FastClock, **changes: Any) -> AsyncIterator[Stand]:
    """A service and both sandboxes on the same sped-up time."""
    async with (
        PicWishSandbox(
            PicWishPlay(work_seconds=0, poll_seconds=0), clock=clock.seconds, monotonic=clock.seconds
        ) as picwish,
        VanceAISandbox(
            VanceAIPlay(work_seconds=0, poll_seconds=0), clock=clock.seconds, monotonic=clock.seconds
        ) as vanceai,
        stand(folder, clock=clock, picwish=picwish, vanceai=vanceai, **changes) as it,
    ):
        yield it
