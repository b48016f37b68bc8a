"""What stays alive when the service is killed: the vendors, the subscriber, the client, the data folder, the port."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from handlers.sandbox.vanceai_webhook import WebhookPlan
from service.config import PREFIX
from service.store.files import OWNER
from tests import stores
from tests.crash.launcher import Order
from tests.harness import API_KEY, PATIENCE, TERMINAL, Client, Receiver, receiver
from tests.ports import free_port

ENLARGE, CUTOUT = "vanceai/enlarge3", "picwish/self-face-cutout"
ONCE = {"Idempotency-Key": "once"}
READY = "Wirephoto is ready"
SILENT = WebhookPlan(never=True)


@dataclass
class Child:
    """One life of the service. `lines` are what it said, on standard output and error."""

    pid: int
    _life: asyncio.StreamReader
    _speech: asyncio.StreamReader
    _pipes: Sequence[asyncio.BaseTransport]
    lines: list[str] = field(default_factory=list)
    _said: asyncio.Condition = field(default_factory=asyncio.Condition)
    _silent: bool = False
    _code: int | None = None

    def __post_init__(self) -> None:
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while line := await self._speech.readline():
            async with self._said:
                self.lines.append(line.decode().rstrip("\n"))
                self._said.notify_all()
        async with self._said:
            self._silent = True
            self._said.notify_all()

    async def said(self, words: str) -> str:
        """The first line that holds `words`."""
        line = await self._says(words)
        assert line is not None, f"it ended without saying {words!r}:\n" + "\n".join(self.lines)
        return line

    async def ready(self) -> bool:
        """Whether it came to serve before it ended."""
        return await self._says(READY) is not None

    async def _says(self, words: str) -> str | None:
        def found() -> str | None:
            return next((line for line in self.lines if words in line), None)

        async with asyncio.timeout(PATIENCE), self._said:
            await self._said.wait_for(lambda: found() is not None or self._silent)
        return found()

    async def ended(self) -> int:
        """Wait for the end; the exit code, or minus the signal's number."""
        if self._code is None:
            async with asyncio.timeout(PATIENCE):
                self._code = int(await self._life.readline())
                await self._listening
        return self._code

    @property
    def alive(self) -> bool:
        """As far as anybody has looked."""
        return self._code is None

    async def killed(self) -> None:
        """Wait for the death that was ordered."""
        assert await self.ended() == -signal.SIGKILL, "\n".join(self.lines)

    async def kill(self) -> None:
        """Now, wherever it is."""
        os.kill(self.pid, signal.SIGKILL)
        await self.killed()

    async def put_away(self) -> None:
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            await self.ended()
        for pipe in self._pipes:
            pipe.close()
        await asyncio.sleep(0)  # the loop closes them in its next round

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


class Launch:
    """The launcher's process, for all the tests of a module."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders

    async def start(self, environment: Mapping[str, str], die: str | None = None) -> Child:
        """A service that may not be ready yet."""
        says, told = os.pipe()
        life, written = os.pipe()
        order = json.dumps(vars(Order(environment, die))).encode()
        socket.send_fds(self._orders, [order], [told, written])
        os.close(told)
        os.close(written)
        news, news_pipe = await _reader(life)
        spoken, spoken_pipe = await _reader(says)
        pid = int(await news.readline())
        return Child(pid, news, spoken, (news_pipe, spoken_pipe))


async def _reader(pipe: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
    )
    return reader, transport


@contextmanager
def launching() -> Iterator[Launch]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-m", "tests.crash.launcher", str(theirs.fileno())]
        root = Path(__file__).parents[2]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=root, stdin=subprocess.DEVNULL)
        theirs.close()
        try:
            yield Launch(ours)
        finally:
            ours.close()
            process.wait(PATIENCE)


@dataclass
class Scene:
    """The world around the service. `settings` are given to every start; a subscriber hears of everything."""

    launch: Launch
    client: Client
    vanceai: VanceAISandbox
    picwish: PicWishSandbox
    receiver: Receiver
    data_dir: Path
    settings: dict[str, str]
    photo: Path
    children: list[Child] = field(default_factory=list)

    async def start(self, die: str | None = None, **settings: str) -> Child:
        """A service that is ready. `settings` by their names without the prefix."""
        child = await self.begin(die, **settings)
        assert await child.ready(), "\n".join(child.lines)
        return child

    async def begin(self, die: str | None = None, **settings: str) -> Child:
        environment = {PREFIX + name: value for name, value in {**self.settings, **settings}.items()}
        child = await self.launch.start(environment, die)
        self.children.append(child)
        return child

    async def subscribe(self, *events: str) -> dict[str, Any]:
        return await self.client.subscribe(self.receiver.url, events=list(events) or ["job.*"])

    async def submit(self, operation: str, **job: Any) -> str:
        """An acknowledged job's id."""
        status, body = await self.client.submit(operation, self.photo, **job)
        assert status == 202, body
        return str(body["id"])

    async def end_of(self, job_id: str) -> dict[str, Any]:
        """The job after its end, which the log tells exactly once and the subscriber has heard of."""
        told = await self.receiver.event_of(job_id, *TERMINAL)
        job = await self.client.job(job_id)
        ends = [event for event in await self.log() if event["type"] in TERMINAL and event["data"]["id"] == job_id]
        assert [event["id"] for event in ends] == [told["id"]]
        assert ends[0]["type"] == f"job.{job['state']}"
        await self.all_was_told()
        return job

    async def log(self) -> list[dict[str, Any]]:
        """All events that there are, whose numbers leave no gap."""
        events: list[dict[str, Any]] = []
        while True:
            after = events[-1]["sequence"] if events else 0
            status, page = await self.client.call("GET", f"/v1/events?limit=200&after={after}")
            assert status == 200, page
            events += page["data"]
            if page["next"] is None:
                break
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        return events

    async def all_was_told(self) -> None:
        """Each event has come at least once, its twins under the same webhook-id and with the same bytes."""
        events = await self.log()
        bodies: dict[str, set[bytes]] = {}

        def all_came() -> bool:
            return {event["id"] for event in events} <= {entry.headers["webhook-id"] for entry in self.receiver.got}

        await self.receiver.until(all_came)
        for entry in self.receiver.got:
            bodies.setdefault(entry.headers["webhook-id"], set()).add(entry.body)
        # Read again: meanwhile there may be more, and they may have come.
        logged = {event["id"]: event for event in await self.log()}
        for webhook_id, different in bodies.items():
            assert [json.loads(body) for body in different] == [logged[webhook_id]]

    async def pictures_are_whole(self, job: Mapping[str, Any]) -> None:
        assert job["state"] == "succeeded", job
        for output in job["outputs"]:
            status, body = await self.client.call("GET", output["url"], key="")
            assert status == 200
            assert len(body) == output["bytes"]

    def asked(self, endpoint: str) -> int:
        """How often the vendors were asked there; no two of their endpoints have one name."""
        return Counter(seen.endpoint for seen in [*self.vanceai.requests, *self.picwish.requests])[endpoint]

    @property
    def charges(self) -> int:
        return len(self.vanceai.charged) + len(self.picwish.charged)

    @property
    def files(self) -> Sequence[Path]:
        """The pictures on our disk, half ones too."""
        assets = self.data_dir / "assets"
        return [path for path in assets.rglob("*") if path.is_file() and path.name not in {"lock", OWNER}]


@asynccontextmanager
async def scene(
    launch: Launch,
    data_dir: Path,
    photo: Path,
    *,
    webhook: WebhookPlan | None = None,
    work: float | Callable[[], Any] = 0.0,
    qps: int = 2,
    **settings: str,
) -> AsyncIterator[Scene]:
    """No service is started yet. `qps`: PicWish's own limit, and ours."""
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    async with (
        VanceAISandbox(VanceAIPlay(work_seconds=work, poll_seconds=0, webhook=webhook or WebhookPlan())) as vanceai,
        PicWishSandbox(PicWishPlay(work_seconds=work, poll_seconds=0, qps=qps)) as picwish,
        receiver() as subscriber,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
    ):
        given = {
            "PORT": str(port),
            "PUBLIC_URL": own,
            "DATA_DIR": str(data_dir),
            "API_KEY": API_KEY,
            "ALLOW_NETWORKS": "127.0.0.0/8",
            "ALLOW_SOURCE_NETWORKS": "127.0.0.0/8",
            "LOG_FORMAT": "json",
            "VANCEAI__BASE_URL": vanceai.base_url,
            "VANCEAI__API_TOKEN": vanceai.key,
            "VANCEAI__POLL_SECONDS": "0.05",
            "PICWISH__BASE_URL": picwish.base_url,
            "PICWISH__API_KEY": picwish.key,
            "PICWISH__POLL_SECONDS": "0.05",
            "PICWISH__LIMITS": json.dumps([{"scope": "account", "requests": qps, "seconds": 1}]),
            **settings,
        }
        if (url := stores.url_for(data_dir)) is not None:
            given["DATABASE_URL"] = url
        it = Scene(launch, Client(own, http), vanceai, picwish, subscriber, data_dir, given, photo)
        try:
            yield it
            assert vanceai.violations == []
            assert picwish.violations == []
        finally:
            for child in it.children:
                await child.put_away()
