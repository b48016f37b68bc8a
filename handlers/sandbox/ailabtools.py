"""AILabTools' stand-in: a retouch that answers at once, a refinement that is asked for (seeds 001 and 003).

What the seeds leave open (the codes, the query's path, prices) is as the vendor's public documents and its own SDK have
it. Those documents disagree with each other; where they do, a setting plays either.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from pathlib import PurePath

from aiohttp import web
from PIL import Image

from handlers.sandbox import pictures
from handlers.sandbox.faults import Fault, answering
from handlers.sandbox.pictures import Picture
from handlers.sandbox.requests import Asked, Upload
from handlers.sandbox.server import POLL_TOLERANCE, RefusedError, Route, Sandbox, Settings, json_answer
from handlers.sandbox.tasks import State, Task, Word, WorkFailedError

KEY_HEADER = "ailabapi-api-key"
RETOUCH_PATH = "/api/image/editing/photo-retouching"
REFINE_PATH = "/api/portrait/enhance/try-on-clothes-refiner"
QUERY_PATH = "/api/common/query-async-task-result"
CREDITS_PATH = "/api/common/query-credits"
_MB = 1024 * 1024

# "Queried every 5 seconds" is advice on how often: so much sooner after another is still taken for that.
CLOSEST = 0.8

QUEUED, RUNNING, SUCCEEDED, FAILED = 0, 1, 2, 3
UNDECODABLE = "FILE_DECODING_FAILURE"
OUT_OF_CREDITS = "ERROR_NOT_ENOUGH_CREDITS"
_INVALID, _MISSING, _TYPE = "ERROR_INVALID_PARAMETER", "MISSING_PARAMETERS", "UNSUPPORTED_FILE_TYPES"
_NO_KEY = "ERROR_USER_NOT_EXISTS"

# By the vendor's own name: the HTTP status it comes with, and what it says.
CODES: Mapping[str, tuple[int, str]] = {
    _MISSING: (400, "Missing parameters."),
    _INVALID: (400, "Invalid parameter."),
    _NO_KEY: (401, "The user does not exist."),
    "ERROR_USER_LOCKED": (403, "The user is locked."),
    "ERROR_AI_NOT_EXISTS": (404, "AI does not exist or has been deactivated."),
    "ERROR_RESOURCE_NOT_FOUND": (404, "Resource not found."),
    "ERROR_RESOURCE_RECLAIMED": (410, "Resource has been reclaimed."),
    "FILE_SIZE_EXCEEDS_LIMIT": (413, "File size exceeds limit."),
    "FILE_RESOLUTION_EXCEEDS_LIMITS": (413, "File resolution exceeds limits."),
    _TYPE: (415, "Unsupported file types."),
    UNDECODABLE: (422, "File decoding failed."),
    "ERROR_NO_FACE_IN_FILE": (422, "No face detected in the file."),
    "ERROR_FACE_SIZE_RATIO_NOT_MET": (422, "Face size ratio does not meet requirements."),
    "ERROR_BLURRY_FACE": (422, "Blurry face."),
    "ERROR_CONTENT_NON_COMPLIANCE": (422, "Content does not meet requirements."),
    OUT_OF_CREDITS: (429, "Insufficient credits."),
    "EXCEEDING_LIMITS": (429, "Exceeds limit."),
    "PROCESSING_FAILURE": (500, "Processing failed."),
    "AI_SERVICE_ERROR": (502, "AI service error."),
    "ERROR_INSUFFICIENT_RESOURCES": (503, "Insufficient resources."),
    "AI_SERVICE_TIMEOUT": (504, "AI service timeout."),
}
# The field `error_code_str` is going out of use, and is coarser than `error_detail.code`.
_COARSE: Mapping[str, str] = dict.fromkeys(
    ("ERROR_NO_FACE_IN_FILE", "ERROR_FACE_SIZE_RATIO_NOT_MET", "ERROR_BLURRY_FACE"), "FILE_CONTENT_NON_COMPLIANCE"
)
_REAL: Mapping[State, int] = {
    State.QUEUED: QUEUED,
    State.RUNNING: RUNNING,
    State.DONE: SUCCEEDED,
    State.FAILED: FAILED,
}
_EXTENSIONS: Mapping[str, frozenset[str]] = {
    "JPEG": frozenset({".jpg", ".jpeg"}),
    "PNG": frozenset({".png"}),
    "BMP": frozenset({".bmp"}),
}


@dataclass(frozen=True)
class Limits:
    """What one endpoint takes; each side lies between the two numbers and is neither."""

    formats: frozenset[str]
    max_bytes: int
    above: int
    below: int


RETOUCH_LIMITS = Limits(frozenset({"JPEG", "PNG"}), 3 * _MB, 32, 3000)
REFINE_LIMITS = Limits(frozenset({"JPEG", "PNG", "BMP"}), 5 * _MB, 150, 4096)
RETOUCH_CREDITS, REFINE_CREDITS = Decimal(3), Decimal(25)


@dataclass(frozen=True)
class AILabToolsSettings(Settings):
    """Times are seconds; tasks and result links live as long as each other.

    `credits`: what is left by pool; work is paid from the first. `under_data`: those of task_id, task_type,
    task_status, output and usage that stand under `data` (the SDK looks there too). `failure_as_status`: a failed
    task is a fine answer with task_status 3, and not an error. `newest`: the fields of the newest document, which has
    no error_code, error_code_str and error_msg any more. `gone`: the code for a task that is not known, or no longer.
    `credits_alone`: one pool stands in `data` by itself, as the newest document's sample has it, and not in a list.
    `query_path`, `credits_path`: where a task and what is left are asked for; read once, when the sandbox is made.
    """

    poll_seconds: float = 5.0
    result_seconds: float = 86_400.0
    credits: Mapping[str, Decimal] = field(default_factory=lambda: {"common": Decimal(2000)})
    under_data: frozenset[str] = frozenset()
    failure_as_status: bool = False
    newest: bool = False
    gone: str = "ERROR_RESOURCE_NOT_FOUND"
    credits_alone: bool = False
    query_path: str = QUERY_PATH
    credits_path: str = CREDITS_PATH


@dataclass(eq=False)
class AILabToolsTask(Task):
    secret: str = ""  # in the result link: whoever has it may fetch, nobody else can guess
    taken_at: float = 0.0  # by the monotonic clock
    questions: int = 0


def error(code: str, message: str = "", *, newest: bool = False) -> Fault:
    """The vendor's error, as a fault; `message` tells more of it."""
    return answering(_told(code, "", message, newest=newest), CODES[code][0])


class AILabToolsSandbox(Sandbox[AILabToolsSettings, AILabToolsTask]):
    """Endpoints for faults: retouch, refine, query, credits, result (a result's link).

    Words for `play`: a task_status, or a code of CODES, with which the task fails.
    """

    overrun = "AI_SERVICE_TIMEOUT"

    def __init__(
        self,
        settings: AILabToolsSettings | None = None,
        *,
        key: str = "sandbox-key",
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(settings or AILabToolsSettings(), clock=clock, seed=seed, monotonic=monotonic, sleep=sleep)
        self.key = key

    @property
    def credentials(self) -> Mapping[str, str]:
        return {"api_key": self.key}

    def route_table(self) -> Iterable[Route]:
        return (
            Route("retouch", ("POST",), RETOUCH_PATH, self._retouch),
            Route("refine", ("POST",), REFINE_PATH, self._refine),
            Route("query", ("GET",), self.settings.query_path, self._query),
            Route("credits", ("GET",), self.settings.credits_path, self._credits),
            Route("result", ("GET", "HEAD"), "/results/{secret}/{task_id}.{form:png|jpg}", self._result),
        )

    def not_found(self, error: web.HTTPException) -> web.Response:  # noqa: ARG002 - one answer to all that is unknown
        return self._refusal("ERROR_AI_NOT_EXISTS").answer

    # -- the endpoints ---------------------------------------------------------------------------------------------

    async def _retouch(self, asked: Asked) -> web.Response:
        files = await self._checked(asked, RETOUCH_LIMITS, files=("image", "style"))
        task = self._begin(asked, RETOUCH_CREDITS, lambda: _retouched(files["image"], files["style"]))
        await task.ended.wait()
        if task.state is State.FAILED:
            raise self._refusal(str(task.failure) if task.failure in CODES else "PROCESSING_FAILURE")
        return self._fine({"data": {"image_url": self._link(task)}}, request_id=task.id)

    async def _refine(self, asked: Asked) -> web.Response:
        files = await self._checked(
            asked,
            REFINE_LIMITS,
            files=("person_image", "top_garment", "coarse_image"),
            optional=("bottom_garment",),
            words={"task_type": ("async",), "gender": ("woman", "man")},
        )
        task = self._begin(asked, REFINE_CREDITS, lambda: _refined(files["coarse_image"]))
        return self._fine(self._placed({"task_type": "async", "task_id": task.id}))

    async def _query(self, asked: Asked) -> web.Response:
        self._check_key(asked)
        if asked.encoding != "none" or asked.fields.keys() - {"task_id"}:
            raise self._refusal(_INVALID, "a query has the one field task_id")
        if not asked.fields.get("task_id"):
            raise self._refusal(_MISSING, "no task_id")
        task = self.tasks.get(asked.fields["task_id"])
        if task is None or task.operation != "refine":
            raise self._refusal(self.settings.gone, "a task_id that no refinement gave")
        if self._expired(task):
            raise self._refusal(self.settings.gone, "asked for a task after its day")
        self._check_pace(asked, task)
        word = task.says(_REAL[task.state], SUCCEEDED)
        why = task.failure if word == FAILED else word
        code = why if isinstance(why, str) else ""
        if code and not self.settings.failure_as_status:
            raise self._refusal(code)
        status = FAILED if code else word
        told: dict[str, object] = {"task_status": status}
        if status == SUCCEEDED:
            told |= {"output": {"image_url": self._link(task)}, "usage": {"image_count": len(task.outputs)}}
        return self._fine(self._placed(told), code=code)

    async def _credits(self, asked: Asked) -> web.Response:
        self._check_key(asked)
        if asked.encoding != "none" or asked.fields:
            raise self._refusal(_INVALID, "query-credits has no fields")
        pools = [
            {
                "unique_sign": sign,
                "name": "Universal credits" if sign == "common" else sign,
                "balance": float(self._left(sign)),
                "total": float(total),
                "last_recharge_balance": float(total),
                "balance_warning": 0,
                "first_buy_time": int(self.clock()),
                "last_update_time": int(self.clock()),
            }
            for sign, total in self.settings.credits.items()
        ]
        return self._fine({"data": pools[0] if self.settings.credits_alone else pools})

    async def _result(self, asked: Asked) -> web.Response:
        if KEY_HEADER in asked.request.headers:
            # Result links lead to storage, which has no business with the key.
            self.breach(asked, "the API key was sent to a result link")
        found = asked.request.match_info
        task = self.tasks.get(found["task_id"])
        if task is None or task.state is not State.DONE or found["secret"] != task.secret:
            raise RefusedError(web.Response(status=404), "a result link that no task gave")
        if self._expired(task):
            raise RefusedError(web.Response(status=404), "a result was fetched after its day")
        picture = task.outputs["image"]
        return web.Response(body=picture.data, content_type=picture.content_type)

    def _check_pace(self, asked: Asked, task: AILabToolsTask) -> None:
        """Note a question beyond those that asking every so many seconds makes, or one hard on another's heels."""
        every, last = self.settings.poll_seconds, task.asked_at
        task.asked_at, task.questions = asked.at, task.questions + 1
        age = asked.at - task.taken_at
        if (task.questions - 1) * every > age + POLL_TOLERANCE:
            self.breach(asked, f"asked {task.questions} times in {age:.2f} s, the document says every {every:g} s")
        elif last is not None and asked.at - last < CLOSEST * every - POLL_TOLERANCE:
            self.breach(asked, f"asked again after {asked.at - last:.2f} s, the document says every {every:g} s")

    # -- the work --------------------------------------------------------------------------------------------------

    def _begin(self, asked: Asked, price: Decimal, work: Callable[[], Image.Image]) -> AILabToolsTask:
        if self._left(self._purse) < price:
            raise self._refusal(OUT_OF_CREDITS)
        task = AILabToolsTask(
            # As the vendor's own look: a time, a dot and an id.
            id=f"{int(self.clock() * 1000)}.{self.new_id()}",
            operation=asked.endpoint,
            created_at=self.clock(),
            script=self.next_script(),
            secret=self.new_id(),
            taken_at=asked.at,
        )
        self.tasks[task.id] = task

        async def make() -> Mapping[str, Picture]:
            outputs = await self.filtered(lambda: _made(work))
            # "Credits will be consumed for each successful API call."
            self.charged.append((task.id, price))
            return outputs

        self.spawn(self.run(task, make, _fate(task.script[-1]) if task.script else State.DONE))
        return task

    @property
    def _purse(self) -> str:
        return next(iter(self.settings.credits))

    def _left(self, pool: str) -> Decimal:
        spent = sum((credits_ for _, credits_ in self.charged), Decimal(0)) if pool == self._purse else Decimal(0)
        return self.settings.credits[pool] - spent

    def _expired(self, task: AILabToolsTask) -> bool:
        since = task.ended_at if task.ended.is_set() else task.created_at
        return self.clock() - since > self.settings.result_seconds

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check_key(self, asked: Asked) -> None:
        if asked.request.headers.get(KEY_HEADER) != self.key:
            raise self._refusal(_NO_KEY, f"no {KEY_HEADER}, or a wrong one")

    async def _checked(
        self,
        asked: Asked,
        limits: Limits,
        *,
        files: tuple[str, ...],
        optional: tuple[str, ...] = (),
        words: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Mapping[str, Upload]:
        """The key first, then every field: none unknown, none twice, none missing; then every file, by its bytes."""
        self._check_key(asked)
        allowed = words or {}
        if asked.query_names or asked.encoding != "multipart":
            raise self._refusal(_INVALID, "the fields belong into a multipart/form-data body")
        if unknown := (asked.fields.keys() - allowed.keys()) | (asked.files.keys() - {*files, *optional}):
            raise self._refusal(_INVALID, f"unknown, or of the wrong kind: {', '.join(sorted(unknown))}")
        if asked.repeated:
            raise self._refusal(_INVALID, f"given twice: {', '.join(sorted(asked.repeated))}")
        for name in (*allowed, *files):
            if name not in asked.files and not asked.fields.get(name):
                raise self._refusal(_MISSING, f"no {name}")
        for name, values in allowed.items():
            if asked.fields[name] not in values:
                raise self._refusal(_INVALID, f"{name} is {' or '.join(values)}")
        for name, file in asked.files.items():
            await self._check_file(name, file, limits)
        return asked.files

    async def _check_file(self, name: str, file: Upload, limits: Limits) -> None:
        measured = await asyncio.to_thread(pictures.measure, file.data)
        if measured.format not in limits.formats:
            raise self._refusal(_TYPE, f"{name} is no {', '.join(sorted(limits.formats))}")
        if PurePath(file.name).suffix.lower() not in _EXTENSIONS[measured.format] | {""}:
            # Seen of the vendor, though not in its documents: it goes by the name as well.
            raise self._refusal(_TYPE, f"{name} is called otherwise than it is")
        if len(file.data) > limits.max_bytes:
            raise self._refusal("FILE_SIZE_EXCEEDS_LIMIT", f"{name} over {limits.max_bytes // _MB} MB")
        sides = (measured.width, measured.height)
        if min(sides) <= limits.above or max(sides) >= limits.below:
            raise self._refusal(
                "FILE_RESOLUTION_EXCEEDS_LIMITS", f"{name} not between {limits.above} and {limits.below} pixels"
            )

    # -- answers ---------------------------------------------------------------------------------------------------

    def _link(self, task: AILabToolsTask) -> str:
        form = "jpg" if task.outputs["image"].content_type == "image/jpeg" else "png"
        return f"{self.base_url}/results/{task.secret}/{task.id}.{form}"

    def _placed(self, told: Mapping[str, object]) -> dict[str, object]:
        inner = {name: value for name, value in told.items() if name in self.settings.under_data}
        outer: dict[str, object] = {name: value for name, value in told.items() if name not in inner}
        return {**outer, "data": inner} if inner else outer

    def _fine(self, told: Mapping[str, object], *, code: str = "", request_id: str = "") -> web.Response:
        return json_answer({**_told(code, request_id or self.new_id(), fine=True, newest=self.settings.newest), **told})

    def _refusal(self, code: str, breach: str = "") -> RefusedError:
        told = _told(code, self.new_id(), breach, newest=self.settings.newest)
        return RefusedError(json_answer(told, CODES[code][0]), breach)


def _told(
    code: str, request_id: str, message: str = "", *, fine: bool = False, newest: bool = False
) -> dict[str, object]:
    """The public response fields. `error_code` is 0 beside HTTP 200, else the HTTP status."""
    status, summary = CODES[code] if code else (HTTPStatus.OK, "")
    detail: dict[str, object] = {"code": code, "code_message": summary, "message": message}
    told: dict[str, object] = {"request_id": request_id, "log_id": request_id, "error_detail": detail}
    if newest:
        return told
    number = HTTPStatus.OK if fine else status
    detail["status_code"] = int(number)
    return told | {
        "error_code": 0 if fine else int(number),
        "error_code_str": _COARSE.get(code, code),
        "error_msg": f"{summary} {message}".strip(),
    }


def _fate(last: Word) -> State | None:
    """Where a scripted task ends: 2 succeeds, 3 and every code fail, all else goes on for ever."""
    if last == SUCCEEDED:
        return State.DONE
    return State.FAILED if isinstance(last, str) or last == FAILED else None


def _retouched(image: Upload, style: Upload) -> Image.Image:
    return pictures.toned(pictures.decode(image.data), pictures.decode(style.data))


def _refined(coarse: Upload) -> Image.Image:
    return pictures.enhance(pictures.decode(coarse.data), 0.5)


def _made(work: Callable[[], Image.Image]) -> Mapping[str, Picture]:
    try:
        return {"image": pictures.encode(work(), "png")}
    except (OSError, ValueError, SyntaxError):
        raise WorkFailedError(UNDECODABLE) from None
