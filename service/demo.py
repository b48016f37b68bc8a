"""The whole way in half a minute: a photograph in, signed events out, pictures on disk.

Nothing is staged here: the service is a child process as in production, the events are received as any subscriber
would receive them, and the pictures come from the events' own links. Only the vendors are stand-ins.
"""

import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from rich.table import Table
from rich.text import Text

from handlers import standardwebhooks
from handlers.standardwebhooks import InvalidSignature
from schemas.event import EventType
from service.client import Client, Damaged, Json, ProblemAnswer, Unreachable
from service.commands import saving
from service.commands.shared import console, explain, faults
from service.config import PREFIX
from service.security.keys import new_key

START_SECONDS = 30.0
JOBS_SECONDS = 90.0
STOP_SECONDS = 15.0
_TAIL = 40  # lines of the child's log that a failure shows
_TERMINAL = frozenset({EventType.JOB_SUCCEEDED, EventType.JOB_FAILED, EventType.JOB_CANCELED})


class DemoFailed(Exception):
    """Something is missing; the text says what."""


@dataclass(frozen=True)
class Shot:
    photo: Path
    operation: str
    params: Mapping[str, Any]


class Child:
    """The service as a child process; its log is read all the time, or it would block on a full pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())

    @property
    def tail(self) -> str:
        return "\n".join(self._tail)

    async def url(self) -> str:
        """Where it listens, once it says so. Raises DemoFailed where it ends instead."""
        try:
            async with asyncio.timeout(START_SECONDS):
                return await asyncio.shield(self._url)
        except TimeoutError:
            raise DemoFailed(f"the service was not ready within {START_SECONDS:g} s") from None

    async def ended(self) -> None:
        await self._process.wait()

    async def stop(self) -> int:
        """Ask it to end, kindly; its exit code. One that does not listen is killed."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading
        if self._url.done():
            self._url.exception()  # looked at, or asyncio would complain that nobody did
        code = self._process.returncode
        assert code is not None
        return code

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            if not self._url.done() and (url := _ready_url(text)):
                self._url.set_result(url)
        if not self._url.done():
            self._url.set_exception(DemoFailed("the service ended at its start"))


def _ready_url(line: str) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry.get("url") if isinstance(entry, dict) and entry.get("event") == "service.ready" else None


class Receiver:
    """A subscriber: it believes nothing that is not signed with its secret."""

    def __init__(self) -> None:
        self.secret = ""
        self.events: asyncio.Queue[tuple[Json, bool]] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen on loopback; the URL to register."""
        app = web.Application()
        app.router.add_post("/events", self._take)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/events"
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        given = {name.lower(): value for name, value in request.headers.items()}
        try:
            standardwebhooks.verify(self.secret, given, body, time.time())
        except InvalidSignature:
            self.events.put_nowait(({}, False))
            return web.Response(status=401)
        self.events.put_nowait((json.loads(body), True))
        return web.Response(status=204)


class Demo:
    """One run; `run` says whether all went well."""

    def __init__(self, product: Path, portrait: Path, results: Path) -> None:
        self._shots = (
            Shot(product, "vanceai/enlarge3", {"scale": 2}),
            Shot(portrait, "picwish/self-face-cutout", {}),
        )
        self._results = results
        self._out = console()
        self._receiver = Receiver()

    async def run(self) -> bool:
        key = new_key()
        with tempfile.TemporaryDirectory(prefix="wirephoto-demo-") as folder:
            child = await _start(Path(folder), key)
            failure: Exception | None = None
            try:
                await self._story(child, key)
            except (DemoFailed, ProblemAnswer, Unreachable, Damaged, OSError) as error:
                failure = error
            finally:
                code = await child.stop()
            if failure is None and code != 0:
                failure = DemoFailed(f"the service ended with exit code {code}")
            if failure is not None:
                why = "\n  ".join([explain(failure), *faults(failure)])
                self._out.print(f"The demo failed: {why}", style="bold red", markup=False)
                self._out.print(f"The service's last log lines:\n{child.tail}", markup=False, soft_wrap=True)
        return failure is None

    async def _story(self, child: Child, key: str) -> None:
        url = await child.url()
        self._say(f"The service runs on {url}, with sandboxes for its vendors.")
        async with Client(url, key) as client, self._receiver.listening() as address:
            await client.get("/readyz")
            endpoint = await client.post("/v1/endpoints", {"url": address, "description": "the demo's receiver"})
            self._receiver.secret = endpoint["secret"]
            self._say(f"A subscriber listens on {address}.")
            jobs = [await self._submit(client, shot) for shot in self._shots]
            ended = await self._watch({job["id"] for job in jobs}, child)
            rows = [
                row
                for job, shot in zip(jobs, self._shots, strict=True)
                for row in await self._take(client, ended[job["id"]], shot)
            ]
        self._show(rows)

    async def _submit(self, client: Client, shot: Shot) -> Json:
        job = await client.submit({"operation": shot.operation, "params": shot.params}, {"image": shot.photo})
        self._say(f"Submitted {shot.photo.name} to {shot.operation}: {job['id']}")
        return job

    async def _watch(self, wanted: set[str], child: Child) -> dict[str, Json]:
        """Print events as they arrive, until each job has ended; its last state by its id."""
        ended: dict[str, Json] = {}
        dead = asyncio.create_task(child.ended())
        try:
            async with asyncio.timeout(JOBS_SECONDS):
                while not wanted <= ended.keys():
                    event = await self._next(dead)
                    if event["type"] in _TERMINAL:
                        ended[event["data"]["id"]] = event["data"]
        except TimeoutError:
            missing = len(wanted - ended.keys())
            raise DemoFailed(f"{missing} of the jobs' last events did not come within {JOBS_SECONDS:g} s") from None
        finally:
            dead.cancel()
        return ended

    async def _next(self, dead: asyncio.Task[None]) -> Json:
        heard = asyncio.create_task(self._receiver.events.get())
        await asyncio.wait({heard, dead}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            heard.cancel()
            raise DemoFailed("the service ended in the middle of its work")
        event, verified = heard.result()
        if not verified:
            self._out.print("  an event came whose signature does not fit", style="bold red")
            raise DemoFailed("an event came that was not signed with the endpoint's secret")
        data = event["data"]
        line = Text("  ").append(event["timestamp"][11:23], style="dim").append(f"  {event['type']:<15}", style="bold")
        line.append(f" {data['id']}  {data.get('operation', '')}  ").append("signature verified", style="green")
        self._out.print(line, soft_wrap=True)
        return event

    async def _take(self, client: Client, job: Json, shot: Shot) -> list[tuple[str, ...]]:
        """Download a job's results by the event's signed links; a row of the last table for each."""
        if job["state"] != "succeeded" or not job["outputs"]:
            why = job["error"]["message"] if job["error"] else "it has no result"
            raise DemoFailed(f"{job['operation']} ended as {job['state']}: {why}")
        self._results.mkdir(parents=True, exist_ok=True)
        paths = saving.inside(self._results, shot.photo.stem, shot.operation, job["outputs"])
        await saving.save(client, job["outputs"], paths, signed_links=True)
        via = ", ".join(sorted({heard["via"] for heard in job["callbacks"]}))
        return [
            (path.name, f"{entry['bytes']:,}", f"{entry['width']} × {entry['height']}", job["vendor"], via)
            for entry, path in zip(job["outputs"], paths, strict=True)
        ]

    def _show(self, rows: list[tuple[str, ...]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("FILE", "BYTES", "SIZE", "MADE BY", "HEARD BY"):
            table.add_column(heading, no_wrap=True, justify="right" if heading == "BYTES" else "left")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._out.print()
        self._out.print(table)
        self._say(f"\nDone. The pictures are in {self._results.resolve()}")

    def _say(self, line: str) -> None:
        self._out.print(line, markup=False, soft_wrap=True)


async def _start(folder: Path, key: str) -> Child:
    """`wirephoto serve --sandbox` with nothing of this machine's own Wirephoto: no settings, no file, no data."""
    own = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    root = str(Path(__file__).parents[1])
    environment = {
        **own,
        "PYTHONPATH": os.pathsep.join(part for part in (root, own.get("PYTHONPATH", "")) if part),
        f"{PREFIX}API_KEY": key,
        f"{PREFIX}SECRET_KEY": secrets.token_urlsafe(48),
        f"{PREFIX}ALLOW_NETWORKS": "127.0.0.0/8",
        f"{PREFIX}LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.cli", "serve", "--sandbox", "--host", "127.0.0.1", "--port", "0"),
        *("--data-dir", str(folder / "data")),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C is for us alone: the child is stopped in order.
        start_new_session=True,
    )
    return Child(process)
