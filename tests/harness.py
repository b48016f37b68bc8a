"""A real Wirephoto for tests: real SQLite, real HTTP on loopback, the vendors' sandboxes, and a real receiver."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jsonschema_rs
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks import Webhook

from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.server import Sandbox
from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from service.app import Wirephoto, running
from service.clock import Clock
from service.config import SECTIONS, Settings
from service.server import listen, serving
from service.store.database import Database
from service.web.docs import openapi
from tests import stores
from tests.described import Description

API_KEY = "wp_test-key-of-the-first-project-0123456789"
LOOPBACK = ["127.0.0.0/8"]
PATIENCE = 60.0
# Of the one description that all services of these tests have.
_VALIDATORS: dict[str, jsonschema_rs.Draft202012Validator] = {}


@dataclass
class Received:
    """One request that the receiver got, byte for byte."""

    headers: Mapping[str, str]
    body: bytes
    path: str = ""  # with its query

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    def verified(self, secret: str) -> dict[str, Any]:
        """Checked by software that is not ours."""
        event: dict[str, Any] = Webhook(secret).verify(self.body, dict(self.headers))
        return event


@dataclass
class Receiver:
    """A subscriber's server. `answers` are given in turn, then 204 for ever."""

    url: str = ""
    got: list[Received] = field(default_factory=list)
    answers: list[web.Response | Callable[[web.Request], Any]] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        answer: Any = self.answers.pop(0) if self.answers else web.Response(status=204)
        async with self._arrived:
            self.got.append(
                Received({name.lower(): value for name, value in request.headers.items()}, body, request.path_qs)
            )
            self._arrived.notify_all()
        if callable(answer) and not isinstance(answer, web.Response):
            answer = await answer(request)
        response: web.StreamResponse = answer
        return response

    async def wait_for(self, count: int = 1, event_type: str | None = None) -> list[Received]:
        """The first `count` that came (of this type); a signal, not a sleep."""

        def chosen() -> list[Received]:
            return [entry for entry in self.got if event_type is None or entry.event["type"] == event_type]

        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(chosen()) >= count)
        return chosen()

    async def until(self, true: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until `true()` of what has come; looked at again with each arrival."""
        async with asyncio.timeout(patience), self._arrived:
            await self._arrived.wait_for(true)

    async def event_of(self, job_id: str, *types: str) -> dict[str, Any]:
        """The first event about this job (of these types)."""

        def found() -> dict[str, Any] | None:
            events = (entry.event for entry in self.got)
            about = (event for event in events if event["data"].get("id") == job_id)
            return next((event for event in about if not types or event["type"] in types), None)

        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: found() is not None)
        event = found()
        assert event is not None
        return event


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    it = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", it.handle)
    async with server_of(app) as url:
        it.url = f"{url}/hook"
        yield it


@asynccontextmanager
async def server_of(app: web.Application, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """An aiohttp application on a free port; its base URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    try:
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Client:
    """The API as a user calls it. What answers is held to its description, where there is one."""

    url: str
    http: aiohttp.ClientSession
    key: str = API_KEY
    described: Description | None = None

    async def call(
        self, method: str, path: str, *, key: str | None = None, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> tuple[int, Any]:
        """Status and JSON body (None where there is none)."""
        status, body, _ = await self.call_full(method, path, key=key, headers=headers, **kwargs)
        return status, body

    async def call_full(
        self, method: str, path: str, *, key: str | None = None, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        auth = {"Authorization": f"Bearer {self.key if key is None else key}"} if key != "" else {}
        url = path if path.startswith("http") else self.url + path
        async with self.http.request(method, url, headers={**auth, **(headers or {})}, **kwargs) as answer:
            # A stream has no end: of it the head is all that is looked at here.
            endless = answer.headers.get("content-type", "").startswith("text/event-stream")
            raw = b"" if endless else await answer.read()
            is_json = "json" in answer.headers.get("content-type", "")
            body = json.loads(raw) if is_json and raw else raw or None
        if self.described is not None and method != "HEAD" and url.startswith(self.url):
            self.described.hold(method, urlsplit(url).path, answer.status, answer.headers, body)
        return answer.status, body, answer.headers

    async def submit(
        self, operation: str, photo: Path | None = None, *, headers: Mapping[str, str] | None = None, **job: Any
    ) -> tuple[int, Any]:
        """A multipart submission with `photo` as the input `image`, or JSON where there is none."""
        body = {"operation": operation, **job}
        if photo is None:
            return await self.call("POST", "/v1/jobs", json=body, headers=headers)
        form = aiohttp.FormData()
        form.add_field("job", json.dumps(body), content_type="application/json")
        form.add_field("image", photo.read_bytes(), filename=photo.name, content_type="application/octet-stream")
        return await self.call("POST", "/v1/jobs", data=form, headers=headers)

    async def subscribe(self, url: str, **fields: Any) -> dict[str, Any]:
        status, endpoint = await self.call("POST", "/v1/endpoints", json={"url": url, **fields})
        assert status == 201, endpoint
        made: dict[str, Any] = endpoint
        return made

    async def job(self, job_id: str) -> dict[str, Any]:
        status, body = await self.call("GET", f"/v1/jobs/{job_id}")
        assert status == 200, body
        job: dict[str, Any] = body
        return job

    async def events(self, job_id: str | None = None) -> list[dict[str, Any]]:
        status, body = await self.call("GET", "/v1/events?limit=200")
        assert status == 200, body
        return [event for event in body["data"] if job_id is None or event["data"].get("id") == job_id]


@dataclass
class Stand:
    """Everything one test needs, running."""

    wirephoto: Wirephoto
    client: Client
    vanceai: VanceAISandbox
    picwish: PicWishSandbox
    perfectcorp: PerfectCorpSandbox | None = None


TERMINAL = ("job.succeeded", "job.failed", "job.canceled")


def terminal_events(events: Sequence[Mapping[str, Any]], job_id: str) -> list[Mapping[str, Any]]:
    return [event for event in events if event["type"] in TERMINAL and event["data"]["id"] == job_id]


def settings_for(
    data_dir: Path,
    vanceai: VanceAISandbox | None = None,
    picwish: PicWishSandbox | None = None,
    perfectcorp: PerfectCorpSandbox | None = None,
    **changes: Any,
) -> Settings:
    """Settings that read neither a file nor the environment; `vanceai_settings={…}` changes that vendor's own."""
    values: dict[str, Any] = {
        "port": 0,
        "data_dir": data_dir,
        "api_key": SecretStr(API_KEY),
        "allow_networks": LOOPBACK,
        "allow_source_networks": LOOPBACK,
        "database_url": None if (url := stores.url_for(data_dir)) is None else SecretStr(url),
        **changes,
    }
    played: Mapping[str, Sandbox[Any, Any] | None] = {
        "vanceai": vanceai,
        "picwish": picwish,
        "perfectcorp": perfectcorp,
    }
    for name, vendor in played.items():
        own = values.pop(f"{name}_settings", {})
        if vendor is not None:
            # Perfect Corp's pace is what its tests are about; all others are asked as often as a test has patience for.
            hurry = {} if name == "perfectcorp" else {"poll_seconds": 0.05}
            account = {part: SecretStr(value) for part, value in vendor.credentials.items()}
            values[name] = SECTIONS[name](**{"base_url": vendor.base_url, **account, **hurry, **own})
    sections = {name: part() for name, part in SECTIONS.items()}  # type: ignore[call-arg]  # each has its base_url
    return Settings.model_construct(**{**Settings().model_dump(), **sections, **values})


@asynccontextmanager
async def stand(
    data_dir: Path,
    *,
    reachable: bool = True,
    clock: Clock | None = None,
    database: Database | None = None,
    vanceai: VanceAISandbox | None = None,
    picwish: PicWishSandbox | None = None,
    perfectcorp: PerfectCorpSandbox | None = None,
    **changes: Any,
) -> AsyncIterator[Stand]:
    """A service with VanceAI's and PicWish's sandboxes, and with Perfect Corp's where it is given.

    `reachable`: vendors can call us back. What is given is already started.
    """
    async with AsyncExitStack() as stack:
        if vanceai is None:
            vanceai = VanceAISandbox(VanceAIPlay(work_seconds=0, poll_seconds=0))
            await vanceai.start()
            stack.push_async_callback(vanceai.stop)
        if picwish is None:
            picwish = PicWishSandbox(PicWishPlay(work_seconds=0, poll_seconds=0))
            await picwish.start()
            stack.push_async_callback(picwish.stop)
        settings = settings_for(data_dir, vanceai, picwish, perfectcorp, **changes)
        sock = listen(settings)
        stack.callback(sock.close)
        port = sock.getsockname()[1]
        public_url = changes.get("public_url") or (f"http://127.0.0.1:{port}" if reachable else None)
        settings = settings.model_copy(update={"port": port, "public_url": public_url})
        wirephoto = await stack.enter_async_context(running(settings, clock=clock, database=database))
        await stack.enter_async_context(serving(wirephoto, sock))
        # The server ends a connection that was idle for five seconds; one must not be taken up at that instant.
        connector = aiohttp.TCPConnector(keepalive_timeout=2)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        client = Client(f"http://127.0.0.1:{port}", http, described=Description(openapi(), validators=_VALIDATORS))
        yield Stand(wirephoto, client, vanceai, picwish, perfectcorp)
