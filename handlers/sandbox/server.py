"""What all sandboxes share: a small HTTP server that keeps one vendor's contract and remembers who broke it.

A vendor's module adds its routes, its words and its checks. It is written from the vendor's document and never from our
client, so that a fault of the client fails against it.
"""

import asyncio
import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, Self, TypeVar

import aiohttp
from aiohttp import web

from handlers.sandbox.faults import Fault, Faults, Gate
from handlers.sandbox.pictures import Picture
from handlers.sandbox.requests import Asked, Bell, Seen, read
from handlers.sandbox.tasks import State, Task, Word, WorkFailedError

AT_ONCE = 2  # pictures under the filters at the same time, in each sandbox
POLL_TOLERANCE = 0.1  # seconds: how often to ask is advice, not a limit, and the road jitters
_LARGEST_BODY = 64 * 1024 * 1024  # above every vendor's own limit, which answers in the vendor's own way
_GRACE = 0.05  # seconds that open requests get at stop(); a held one would never end by itself


@dataclass(frozen=True)
class Settings:
    """How a vendor behaves on a good day. Times are seconds. A vendor may add its own.

    `work_seconds` is how long a task takes: a number, or a callable giving one or something to wait for
    (`work_seconds=event.wait` lets a test end the work). `parallel` tasks are worked on at once, the rest is queued.
    `max_seconds` is the vendor's own limit for one task. `poll_seconds` is the time between two questions about one
    task that the document advises. `result_seconds` is how long a result can be had.
    """

    work_seconds: float | Callable[[], float | Awaitable[object]] = 1.0
    queue_seconds: float = 0.0
    parallel: int = 16
    max_seconds: float | None = None
    poll_seconds: float = 1.0
    result_seconds: float = 3600.0


class RefusedError(Exception):
    """The request ends with this answer; `breach` says what the client did wrong, empty if it did nothing wrong."""

    def __init__(self, answer: web.Response, breach: str = "") -> None:
        super().__init__(breach)
        self.answer = answer
        self.breach = breach


class _DroppedError(Exception):
    """The connection is to be closed without an answer."""


@dataclass(frozen=True)
class Route:
    endpoint: str
    methods: tuple[str, ...]
    path: str
    handle: Callable[[Asked], Awaitable[web.Response]]


Make = Callable[[], Awaitable[Mapping[str, Picture]]]
SettingsT = TypeVar("SettingsT", bound=Settings)
TaskT = TypeVar("TaskT", bound=Task)


class Sandbox(ABC, Generic[SettingsT, TaskT]):
    """One vendor's stand-in.

    `settings` may be replaced at any time (`parallel` counts from the start); `faults` queues trouble; `requests`,
    `violations` and `charged` tell what happened. `clock` gives the vendor's time (seconds since 1970: stamps and
    expiry), `monotonic` the arrival times that rate limits are measured by, `sleep` lets that time pass: the work takes
    as long as it says. (`max_seconds` alone is measured by the wall.) The same `seed` gives the same ids.
    """

    base_path = ""
    secret_fields: frozenset[str] = frozenset()
    overrun: Word = ""  # the failure of a task that took longer than `settings.max_seconds`

    def __init__(
        self,
        settings: SettingsT,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.monotonic = monotonic
        self.sleep = sleep
        self.routes = tuple(self.route_table())
        self.faults = Faults(route.endpoint for route in self.routes)
        self.requests: list[Seen] = []
        self.violations: list[str] = []
        self.charged: list[tuple[str, Decimal]] = []
        self.tasks: dict[str, TaskT] = {}
        self.bell = Bell()
        self._seed = seed
        self._ids = 0
        self._scripts: deque[tuple[Word, ...]] = deque()
        self._parallel = asyncio.Semaphore(settings.parallel)
        self._filters = asyncio.Semaphore(AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._origin = ""

    @abstractmethod
    def route_table(self) -> Iterable[Route]:
        """Every URL of the vendor's document."""

    @property
    @abstractmethod
    def credentials(self) -> Mapping[str, str]:
        """What a client must have, by the names of Wirephoto's settings for it. They open nothing but this sandbox."""

    def arrived(self, endpoint: str, request: web.Request, at: float) -> RefusedError | None:
        """Called as soon as a request's head is there: the place for rate limits. Faults come after it."""

    def not_found(self, error: web.HTTPException) -> web.Response:
        """The vendor's answer to a URL or a method that it doesn't have."""
        return web.Response(status=error.status, text=error.reason)

    # -- running ---------------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. After `stop` it may be started again and still knows its tasks."""
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._strict])
        for route in self.routes:
            for method in route.methods:
                app.router.add_route(method, route.path, self._answering(route))
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_GRACE)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self.stop()
            raise
        self._origin = f"http://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Cut every connection and cancel all that is under way: no task and no socket is left."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        self._runner = self._session = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def origin(self) -> str:
        """Where it listens; only known once started."""
        if not self._origin:
            raise RuntimeError("the sandbox has no URL before start()")
        return self._origin

    @property
    def base_url(self) -> str:
        """What a client is configured with; only known once started."""
        return self.origin + self.base_path

    @property
    def session(self) -> aiohttp.ClientSession:
        """For what a vendor fetches or calls itself."""
        if self._session is None:
            raise RuntimeError("the sandbox is not running")
        return self._session

    # -- for tests -------------------------------------------------------------------------------------------------

    async def seen(self, path_suffix: str, count: int = 1) -> Seen:
        """Wait until the `count`-th request to this path (or endpoint's name) has been fully received."""

        def find() -> Seen | None:
            matching = [s for s in self.requests if s.path.endswith(path_suffix) or s.endpoint == path_suffix]
            return matching[count - 1] if len(matching) >= count else None

        return await self.bell.until(find)

    def play(self, *words: Word) -> None:
        """The next new task says these states in turn, one for each question; the last one stays.

        The last one is also the task's fate: success, a failure, or neither: then the task never ends.
        """
        self._scripts.append(words)

    # -- for the vendor's module -----------------------------------------------------------------------------------

    def new_id(self) -> str:
        """32 hex digits, never the same twice in one sandbox."""
        self._ids += 1
        return hashlib.sha256(f"{type(self).__name__} {self._seed} {self._ids}".encode()).hexdigest()[:32]

    def next_script(self) -> deque[Word]:
        return deque(self._scripts.popleft() if self._scripts else ())

    def breach(self, asked: Asked, what: str) -> None:
        """Note that the client broke the contract. `what` names fields and never a credential or a URL."""
        self.violations.append(f"{asked.request.method} {asked.endpoint}: {what}")

    def check_pace(self, asked: Asked, task: Task) -> None:
        """Note a question that comes sooner after the last one about this task than the document advises."""
        last, task.asked_at = task.asked_at, asked.at
        if last is not None and asked.at - last < self.settings.poll_seconds - POLL_TOLERANCE:
            gap, least = asked.at - last, self.settings.poll_seconds
            self.breach(asked, f"asked again after {gap:.2f} s, the document says {least:g} s")

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def filtered(self, work: Callable[[], Mapping[str, Picture]]) -> Mapping[str, Picture]:
        async with self._filters:
            return await asyncio.to_thread(work)

    async def run(self, task: TaskT, make: Make, fate: State | None) -> None:
        """Queue the task, work on it and end it. `make` gives its outputs; without a fate it never ends."""
        try:
            async with asyncio.timeout(self.settings.max_seconds):
                await self._work(task, make, fate)
        except WorkFailedError as error:
            task.failure, task.state = error.word, State.FAILED
        except TimeoutError:
            task.failure, task.state = self.overrun, State.FAILED
        task.ended_at = self.clock()
        task.ended.set()

    async def _work(self, task: TaskT, make: Make, fate: State | None) -> None:
        await self.sleep(self.settings.queue_seconds)
        async with self._parallel:
            task.started_at = self.clock()
            task.state = State.RUNNING
            time_taken = self.settings.work_seconds
            taken = time_taken() if callable(time_taken) else time_taken
            await (self.sleep(taken) if isinstance(taken, float | int) else taken)
            if fate is None:
                await asyncio.Event().wait()
            if fate is State.FAILED:
                raise WorkFailedError(task.script[-1])
            task.outputs = await make()
            task.state = State.DONE

    # -- one request -----------------------------------------------------------------------------------------------

    @web.middleware
    async def _strict(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if (error := request.match_info.http_exception) is None:
            return await handler(request)
        at = self.monotonic()
        refusal = self.arrived("unknown", request, at)
        asked = await read(request, "unknown", at)
        self._note(asked)
        if refusal is not None:
            self.breach(asked, refusal.breach)
            return refusal.answer
        # The path is not told: it may hold what should not be told.
        self.breach(asked, f"no such URL or method ({error.status})")
        return self.not_found(error)

    def _note(self, asked: Asked) -> None:
        self.requests.append(asked.seen(self.secret_fields))
        self.bell.ring()

    def _answering(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            at = self.monotonic()
            refusal = self.arrived(route.endpoint, request, at)
            try:
                asked = await read(request, route.endpoint, at)
            except web.HTTPRequestEntityTooLarge:
                self.violations.append(f"{request.method} {route.endpoint}: a body far beyond every limit")
                raise
            except ValueError:
                self.violations.append(f"{request.method} {route.endpoint}: malformed body")
                raise web.HTTPBadRequest from None
            self._note(asked)
            if refusal is not None:
                # Noted here, for a fault may hide the refusal from the client and undoes nothing.
                self.breach(asked, refusal.breach)
            fault, gate = self.faults.take(route.endpoint)

            async def work() -> web.Response:
                if refusal is not None:
                    return refusal.answer
                try:
                    return await route.handle(asked)
                except RefusedError as error:
                    if error.breach:
                        self.breach(asked, error.breach)
                    return error.answer

            try:
                return await self._send(asked, await self._troubled(asked, fault, gate, work), fault)
            except _DroppedError:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            finally:
                asked.answered.set()

        return answer

    async def _troubled(
        self, asked: Asked, fault: Fault, gate: Gate, work: Callable[[], Awaitable[web.Response]]
    ) -> web.Response:
        """The answer with the fault done to it."""
        if fault.delay:
            await self.sleep(fault.delay)
        answer = await work() if fault.after_work else None
        if fault.hold:
            # The vendor believes it has answered: what follows an answer, such as a webhook, is not held up.
            asked.answered.set()
            await gate.passed()
        if fault.drop:
            raise _DroppedError
        if fault.status is not None:
            return web.Response(status=fault.status, body=fault.body, content_type=fault.content_type)
        answer = answer or await work()
        body = answer.body if isinstance(answer.body, bytes) else b""
        if fault.change is not None:
            answer.body = json.dumps(fault.change(json.loads(body))).encode()
        if fault.cut:
            answer.body = body[: len(body) // 2]
        return answer

    async def _send(self, asked: Asked, answer: web.Response, fault: Fault) -> web.StreamResponse:
        if not fault.truncate:
            # Written out here, so that `answered` means what it says.
            await answer.prepare(asked.request)
            await answer.write_eof()
            return answer
        body = answer.body if isinstance(answer.body, bytes) else b""
        half = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        half.content_length = len(body)
        await half.prepare(asked.request)
        await half.write(body[: len(body) // 2])
        if asked.request.transport is not None:
            asked.request.transport.close()
        return half


def json_answer(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(value).encode(), content_type="application/json")
