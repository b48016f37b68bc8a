"""PicWish's stand-in: create a task, ask for it, take image and mask within the hour (seed 004).

All tasks under `/api/tasks/visual/…` have one shape; adding one is adding a row to VISUAL_TASKS. The HTTP status and
the body's `status` always say the same.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from PIL import Image

from handlers.sandbox import pictures
from handlers.sandbox.faults import Fault, answering
from handlers.sandbox.pictures import Picture
from handlers.sandbox.requests import Asked, Upload
from handlers.sandbox.server import RefusedError, Route, Sandbox, Settings, json_answer
from handlers.sandbox.tasks import State, Task, Word, WorkFailedError

MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_URL_BYTES = 30 * 1024 * 1024
MAX_SIDE = 4096
EXTENSIONS = frozenset(["jpg", "jpeg", "bmp", "png", "webp", "tiff", "tif", "bitmap", "raw", "rgb", "jfif", "lzw"])
FORMATS = frozenset({"JPEG", "BMP", "DIB", "PNG", "WEBP", "TIFF"})

MESSAGES: Mapping[int, str] = {
    200: "success",
    400: "Wrong parameter",
    401: "Unauthorized API key",
    404: "The requested URL or resource does not exist",
    405: "Method not allowed",
    413: "The uploaded file exceeds the allowed size",
    429: "Request frequency exceeds the QPS limit",
    500: "Server-side exception",
}

SUCCESS = 1
FAILED_DOWNLOAD, TOO_LARGE, INVALID_FILE, TIMED_OUT, UNSUITABLE = -3, -5, -7, -8, -14
_REAL: Mapping[State, int] = {State.QUEUED: 0, State.RUNNING: 4, State.DONE: SUCCESS}
_PROGRESS: Mapping[int, int] = {0: 0, 2: 10, 3: 20, 4: 50, 6: 60, 5: 90, SUCCESS: 100}


@dataclass(frozen=True)
class PicWishSettings(Settings):
    """`qps` requests in any one second, over create and query together; refused ones count too."""

    max_seconds: float | None = 180.0
    qps: int = 2
    download_seconds: float = 30.0


@dataclass(frozen=True)
class Options:
    crop: bool
    form: str  # png or jpg


@dataclass(eq=False)
class PicWishTask(Task):
    secret: str = ""  # in the result links: whoever has one may fetch, nobody else can guess


Cutter = Callable[[Image.Image, Options], Mapping[str, Picture]]


def _cut_with(find: Callable[[Image.Image], Image.Image]) -> Cutter:
    def cut(image: Image.Image, options: Options) -> Mapping[str, Picture]:
        mask = find(image)
        result = pictures.cut_out(image, mask)
        if options.crop:
            result, mask = pictures.cropped(result, mask)
        return {"image": pictures.encode(result, options.form), "mask": pictures.encode(mask, "png")}

    return cut


# Only the first is in the seed; the others' documents differ in their options, so each comes with its own check.
VISUAL_TASKS: Mapping[str, Cutter] = {
    "self-face-cutout": _cut_with(pictures.head),
}


def error(status: int) -> Fault:
    """The vendor's HTTP error, as a fault."""
    return answering({"status": status, "message": MESSAGES[status]}, status)


class PicWishSandbox(Sandbox[PicWishSettings, PicWishTask]):
    """Endpoints for faults: create, query, result (image and mask links)."""

    overrun = TIMED_OUT

    def __init__(
        self,
        settings: PicWishSettings | None = None,
        *,
        key: str = "sandbox-key",
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(settings or PicWishSettings(), clock=clock, seed=seed, monotonic=monotonic, sleep=sleep)
        self.key = key
        self._arrivals: deque[float] = deque()

    @property
    def credentials(self) -> Mapping[str, str]:
        return {"api_key": self.key}

    def route_table(self) -> Iterable[Route]:
        slug = "{slug:" + "|".join(VISUAL_TASKS) + "}"
        return (
            Route("create", ("POST",), f"/api/tasks/visual/{slug}", self._create),
            Route("query", ("GET",), f"/api/tasks/visual/{slug}/{{task_id}}", self._query),
            Route("result", ("GET", "HEAD"), "/results/{secret}/{task_id}/{name}.{form:png|jpg}", self._result),
        )

    def arrived(self, endpoint: str, request: web.Request, at: float) -> RefusedError | None:  # noqa: ARG002 - all keys are one here
        """QPS: a strict sliding window of one second over the arrivals at the server."""
        if endpoint == "result":
            return None
        self._arrivals.append(at)
        while self._arrivals[0] <= at - 1.0:
            self._arrivals.popleft()
        if len(self._arrivals) <= self.settings.qps:
            return None
        return self._refusal(429, f"{len(self._arrivals)} requests within {at - self._arrivals[0]:.3f} s")

    def not_found(self, error: web.HTTPException) -> web.Response:
        return self._refusal(error.status).answer

    # -- the endpoints ---------------------------------------------------------------------------------------------

    async def _create(self, asked: Asked) -> web.Response:
        self._check_key(asked)
        options = self._options(asked)
        source = await self._source(asked)
        task = PicWishTask(
            id=self.new_id(),
            operation=asked.request.match_info["slug"],
            created_at=self.clock(),
            script=self.next_script(),
            secret=self.new_id(),
        )
        self.tasks[task.id] = task

        async def make() -> Mapping[str, Picture]:
            data = source.data if isinstance(source, Upload) else await self._downloaded(source)
            outputs = await self.filtered(lambda: _made(VISUAL_TASKS[task.operation], data, options))
            self.charged.append((task.id, Decimal(1)))
            return outputs

        self.spawn(self.run(task, make, _fate(task.script[-1]) if task.script else State.DONE))
        if asked.fields.get("sync", "0") == "0":
            return self._fine({"task_id": task.id})
        await task.ended.wait()
        # The document has this one field only here, and doesn't say what its numbers mean.
        return self._fine(self._told(task, _real(task)) | {"output_type": 1})

    async def _query(self, asked: Asked) -> web.Response:
        self._check_key(asked)
        if asked.encoding != "none" or asked.fields:
            raise self._refusal(400, "a query has no fields")
        task = self.tasks.get(asked.request.match_info["task_id"])
        if task is None or task.operation != asked.request.match_info["slug"]:
            raise self._refusal(404, "a task_id that no create gave")
        if self._expired(task):
            raise self._refusal(404, "asked for a task after its hour")
        self.check_pace(asked, task)
        return self._fine(self._told(task, task.says(_real(task), SUCCESS)))

    async def _result(self, asked: Asked) -> web.Response:
        if "X-API-KEY" in asked.request.headers:
            # Result links lead to storage, which has no business with the key.
            self.breach(asked, "the API key was sent to a result link")
        task = self.tasks.get(asked.request.match_info["task_id"])
        picture = task.outputs.get(asked.request.match_info["name"]) if task else None
        if task is None or picture is None or asked.request.match_info["secret"] != task.secret:
            raise self._refusal(404, "a result link that no task gave")
        if self._expired(task):
            raise self._refusal(404, "a result was fetched after its hour")
        return web.Response(body=picture.data, content_type=picture.content_type)

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check_key(self, asked: Asked) -> None:
        if asked.request.headers.get("X-API-KEY") != self.key:
            raise self._refusal(401, "no X-API-KEY, or a wrong one")
        if asked.query_names:
            raise self._refusal(400, "fields in the URL")

    def _options(self, asked: Asked) -> Options:
        if asked.encoding != "multipart":
            raise self._refusal(400, "create takes multipart/form-data only")
        allowed = {"sync": ("0", "1"), "crop": ("0", "1"), "output_format": ("png", "jpg")}
        if unknown := (asked.fields.keys() - {"image_url", *allowed}) | (asked.files.keys() - {"image_file"}):
            raise self._refusal(400, f"unknown {', '.join(sorted(unknown))}")
        if asked.repeated:
            raise self._refusal(400, f"given twice: {', '.join(sorted(asked.repeated))}")
        for name, values in allowed.items():
            if asked.fields.get(name, values[0]) not in values:
                raise self._refusal(400, f"{name} is {' or '.join(values)}")
        return Options(asked.fields.get("crop") == "1", asked.fields.get("output_format", "png"))

    async def _source(self, asked: Asked) -> Upload | str:
        """The one source image: an upload within the limits, or a URL."""
        # "If this parameter is present, the other image source parameters must be empty."
        url, file = asked.fields.get("image_url") or None, asked.files.get("image_file")
        if url is not None and file is None:
            if urlsplit(url).scheme not in ("http", "https"):
                raise self._refusal(400, "image_url is no http(s) URL")
            return url
        if file is None or url is not None:
            raise self._refusal(400, "exactly one of image_url and image_file")
        if len(file.data) > MAX_FILE_BYTES:
            raise self._refusal(413, "image_file over 20 MB")
        if PurePath(file.name).suffix.lower().removeprefix(".") not in {*EXTENSIONS, ""}:
            raise self._refusal(400, "image_file is of another type")
        measured = await asyncio.to_thread(pictures.measure, file.data)
        if max(measured.width, measured.height) > MAX_SIDE:
            raise self._refusal(413, "image_file over 4096 pixels")
        return file

    async def _downloaded(self, url: str) -> bytes:
        """The vendor fetches the image itself."""
        timeout = aiohttp.ClientTimeout(total=self.settings.download_seconds)
        received = bytearray()
        try:
            async with self.session.get(url, timeout=timeout) as answer:
                if answer.status != 200:
                    raise WorkFailedError(FAILED_DOWNLOAD)
                async for piece in answer.content.iter_chunked(65_536):
                    received += piece
                    if len(received) > MAX_URL_BYTES:
                        raise WorkFailedError(TOO_LARGE)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            raise WorkFailedError(FAILED_DOWNLOAD) from None
        return bytes(received)

    # -- answers ---------------------------------------------------------------------------------------------------

    def _expired(self, task: PicWishTask) -> bool:
        since = task.ended_at if task.ended.is_set() else task.created_at
        return self.clock() - since > self.settings.result_seconds

    def _told(self, task: PicWishTask, state: Word) -> dict[str, object]:
        """The task's data; image and mask are there once it has succeeded."""
        told: dict[str, object] = {
            "task_id": task.id,
            "created_at": str(int(task.created_at)),
            "processed_at": str(int(task.started_at)),
            "completed_at": str(int(task.ended_at)),
            "progress": _PROGRESS.get(int(state), 0),
            "state": state,
        }
        if state == SUCCESS:
            for name, picture in task.outputs.items():
                form = "jpg" if picture.content_type == "image/jpeg" else "png"
                told[name] = f"{self.base_url}/results/{task.secret}/{task.id}/{name}.{form}"
        return told

    def _fine(self, data: Mapping[str, object]) -> web.Response:
        return json_answer({"status": 200, "message": MESSAGES[200], "data": data})

    def _refusal(self, status: int, breach: str = "") -> RefusedError:
        return RefusedError(json_answer({"status": status, "message": MESSAGES[status]}, status), breach)


def _real(task: PicWishTask) -> Word:
    return task.failure if task.state is State.FAILED else _REAL[task.state]


def _fate(last: Word) -> State | None:
    """Where a scripted task ends: 1 succeeds, below 0 fails, all else goes on for ever."""
    if last == SUCCESS:
        return State.DONE
    return State.FAILED if int(last) < 0 else None


def _made(cutter: Cutter, data: bytes, options: Options) -> Mapping[str, Picture]:
    measured = pictures.measure(data)
    if measured.format not in FORMATS:
        raise WorkFailedError(INVALID_FILE)
    if max(measured.width, measured.height) > MAX_SIDE:
        raise WorkFailedError(UNSUITABLE)
    try:
        return cutter(pictures.decode(data), options)
    except (OSError, ValueError, SyntaxError):
        raise WorkFailedError(INVALID_FILE) from None
