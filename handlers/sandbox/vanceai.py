"""VanceAI's stand-in: six endpoints, sixteen configs, a webhook (seed 002).

Every error is HTTP 200 with a `code`. The document leaves open who charges, what the webhook says and how long a result
lives: those are settings.
"""

import asyncio
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal
from urllib.parse import urlsplit

from aiohttp import web

from handlers.sandbox import pictures
from handlers.sandbox.faults import Fault, answering
from handlers.sandbox.pictures import Picture
from handlers.sandbox.requests import Asked
from handlers.sandbox.server import RefusedError, Route, Sandbox, Settings, json_answer
from handlers.sandbox.tasks import State, Task, WorkFailedError
from handlers.sandbox.vanceai_configs import CONFIGS, JconfigError, Step, read_jconfig
from handlers.sandbox.vanceai_webhook import WebhookPlan, WebhookSent, announce

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 34_000_000
_FORMS: Mapping[str, str] = {"JPEG": "jpg", "PNG": "png"}
_TOKEN = "api_token"  # noqa: S105 - the field's name
_BOTH = ("GET", "POST")

ERRORS: Mapping[int, str] = {
    10001: "Illegal Parameter",
    10010: "Internal error",
    10011: "File doesn't exist OR Invalid download link",
    10012: "Resolution or file size exceeds the limits.",
    10013: "jparam parse error",
    10014: "Job failed and exited for unexpected reason",
    30001: "Invalid API token",
    30004: "Insufficient credits",
}

_STATUS: Mapping[State, str] = {
    State.QUEUED: "waiting",
    State.RUNNING: "process",
    State.DONE: "finish",
    State.FAILED: "fatal",
}
_FATE: Mapping[object, State] = {"finish": State.DONE, "fatal": State.FAILED}


@dataclass(frozen=True)
class VanceAISettings(Settings):
    """`point_type` says what is charged: the first download (the document's text) or the job (its history knows both).

    `busy_after`: a /transform without webhook answers "busy" after so many seconds; None blocks until the job has
    ended. `recolor_names`: the document names the recolor config in two ways. Result life is documented nowhere.
    """

    poll_seconds: float = 2.0
    result_seconds: float = 86_400.0
    credits: Decimal = Decimal(500)
    point_type: Literal["download", "job"] = "download"
    busy_after: float | None = None
    recolor_names: tuple[str, ...] = ("recolor", "colorize")
    allow_http_webhooks: bool = True  # towards loopback; never towards anybody else
    webhook: WebhookPlan = field(default_factory=WebhookPlan)


@dataclass(frozen=True)
class Stored:
    """An uploaded file."""

    name: str
    data: bytes
    form: str  # jpg or png


@dataclass(eq=False)
class VanceAITask(Task):
    image_name: str = ""
    credits: Decimal = Decimal(1)
    paid: bool = False


@dataclass(frozen=True)
class Point:
    """One row of the usage history."""

    point_type: str
    job: str
    info: str
    point: Decimal
    balance: Decimal
    created_at: str


def error(code: int, msg: object = None) -> Fault:
    """The vendor's error, as a fault; `msg` may be a string or an object."""
    return answering({"code": code, "msg": ERRORS.get(code, "error") if msg is None else msg})


class VanceAISandbox(Sandbox[VanceAISettings, VanceAITask]):
    """Endpoints for faults: upload, transform, progress, download, point, record."""

    base_path = "/web_api/v1"
    secret_fields = frozenset({_TOKEN})

    def __init__(
        self,
        settings: VanceAISettings | None = None,
        *,
        key: str = "sandbox-key",
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(settings or VanceAISettings(), clock=clock, seed=seed, monotonic=monotonic, sleep=sleep)
        self.key = key
        self.webhooks: list[WebhookSent] = []
        self.points: list[Point] = []
        self._files: dict[str, Stored] = {}

    @property
    def credentials(self) -> Mapping[str, str]:
        return {"api_token": self.key}

    def route_table(self) -> Iterable[Route]:
        base = self.base_path
        return (
            Route("upload", ("POST",), f"{base}/upload", self._upload),
            Route("transform", ("POST",), f"{base}/transform", self._transform),
            Route("progress", _BOTH, f"{base}/progress", self._progress),
            Route("download", _BOTH, f"{base}/download", self._download),
            Route("point", ("GET",), f"{base}/point", self._point),
            Route("record", _BOTH, f"{base}/points/record", self._record),
        )

    async def webhook_sent(self, count: int = 1) -> WebhookSent:
        """Wait until the `count`-th webhook request has been answered, or has failed."""
        return await self.bell.until(lambda: self.webhooks[count - 1] if len(self.webhooks) >= count else None)

    # -- the six endpoints -----------------------------------------------------------------------------------------

    async def _upload(self, asked: Asked) -> web.Response:
        self._check(asked, optional=("job",), file="file", encoding="multipart")
        if asked.fields.get("job", "ai") not in ("ai", "compress"):
            raise self._refusal(10001, "job is ai or compress")
        upload = asked.files["file"]
        measured = await asyncio.to_thread(pictures.measure, upload.data)
        if measured.format not in _FORMS:
            raise self._refusal(10001, "only JPG and PNG")
        if len(upload.data) > MAX_BYTES or measured.width * measured.height > MAX_PIXELS:
            raise self._refusal(10012, "over 10 MB or 34 megapixels")
        uid = self.new_id()
        self._files[uid] = Stored(upload.name, upload.data, _FORMS[measured.format])
        # The document's own example has the name in quotes inside the string.
        told = {"uid": uid, "name": f"'{upload.name}'", "thumbnail": ""}
        return self._fine(asked, told | {"w": measured.width, "h": measured.height, "filesize": len(upload.data)})

    async def _transform(self, asked: Asked) -> web.Response:
        self._check(asked, needed=("uid", "jconfig"), optional=("webhook",))
        stored = self._stored(asked.fields["uid"])
        steps = self._steps(asked.fields["jconfig"])
        webhook = asked.fields.get("webhook")
        if webhook is not None and not self._acceptable(webhook):
            raise self._refusal(10001, "webhook must be https")
        task = VanceAITask(
            id=self.new_id(),
            operation=steps[0].name,
            created_at=self.clock(),
            script=self.next_script(),
            image_name=stored.name,
            # One download of a workflow is one download: it costs what its dearest step costs.
            credits=Decimal(max(step.config.credits for step in steps)),
        )
        if self._balance < task.credits:
            raise self._refusal(30004)
        if self.settings.point_type == "job":
            self._charge(task)
        self.tasks[task.id] = task

        async def make() -> Mapping[str, Picture]:
            return await self.filtered(lambda: _processed(stored, steps))

        fate = _FATE.get(task.script[-1]) if task.script else State.DONE
        self.spawn(self.run(task, make, fate))
        status = await self._transform_status(asked, task, webhook)
        return self._fine(asked, {"trans_id": task.id, "status": status})

    async def _progress(self, asked: Asked) -> web.Response:
        self._check(asked, needed=("trans_id",))
        task = self._task(asked)
        status = task.says(_STATUS[task.state], "finish")
        if status not in _FATE:
            self.check_pace(asked, task)
        size = len(task.outputs["image"].data) if status == "finish" else 0
        return self._fine(asked, {"status": status, "filesize": str(size)})

    async def _download(self, asked: Asked) -> web.Response:
        self._check(asked, needed=("trans_id",))
        task = self._task(asked)
        if task.state is not State.DONE:
            raise self._refusal(10011, "downloaded before the job has finished")
        if self.clock() - task.ended_at > self.settings.result_seconds:
            raise self._refusal(10011, "downloaded after the result has expired")
        if not task.paid and self._balance < task.credits:
            raise self._refusal(30004)
        self._charge(task)
        picture = task.outputs["image"]
        return web.Response(body=picture.data, content_type=picture.content_type)

    async def _point(self, asked: Asked) -> web.Response:
        self._check(asked)
        total = self.settings.credits
        return self._fine(asked, {"max_num": f"{total:.3f}", "used_num": f"{total - self._balance:.3f}"})

    async def _record(self, asked: Asked) -> web.Response:
        self._check(asked, optional=("page", "limit"))
        wanted = {"page": "1", "limit": "20"} | {k: v for k, v in asked.fields.items() if k in ("page", "limit")}
        if not all(value.isdecimal() and int(value) > 0 for value in wanted.values()):
            raise self._refusal(10001, "page and limit are numbers from 1")
        page, limit = int(wanted["page"]), int(wanted["limit"])
        newest_first = self.points[::-1]
        rows = [
            {
                "point_type": row.point_type,
                "job": row.job,
                "info": row.info,
                "point": f"{row.point:.3f}",
                "balance": f"{row.balance:.3f}",
                "created_at": row.created_at,
            }
            for row in newest_first[(page - 1) * limit : page * limit]
        ]
        last = max(1, math.ceil(len(newest_first) / limit))
        paging = {"current_page": page, "last_page": last, "per_page": limit, "total": len(newest_first)}
        return self._fine(asked, {"datas": rows, **paging})

    # -- the job ---------------------------------------------------------------------------------------------------

    async def _transform_status(self, asked: Asked, task: VanceAITask, webhook: str | None) -> str:
        if webhook is not None:
            plan = self.settings.webhook
            if plan.early:
                await self._announce(task, webhook, plan)
            elif not plan.never:
                self.spawn(self._announce_later(asked, task, webhook, plan))
            return "webhook"
        if len(task.script) > 1:
            return str(task.says("waiting", "finish"))
        try:
            async with asyncio.timeout(self.settings.busy_after):
                await task.ended.wait()
        except TimeoutError:
            return "busy"
        return _STATUS[task.state]

    async def _announce_later(self, asked: Asked, task: VanceAITask, webhook: str, plan: WebhookPlan) -> None:
        await asked.answered.wait()
        await self._announce(task, webhook, plan)

    async def _announce(self, task: VanceAITask, webhook: str, plan: WebhookPlan) -> None:
        await task.ended.wait()
        # After the news a question is welcome, however soon after the last.
        task.asked_at = None
        await announce(self.session, webhook, plan, task.id, _STATUS[task.state], self._webhook_answered)

    def _webhook_answered(self, sent: WebhookSent) -> None:
        self.webhooks.append(sent)
        self.bell.ring()

    @property
    def _balance(self) -> Decimal:
        return self.settings.credits - sum((points for _, points in self.charged), Decimal(0))

    def _charge(self, task: VanceAITask) -> None:
        """Once for each task: "Duplicate downloads won't charge credits again"."""
        if task.paid:
            return
        task.paid = True
        self.charged.append((task.id, task.credits))
        stamp = datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%d %H:%M:%S")
        name = f"{task.operation}_{task.image_name}"
        row = Point(self.settings.point_type, task.operation, name, task.credits, self._balance, stamp)
        self.points.append(row)

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check(
        self,
        asked: Asked,
        *,
        needed: Sequence[str] = (),
        optional: Sequence[str] = (),
        file: str | None = None,
        encoding: str = "urlencoded",
    ) -> None:
        """The token first, then every field: none unknown, none twice, none missing, all in the right place."""
        token = asked.fields.get(_TOKEN)
        if not token:
            raise self._refusal(30001, "no api_token", _missing(_TOKEN))
        if token != self.key:
            raise self._refusal(30001, "wrong api_token")
        if asked.request.method == "POST" and (asked.encoding != encoding or asked.query_names):
            raise self._refusal(10001, f"the fields of a POST belong into a {encoding} body")
        if asked.request.method == "GET" and asked.encoding != "none":
            raise self._refusal(10001, "a GET has no body")
        files = {file} if file else set()
        if unknown := (asked.fields.keys() - {_TOKEN, *needed, *optional}) | (asked.files.keys() - files):
            raise self._refusal(10001, f"unknown {', '.join(sorted(unknown))}")
        if asked.repeated:
            raise self._refusal(10001, f"given twice: {', '.join(sorted(asked.repeated))}")
        for name in (*needed, *files):
            if name not in asked.files and not asked.fields.get(name):
                raise self._refusal(10001, f"no {name}", _missing(name))

    def _stored(self, uid: str) -> Stored:
        if uid not in self._files:
            raise self._refusal(10011, "a uid that no upload gave")
        return self._files[uid]

    def _task(self, asked: Asked) -> VanceAITask:
        task = self.tasks.get(asked.fields["trans_id"])
        if task is None:
            raise self._refusal(10011, "a trans_id that no transform gave")
        return task

    def _steps(self, jconfig: str) -> Sequence[Step]:
        try:
            steps = read_jconfig(jconfig)
        except JconfigError as error:
            raise self._refusal(error.code, str(error)) from None
        for step in steps:
            if step.config is CONFIGS["sd_recolor"] and step.name not in self.settings.recolor_names:
                raise self._refusal(10001, "sd_recolor: name is not the one in force")
            for net in step.control_nets:
                self._stored(net.image_uid)
        return steps

    def _acceptable(self, webhook: str) -> bool:
        url = urlsplit(webhook)
        if url.scheme == "https" and url.hostname:
            return True
        return url.scheme == "http" and self.settings.allow_http_webhooks and _is_loopback(url.hostname or "")

    def _refusal(self, code: int, breach: str = "", msg: object = None) -> RefusedError:
        return RefusedError(json_answer({"code": code, "msg": ERRORS[code] if msg is None else msg}), breach)

    def _fine(self, asked: Asked, data: Mapping[str, object]) -> web.Response:
        return json_answer({"code": 200, "cscode": 200, "data": data, "ip": asked.request.remote or ""})


def _missing(name: str) -> Mapping[str, Sequence[str]]:
    return {name: [f"The {name.replace('_', ' ')} field is required."]}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _processed(stored: Stored, steps: Sequence[Step]) -> Mapping[str, Picture]:
    """All steps in their order; the format is the upload's own, png where there is transparency, or as asked for."""
    try:
        image = pictures.decode(stored.data)
    except (OSError, ValueError, SyntaxError):
        raise WorkFailedError("fatal") from None
    out: dict[str, object] = {}
    for step in steps:
        image = step.config.filter(image, step.params)
        if composed := step.out_params.get("bg_composed"):
            colour = composed["bg_color"]
            image = pictures.on_background(image, (colour["r"], colour["g"], colour["b"]))
        out |= {"quality": step.out_params["compress"]["quality"]} if "compress" in step.out_params else {}
        out |= {name: step.out_params[name] for name in ("dpi", "format") if name in step.out_params}
    form = str(out.get("format") or ("png" if "A" in image.getbands() else stored.form))
    quality, dpi = int(str(out.get("quality", 92))), int(str(out.get("dpi", 72)))
    return {"image": pictures.encode(image, form, quality=quality, dpi=dpi)}
