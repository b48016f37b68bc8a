"""PicWish: create a task, ask until it is done, take image and mask within the hour (seed 004).

It never calls back. Create and query share two requests a second. Whether all is well stands in three places: the HTTP
status, the body's `status` and the task's `state`; only together do they mean success.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from handlers.http import Answer, Part, Stream
from handlers.vendors import reading
from handlers.vendors.contract import (
    Accepted,
    Account,
    InputLink,
    Pace,
    Prepared,
    Purpose,
    Submitted,
    Task,
    Vendor,
    VendorError,
    Window,
    Work,
)
from handlers.vendors.reading import Meaning
from schemas.callback import Callback, FoundOutput, Update, UpdateState, Via
from schemas.catalogue import InputSpec, Operation, OutputSpec, params_schema, with_defaults
from schemas.job import Charged, ErrorClass, Failure

# "Every 1-2 seconds", at a "default QPS of 2"; the vendor itself gives a task up after 180 s.
PACE = Pace(
    first_poll=1.0,
    interval=2.0,
    deadline=240.0,
    call=60.0,
    blocking_call=200.0,
    windows=(Window("account", 2, 1.0),),
    # "Every 1 to 2 seconds"; the window makes it less. Whatever it lets through is worth a question.
    least=1.0,
    patience=0.05,
)
QUERY_SECONDS = 15.0
NO_TASK = "00000000-0000-0000-0000-000000000000"
RESULT_LIVES_SECONDS = 3600

FINE, NOT_FOUND = 200, 404
STATES: Mapping[int, UpdateState] = {
    0: UpdateState.RUNNING,  # queued; the text says "> 1 is processing", its own table has 0
    1: UpdateState.SUCCEEDED,
    2: UpdateState.RUNNING,
    3: UpdateState.RUNNING,
    4: UpdateState.RUNNING,
    5: UpdateState.RUNNING,
    6: UpdateState.RUNNING,
}
FAILURES: Mapping[int, Meaning] = {
    -1: Meaning(ErrorClass.VENDOR, "processing failed"),
    -2: Meaning(ErrorClass.VENDOR, "the vendor could not store its result", retryable=True),
    -3: Meaning(ErrorClass.INPUT, "the vendor could not download the picture"),
    -5: Meaning(ErrorClass.INPUT, "the picture behind the link is too large"),
    -7: Meaning(ErrorClass.INPUT, "the picture is damaged or of the wrong format"),
    -8: Meaning(ErrorClass.TIMEOUT, "the vendor took longer than its 180 seconds", retryable=True),
    -9: Meaning(ErrorClass.VENDOR, "the vendor failed while processing", retryable=True),
    -10: Meaning(ErrorClass.MODERATION, "the vendor's review found prohibited content"),
    -11: Meaning(ErrorClass.VENDOR, "the result is empty"),
    -13: Meaning(ErrorClass.VENDOR, "the vendor canceled the task", retryable=True),
    -14: Meaning(ErrorClass.INPUT, "the picture's content does not suit the operation"),
    -15: Meaning(ErrorClass.VENDOR, "the vendor had no resources left", retryable=True),
    -16: Meaning(ErrorClass.MODERATION, "a third party's review found prohibited content"),
    -17: Meaning(ErrorClass.INPUT, "the prompt is invalid"),
}
OTHER_FAILURE = Meaning(ErrorClass.VENDOR, "processing failed for a reason that the document does not list")
NO_IMAGE = Meaning(ErrorClass.VENDOR, "the vendor reports success, but no image", retryable=True)
TASK_GONE = Meaning(ErrorClass.EXPIRED, "the vendor does not know the task any more", retryable=True)

_FLAG: Mapping[str, Any] = {"type": "integer", "enum": [0, 1], "default": 0}
_IMAGE = InputSpec(
    "image",
    ("image/jpeg", "image/bmp", "image/png", "image/webp", "image/tiff"),
    max_bytes=20_000_000,
    max_side=4096,
    takes_link=True,
)


@dataclass(frozen=True, slots=True)
class Sibling:
    """One task under `/api/tasks/visual/`; `outputs` are named as the fields that hold their links."""

    title: str
    params: Mapping[str, Any]
    outputs: tuple[OutputSpec, ...]
    public: bool = False  # from the vendor's public page of today, and from no document that we hold


# "string | number" in the document; both go out as the same form field.
_SYNC: Mapping[str, Any] = {
    "type": ["integer", "string"],
    "enum": [0, 1, "0", "1"],
    "default": 0,
    "description": "1 waits for the result within the submission itself.",
}
_CROP: Mapping[str, Any] = {**_FLAG, "description": "1 crops to the edge of what was cut out."}
_FORMAT: Mapping[str, Any] = {"enum": ["png", "jpg"], "default": "png", "description": "png is transparent."}
_MASK_ALONE = 3  # an output_type

# By the last part of the path. Adding a sibling is adding a row. `return_type` is left out: what we take is links.
SIBLINGS: Mapping[str, Sibling] = {
    "self-face-cutout": Sibling(
        title="Face cutout",
        params={"sync": _SYNC, "crop": _CROP, "output_format": _FORMAT},
        outputs=(
            OutputSpec("image", "The face or head without its background."),
            OutputSpec("mask", "The mask that it was cut out by."),
        ),
    ),
    "segmentation": Sibling(
        title="Background Removal",
        params={
            "sync": _SYNC,
            "type": {
                "enum": ["person", "object", "stamp"],
                "description": "What the foreground is; left out, the vendor finds out by itself.",
            },
            "output_type": {
                "type": "integer",
                "enum": [1, 2, _MASK_ALONE],
                "default": 2,
                "description": "1 image and mask, 2 the image, 3 the mask.",
            },
            "crop": _CROP,
            "format": _FORMAT,
            "bg_color": {
                "type": "string",
                "pattern": "^[0-9A-Fa-f]{6}$",
                "description": "The background of a jpg, as ffffff; white where it is left out.",
            },
        },
        outputs=(
            OutputSpec("image", "The subject without its background; not with output_type 3."),
            OutputSpec("mask", "The mask that it was cut out by, with output_type 1 or 3."),
        ),
        public=True,
    ),
    "scale": Sibling(
        title="Photo Enhancement",
        params={
            "sync": _SYNC,
            "type": {
                "enum": ["clean", "face"],
                "default": "clean",
                "description": "clean suits products, face portraits (up to ten in a picture).",
            },
            "scale_factor": {
                "type": "integer",
                "enum": [1, 2, 4],
                "description": "Left out, it is 4 up to 512 pixels, 2 up to 1024, and 1 beyond.",
            },
        },
        outputs=(OutputSpec("image", "The enhanced picture."),),
        public=True,
    ),
}
_OUTPUT_NAMES = tuple(dict.fromkeys(spec.name for sibling in SIBLINGS.values() for spec in sibling.outputs))
_SOURCES = ("image_url", "image_file")


def _operation(name: str, sibling: Sibling) -> Operation:
    return Operation(
        vendor="picwish",
        name=name,
        title=sibling.title,
        inputs=(_IMAGE,),
        params=params_schema(sibling.params),
        outputs=sibling.outputs,
        source=f"PicWish API document, {sibling.title} API" + (" [public]" if sibling.public else ""),
    )


class PicWish(Vendor):
    """Needs the secret `api_key`. `slugs`: what the vendor's paths call a sibling, where that is not its own name."""

    name = "picwish"
    operations: Mapping[str, Operation] = {name: _operation(name, sibling) for name, sibling in SIBLINGS.items()}

    def __init__(self, pace: Pace | None = None, slugs: Mapping[str, str] | None = None) -> None:
        self.pace = pace or PACE
        self._slugs = slugs or {}

    async def try_credentials(self, account: Account) -> None:
        """Asks for a task that never was: a refused key is told before a missing task."""
        answer = await self._query(account, Purpose.LOOK, next(iter(self.operations)), NO_TASK)
        fault = _fault(account, answer)
        if fault is not None and fault.code != str(NOT_FOUND):
            raise fault
        if "status" not in reading.said(answer, _secrets(account)):
            raise reading.unreadable("the answer has no status: this is not PicWish")

    async def prepare(self, account: Account, work: Work) -> Prepared:  # noqa: ARG002 - nothing is sent beforehand
        """Only words: the picture itself goes out with the paid call."""
        if "image" not in work.inputs or any(name in work.extra for name in _SOURCES):
            raise VendorError("give exactly one image", ErrorClass.INPUT, "one_image", permanent=True)
        params = reading.arranged(work.operation.params, with_defaults(work.operation, work.params))
        fields = {name: _field(value) for name, value in {**params, **work.extra}.items()}
        return Prepared({"operation": work.operation.name, "fields": fields})

    async def submit(self, account: Account, prepared: Prepared, reply_to: str | None, work: Work) -> Submitted:  # noqa: ARG002 - it can't call back
        fields: Mapping[str, str] = prepared.data["fields"]
        parts = [Part(name, value) for name, value in fields.items()]
        image = work.inputs["image"]
        if isinstance(image, InputLink):
            parts.append(Part("image_url", image.url))
        else:
            parts.append(Part("image_file", image.path, filename=image.filename, content_type=image.content_type))
        blocks = fields.get("sync") == "1"
        seconds = self.pace.blocking_call if blocks else self.pace.call
        url = self._url(account, work.operation.name)
        async with account.turn(Purpose.SUBMIT, blocks=blocks):
            with reading.told_apart(paid=True):
                answer = await account.http.request(
                    "POST", url, headers=_key(account), parts=parts, deadline=seconds, cut=True
                )
        return self._submitted(account, answer)

    async def ask(self, account: Account, task: Task) -> Callback:
        answer = await self._query(account, Purpose.POLL, task.prepared.data["operation"], task.id)
        callback = reading.callback(Via.POLL, answer, _secrets(account))
        update = self.read(callback, task)
        if update.raw_state is None and update.progress is None:
            raise _fault(account, answer) or reading.unreadable("the answer to the question has no state")
        return callback

    def read(self, callback: Callback, task: Task | None) -> Update:
        if callback.via is Via.WEBHOOK:
            # PicWish has no webhook: whoever sent this, it is worth a question at most.
            return Update(UpdateState.HINT)
        payload = reading.json_object(callback.body, callback.content_type)
        data = reading.section(payload, "data")
        state = reading.whole(data.get("state"))
        said = Update(
            UpdateState.RUNNING,
            raw_state=reading.identifier(data.get("state")) if state is None else str(state),
            progress=reading.percent(data.get("progress")),
            task_id=task.id if task is not None else reading.identifier(data.get("task_id")),
            raw=payload,
        )
        if state is not None and state < 0:
            return _failed(said, FAILURES.get(state, OTHER_FAILURE), str(state), Charged.NO)
        status = _status(callback.status, payload)
        if not reading.fine(status):
            return _read_status(said, status)
        if state is None or STATES.get(state) is not UpdateState.SUCCEEDED:
            return said
        links = {name: url for name in _OUTPUT_NAMES if (url := reading.link(data.get(name))) is not None}
        if _main(task) not in links:
            return _failed(said, NO_IMAGE, "no_image", Charged.UNKNOWN)
        outputs = tuple(FoundOutput(name, {"url": url}, RESULT_LIVES_SECONDS) for name, url in links.items())
        return replace(said, state=UpdateState.SUCCEEDED, outputs=outputs, charged=Charged.YES)

    def fetch(self, account: Account, source: Mapping[str, Any]) -> AbstractAsyncContextManager[Stream]:
        return reading.linked_result(account.public_http, str(source["url"]))

    async def _query(self, account: Account, purpose: Purpose, operation: str, task_id: str) -> Answer:
        url = f"{self._url(account, operation)}/{quote(task_id, safe='')}"
        async with account.turn(purpose):
            with reading.told_apart():
                return await account.http.request("GET", url, headers=_key(account), deadline=QUERY_SECONDS, cut=True)

    def _url(self, account: Account, operation: str) -> str:
        return f"{account.base_url.rstrip('/')}/api/tasks/visual/{self._slugs.get(operation, operation)}"

    def _submitted(self, account: Account, answer: Answer) -> Submitted:
        reply = reading.callback(Via.REPLY, answer, _secrets(account))
        update = self.read(reply, None)
        if update.task_id is None:
            fault = _fault(account, answer, paid=True)
            if fault is not None:
                raise fault
            if not update.final:
                raise reading.unreadable("the answer to the submission has no task_id", paid=True)
        return Submitted(update.task_id, reply if update.raw_state is not None else None)


def _key(account: Account) -> dict[str, str]:
    return {"X-API-KEY": account.secrets["api_key"]}


def _secrets(account: Account) -> tuple[str, ...]:
    return (account.secrets["api_key"],)


def _field(value: Any) -> str:
    """A form field's text; flags are numbers at this vendor."""
    if isinstance(value, bool):
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def _main(task: Task | None) -> str:
    """The result without which a success is none."""
    asked = {} if task is None else reading.section(task.prepared.data, "fields")
    return "mask" if reading.whole(asked.get("output_type")) == _MASK_ALONE else "image"


def _status(http: int | None, payload: Mapping[str, Any]) -> int:
    """The body's `status` where it says no, for HTTP may say 200 all the same; else the HTTP status."""
    own = reading.whole(payload.get("status"))
    return own if own is not None and own != FINE else http or FINE


def _is_own(payload: Mapping[str, Any]) -> bool:
    """Whether the vendor itself told a status, and not only HTTP."""
    return reading.whole(payload.get("status")) is not None


def _fault(account: Account, answer: Answer, *, paid: bool = False) -> VendorError | None:
    """The no that an answer is, if it is one."""
    payload = reading.said(answer, _secrets(account))
    status = _status(answer.status, payload)
    if reading.fine(status):
        return None
    meaning, accepted = reading.by_status(status), Accepted.NO
    if paid and 500 <= status < 600:
        # No idempotency key at this vendor: what broke after the task was made is made again, and paid again.
        accepted = Accepted.UNKNOWN
    elif paid and meaning is reading.UNLISTED and _is_own(payload):
        accepted = Accepted.UNLIKELY
    message = reading.redacted(reading.readable(payload.get("message")), _secrets(account))
    return reading.refused(meaning, status, message, answer.headers, accepted)


def _read_status(said: Update, status: int) -> Update:
    meaning = TASK_GONE if status == NOT_FOUND else reading.by_status(status)
    # A page without JSON, or an unlisted code that the body does not repeat, is some proxy's.
    stray = not said.raw or (meaning is reading.UNLISTED and not _is_own(said.raw))
    if stray or not meaning.of_task:
        return said
    failed = _failed(said, meaning, str(status), Charged.UNKNOWN)
    # Right after its making a task may not be known yet: who asks again will see.
    return replace(failed, state=UpdateState.MISSING) if meaning is TASK_GONE else failed


def _failed(said: Update, meaning: Meaning, code: str, charged: Charged) -> Update:
    message = meaning.text
    if said.raw_state is None:
        # Beside a state the vendor's message is a mere "success".
        message = reading.readable(said.raw.get("message")) or message
    return replace(
        said,
        state=UpdateState.FAILED,
        raw_state=said.raw_state or code,
        failure=Failure(meaning.error_class, code, message, meaning.retryable),
        charged=charged,
    )
