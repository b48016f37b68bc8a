"""VanceAI: upload, transform, and a webhook that is only a hint (seed 002).

Every error comes as HTTP 200 with a `code`. The key is a form field, so all requests are POSTs: a GET would put it into
the URL. The credit is charged at the download, so a second `/transform` of the same upload costs nothing more.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from handlers.http import Answer, Part, Stream
from handlers.vendors import reading
from handlers.vendors.contract import (
    MAX_RESULT_BYTES,
    Accepted,
    Account,
    InputFile,
    Pace,
    Prepared,
    Purpose,
    Submitted,
    Task,
    Vendor,
    VendorError,
    Work,
)
from handlers.vendors.reading import Meaning
from schemas.callback import Callback, FoundOutput, Update, UpdateState, Via
from schemas.catalogue import MEGAPIXEL, InputSpec, Operation, OutputSpec, params_schema, with_defaults
from schemas.job import Charged, ErrorClass, Failure

# "Such as to query the status ever 2 seconds"; the document gives no rate limit.
PACE = Pace(first_poll=2.0, interval=2.0, deadline=600.0, call=30.0, blocking_call=300.0, watchdog=30.0)
UPLOAD_SECONDS = 120.0
PROGRESS_SECONDS = 15.0
DOWNLOAD_SECONDS = 300.0

FINE = 200
TOO_MANY = 429
CODES: Mapping[int, Meaning] = {
    10001: Meaning(ErrorClass.INPUT, "a parameter is wrong"),
    10010: Meaning(ErrorClass.VENDOR, "internal error", permanent=False, retryable=True, of_task=False),
    10011: Meaning(ErrorClass.EXPIRED, "the result is gone", retryable=True),
    10012: Meaning(ErrorClass.INPUT, "the picture is too large"),
    10013: Meaning(ErrorClass.INPUT, "jconfig can't be read"),
    10014: Meaning(ErrorClass.VENDOR, "the job failed", retryable=True),
    30001: Meaning(ErrorClass.AUTH, "the api_token is refused", of_task=False),
    30004: Meaning(ErrorClass.CREDITS, "not enough credits", of_task=False),
}
# 10011 means "file doesn't exist" as well as "invalid download link": what is missing depends on what was asked for.
CODES_AT: Mapping[tuple[str, int], Meaning] = {
    ("upload", 10011): Meaning(ErrorClass.INPUT, "no file arrived"),
    # The upload has died meanwhile: the job can be prepared anew, so this is not the end.
    ("transform", 10011): Meaning(ErrorClass.VENDOR, "the uploaded file is gone", permanent=False, retryable=True),
}
FATAL = Meaning(ErrorClass.VENDOR, "the job failed at the vendor", retryable=True)

STATES: Mapping[str, UpdateState] = {
    "finish": UpdateState.SUCCEEDED,
    "fatal": UpdateState.FAILED,
    "waiting": UpdateState.RUNNING,
    "wait": UpdateState.RUNNING,  # in public clients, not in the document
    "process": UpdateState.RUNNING,
    "webhook": UpdateState.RUNNING,
    "busy": UpdateState.RUNNING,
}
# Which endpoint gave the answer that a callback holds.
_ENDPOINTS: Mapping[Via, str] = {Via.POLL: "progress", Via.REPLY: "transform"}


def _whole(low: int, high: int, default: int | None = None, **more: Any) -> dict[str, Any]:
    return _ranged("integer", low, high, default) | more


def _ranged(kind: str, low: float, high: float, default: float | None) -> dict[str, Any]:
    schema = {"type": kind, "minimum": low, "maximum": high}
    return schema if default is None else schema | {"default": default}


def _switch(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


_COLOUR = params_schema({"r": _whole(0, 255), "g": _whole(0, 255), "b": _whole(0, 255)}, ("r", "g", "b"))
OUT_PARAMS = params_schema(
    {
        "compress": params_schema({"quality": _whole(0, 100, description="Higher compresses less.")}, ("quality",)),
        "dpi": _whole(0, 2000, description="300 or 350 suits print."),
        "format": {"enum": ["jpg", "png"]},
        "bg_composed": params_schema({"bg_color": _COLOUR}, ("bg_color",)),
    }
)


@dataclass(frozen=True, slots=True)
class Feature:
    """One config of the document; `params` stand in the order of its example, for jconfig is byte-stable.

    `model` is the model_name, or how it follows from the params. `automatic` names the switches that let the vendor
    choose, each with the params it would override.
    """

    title: str
    name: str
    module: str
    model: str | Callable[[Mapping[str, Any]], str]
    params: Mapping[str, Any] = field(default_factory=dict)
    automatic: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    credits: str = "1.000"
    key: str = "name"  # `job` in two configs of the document


_AUTO = "Lets the vendor choose; on unless one of the params that it overrides is given."
_STRENGTHS = ("remove_blur", "suppress_noise", "remove_artifacts")

FEATURES: Mapping[str, Feature] = {
    "enlarge3": Feature(
        title="AI Image Enlarger",
        name="enlarge3",
        module="enlarge3",
        # "When using 2x, the scale value must be 2, and when using 4x, the scale value can be 4, 6 or 8."
        model=lambda params: f"EnlargeStandard_{2 if params['scale'] == 2 else 4}x_Stable",
        params={
            "suppress_noise": _whole(0, 100, 40),
            "remove_blur": _whole(0, 100, 60),
            "scale": {"type": "integer", "enum": [2, 4, 6, 8], "default": 2},
        },
    ),
    "denoise": Feature(
        title="AI Image Denoiser",
        name="denoise",
        module="denoise",
        model="DenoiseStable",
        params={"auto_params": _switch(_AUTO), "remove_noise": _whole(0, 100, 75), "sharpen": _whole(0, 100, 75)},
        automatic={"auto_params": ("remove_noise", "sharpen")},
    ),
    "sharpen3": Feature(
        title="AI Image Sharpener",
        name="va_sharpen_standard",
        module="sharpen3",
        model="SharpenGeneralStable",
        params={
            # In the document's workflow example (1), in none of its tables: passed through.
            "blur_type": {
                "type": "integer",
                "minimum": 0,
                "description": "Passed through; the document does not explain it.",
            },
            **{name: _ranged("number", 0, 1, 0.5) for name in _STRENGTHS},
            "autoparams": _switch(_AUTO),
            "automodel": _switch("Lets the vendor choose the model; on by default."),
        },
        automatic={"autoparams": _STRENGTHS, "automodel": ()},
        credits="2.000",
    ),
    "matting": Feature(title="AI Background Remover", name="matting", module="matting", model="MattingStable"),
}

_IMAGE = InputSpec("image", ("image/jpeg", "image/png"), max_bytes=10_000_000, max_pixels=34 * MEGAPIXEL)


def _operation(name: str, feature: Feature) -> Operation:
    return Operation(
        vendor="vanceai",
        name=name,
        title=feature.title,
        inputs=(_IMAGE,),
        params=params_schema({**feature.params, "out_params": OUT_PARAMS}),
        outputs=(OutputSpec("image", "The finished picture."),),
        source=f"VanceAI API document, config file “{feature.title}”",
        credits=feature.credits,
    )


def jconfig(operation: Operation, params: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    """The config file as text: the same job always gives the same bytes. `extra` goes on top of module_params."""
    feature = FEATURES[operation.name]
    chosen = {name: not any(rival in params for rival in rivals) for name, rivals in feature.automatic.items()}
    filled = reading.arranged(operation.params, with_defaults(operation, {**chosen, **params}))
    out_params = filled.pop("out_params", None)
    model = feature.model if isinstance(feature.model, str) else feature.model(filled)
    config = {"module": feature.module, "module_params": {"model_name": model, **filled, **extra}}
    if out_params is not None:
        config["out_params"] = out_params
    return json.dumps({feature.key: feature.name, "config": config}, separators=(",", ":"))


class VanceAI(Vendor):
    """Needs the secret `api_token`."""

    name = "vanceai"
    operations: Mapping[str, Operation] = {name: _operation(name, feature) for name, feature in FEATURES.items()}
    announces = True
    charges_at_download = True
    resubmits_free = True

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or PACE

    async def try_credentials(self, account: Account) -> None:
        """How many points there are. The document gives this one as a GET, with the key in the query."""
        url = f"{_url(account, 'point')}?{urlencode(_signed(account, []))}"
        async with account.turn(Purpose.LOOK):
            with reading.told_apart():
                answer = await account.http.request("GET", url, deadline=PROGRESS_SECONDS, cut=True)
        if not _data(answer, "point", _secrets(account)):
            raise reading.unreadable("the answer has no points: this is not VanceAI")

    async def prepare(self, account: Account, work: Work) -> Prepared:
        image = work.inputs.get("image")
        if not isinstance(image, InputFile):
            raise VendorError("VanceAI takes a file, not a link", ErrorClass.INPUT, "no_file", permanent=True)
        parts = [
            Part("api_token", account.secrets["api_token"]),
            Part("file", image.path, filename=image.filename, content_type=image.content_type),
        ]
        answer = await self._post(account, Purpose.UPLOAD, "upload", UPLOAD_SECONDS, parts=parts)
        uid = reading.identifier(_data(answer, "upload", _secrets(account)).get("uid"))
        if uid is None:
            raise reading.unreadable("the answer to the upload has no uid")
        return Prepared({"uid": uid, "jconfig": jconfig(work.operation, work.params, work.extra)})

    async def submit(self, account: Account, prepared: Prepared, reply_to: str | None, work: Work) -> Submitted:  # noqa: ARG002 - all that counts was prepared
        form = [("uid", str(prepared.data["uid"])), ("jconfig", str(prepared.data["jconfig"]))]
        if reply_to is not None:
            form.append(("webhook", reply_to))
        # Without a webhook this call blocks until the picture is done. A made-up webhook would spare the wait, and
        # tell a stranger of the job.
        seconds = self.pace.blocking_call if reply_to is None else self.pace.call
        answer = await self._post(
            account, Purpose.SUBMIT, "transform", seconds, form=form, paid=True, blocks=reply_to is None
        )
        secrets = _secrets(account, reply_to)
        trans_id = reading.identifier(_data(answer, "transform", secrets, paid=True).get("trans_id"))
        reply = reading.callback(Via.REPLY, answer, secrets)
        update = self.read(reply, None)
        if trans_id is None and update.state is not UpdateState.FAILED:
            raise reading.unreadable("the answer to the submission has no trans_id", paid=True)
        return Submitted(trans_id, reply if reply_to is None or update.final else None)

    async def ask(self, account: Account, task: Task) -> Callback:
        answer = await self._post(account, Purpose.POLL, "progress", PROGRESS_SECONDS, form=[("trans_id", task.id)])
        secrets = _secrets(account)
        callback = reading.callback(Via.POLL, answer, secrets)
        if self.read(callback, task).raw_state is None:
            fault = _fault(answer, "progress", secrets)
            raise fault or reading.unreadable("the answer to the question has no status")
        return callback

    def read(self, callback: Callback, task: Task | None) -> Update:
        """A webhook's body is unsigned and undocumented: whatever it says, the vendor must be asked."""
        if callback.via is Via.WEBHOOK:
            words = reading.anything(callback.body, callback.content_type)
            told, status = reading.find(words, "trans_id"), reading.find(words, "status")
            return Update(UpdateState.HINT, raw_state=status, task_id=told)
        payload = reading.json_object(callback.body, callback.content_type)
        data = reading.section(payload, "data")
        task_id = task.id if task is not None else reading.identifier(data.get("trans_id"))
        code = reading.whole(payload.get("code"))
        if code is not None and code != FINE:
            return _read_code(code, _ENDPOINTS[callback.via], payload, task_id)
        status = reading.identifier(data.get("status"))
        state = STATES.get((status or "").lower(), UpdateState.RUNNING)
        if state is UpdateState.FAILED:
            return _failed(FATAL, str(status), payload, task_id)
        if state is UpdateState.SUCCEEDED and task_id is not None:
            return Update(
                state,
                raw_state=status,
                progress=100,
                task_id=task_id,
                outputs=(FoundOutput("image", {"trans_id": task_id}),),
                charged=Charged.YES,  # not yet, but by the download that comes next
                raw=payload,
            )
        return Update(UpdateState.RUNNING, raw_state=status, task_id=task_id, raw=payload)

    @asynccontextmanager
    async def fetch(self, account: Account, source: Mapping[str, Any]) -> AsyncIterator[Stream]:
        """The download that costs the credit; again, it is free."""

        def refuse(answer: Answer) -> VendorError:
            return _fault(answer, "download", _secrets(account)) or reading.not_a_picture(answer)

        async with account.turn(Purpose.FETCH):
            opening = account.http.stream(
                "POST",
                _url(account, "download"),
                form=_signed(account, [("trans_id", str(source["trans_id"]))]),
                deadline=DOWNLOAD_SECONDS,
                max_bytes=MAX_RESULT_BYTES,
            )
            async with reading.result(opening, refuse) as stream:
                yield stream

    async def _post(
        self,
        account: Account,
        purpose: Purpose,
        endpoint: str,
        seconds: float,
        *,
        form: Sequence[tuple[str, str]] | None = None,
        parts: Sequence[Part] | None = None,
        paid: bool = False,
        blocks: bool = False,
    ) -> Answer:
        fields = None if form is None else _signed(account, form)
        url = _url(account, endpoint)
        async with account.turn(purpose, blocks=blocks):
            with reading.told_apart(paid=paid):
                # `cut`: an overlong error page is an unreadable answer, not a broken exchange.
                return await account.http.request("POST", url, form=fields, parts=parts, deadline=seconds, cut=True)


def _url(account: Account, endpoint: str) -> str:
    return f"{account.base_url.rstrip('/')}/{endpoint}"


def _signed(account: Account, form: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("api_token", account.secrets["api_token"]), *form]


def _secrets(account: Account, reply_to: str | None = None) -> tuple[str, ...]:
    """What an answer may repeat: our key, and the last part of the callback URL, which lets anybody call us."""
    return (account.secrets["api_token"], *([] if reply_to is None else [reply_to.rsplit("/", 1)[-1]]))


def _meaning(code: int, endpoint: str) -> Meaning:
    # A framework's own faults come as HTTP statuses in `code`.
    return CODES_AT.get((endpoint, code)) or CODES.get(code) or reading.by_status(code)


def _fault(answer: Answer, endpoint: str, secrets: tuple[str, ...], *, paid: bool = False) -> VendorError | None:
    """The no that an answer is, if it is one."""
    payload = reading.json_object(answer.body, answer.headers.get("Content-Type", ""))
    code = reading.whole(payload.get("code"))
    if code == FINE or (code is None and reading.fine(answer.status)):
        return None
    if code is not None:
        message = reading.redacted(reading.readable(payload.get("msg")), secrets)
        meaning = _meaning(code, endpoint)
        # The document charges the download; the usage history also knows jobs. A fault may come after the work.
        began = paid and not meaning.permanent and (endpoint, code) not in CODES_AT and code != TOO_MANY
        accepted = Accepted.UNLIKELY if began else Accepted.NO
        return reading.refused(meaning, code, message, answer.headers, accepted)
    # Words of a proxy, not of the vendor: what stands behind it may have done the work.
    accepted = Accepted.UNKNOWN if paid and answer.status >= 500 else Accepted.NO
    return reading.refused(reading.by_status(answer.status), answer.status, "", answer.headers, accepted)


def _data(answer: Answer, endpoint: str, secrets: tuple[str, ...], *, paid: bool = False) -> Mapping[str, Any]:
    """What the vendor tells; empty where it can't be read. Raises VendorError where it says no."""
    fault = _fault(answer, endpoint, secrets, paid=paid)
    if fault is not None:
        raise fault
    return reading.section(reading.json_object(answer.body, answer.headers.get("Content-Type", "")), "data")


def _read_code(code: int, endpoint: str, payload: Mapping[str, Any], task_id: str | None) -> Update:
    meaning = _meaning(code, endpoint)
    if meaning.of_task:
        return _failed(meaning, str(code), payload, task_id)
    return Update(UpdateState.RUNNING, task_id=task_id, raw=payload)


def _failed(meaning: Meaning, code: str, payload: Mapping[str, Any], task_id: str | None) -> Update:
    message = reading.readable(payload.get("msg")) or meaning.text
    return Update(
        UpdateState.FAILED,
        raw_state=code,
        task_id=task_id,
        failure=Failure(meaning.error_class, code, message, meaning.retryable),
        charged=Charged.NO,  # what is never downloaded is never charged
        raw=payload,
    )
