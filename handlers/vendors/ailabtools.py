"""AILabTools: a retouch that is answered at once, a try-on refinement that must be asked for (seeds 001 and 003).

It never calls back, and has no idempotency key: a second submission is a second bill. A yes is HTTP 200 with
`error_code` 0, or without one: the newest of its documents has left that field out.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from handlers.http import Answer, Part, Stream
from handlers.vendors import ailabtools_codes as codes
from handlers.vendors import reading
from handlers.vendors.contract import (
    Accepted,
    Account,
    Credits,
    InputFile,
    Pace,
    Prepared,
    Purpose,
    Submitted,
    Task,
    TellsCredits,
    Vendor,
    VendorError,
    Work,
)
from handlers.vendors.reading import Meaning
from schemas.callback import Callback, FoundOutput, Update, UpdateState, Via
from schemas.catalogue import InputSpec, Operation, OutputSpec, params_schema
from schemas.job import Charged, ErrorClass, Failure

# "It is recommended that asynchronous task results be queried every 5 seconds": never more often, taken over a task's
# life. What is saved while it can hardly be done is spent once it may be, a little sooner after one another; `least`
# and `patience` are the nearest to the document with which a third of the questions is saved and no end is seen later
# (tests/bench/pacing.py). No limit of rate is documented.
PACE = Pace(
    first_poll=5.0,
    interval=5.0,
    deadline=600.0,
    call=60.0,
    blocking_call=120.0,
    least=4.5,
    on_average=5.0,
    patience=0.6,
)
LOOK_SECONDS = 15.0
# The seed names the call without its address, which is from the vendor's public documents: a setting.
QUERY_PATH = "/api/common/query-async-task-result"
CREDITS_PATH = "/api/common/query-credits"
KEY_HEADER = "ailabapi-api-key"
# "Valid for 24 hours": the result's link, and what a task tells.
RESULT_LIVES_SECONDS = 24 * 3600

STATES: Mapping[int, UpdateState] = {
    0: UpdateState.RUNNING,
    1: UpdateState.RUNNING,
    2: UpdateState.SUCCEEDED,
    3: UpdateState.FAILED,  # in the vendor's own SDK, not in its documents
}
TASK_FAILED = Meaning(ErrorClass.VENDOR, "the vendor reports that the task failed", retryable=True)
NO_IMAGE = Meaning(ErrorClass.VENDOR, "the vendor reports success, but no image", retryable=True)

# The vendor goes by a file's name as well as by its bytes.
_SUFFIXES: Mapping[str, str] = {"image/jpeg": ".jpg", "image/png": ".png", "image/bmp": ".bmp"}


def _picture(name: str, *, required: bool = True) -> InputSpec:
    """Of the refinement: "no more than 5 MB", "larger than 150x150px, smaller than 4096x4096px"."""
    types = ("image/jpeg", "image/png", "image/bmp")
    return InputSpec(name, types, max_bytes=5_000_000, min_side=151, max_side=4095, required=required)


def _photo(name: str) -> InputSpec:
    """Of the retouch: "no more than 3 MB", "larger than 32x32px, smaller than 3000x3000px"."""
    return InputSpec(name, ("image/jpeg", "image/png"), max_bytes=3_000_000, min_side=33, max_side=2999)


@dataclass(frozen=True, slots=True)
class Service:
    """One of the vendor's services. `fixed` are fields that are always sent; `blocks`: its answer is the result.

    `credits` are from the vendor's public price list: the seeds name none.
    """

    title: str
    path: str
    inputs: tuple[InputSpec, ...]
    output: str
    source: str
    credits: str
    params: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    blocks: bool = False


SERVICES: Mapping[str, Service] = {
    "photo-retouching": Service(
        title="Photo Retouch",
        path="/api/image/editing/photo-retouching",
        inputs=(_photo("image"), _photo("style")),
        output="The picture in the style of the reference image.",
        source="AILabTools API document, Photo retouch; the price [public]",
        credits="3",
        blocks=True,
    ),
    "try-on-clothes-refiner": Service(
        title="Try on Clothes Refiner",
        path="/api/portrait/enhance/try-on-clothes-refiner",
        inputs=(
            _picture("person_image"),
            _picture("top_garment"),
            _picture("coarse_image"),
            _picture("bottom_garment", required=False),
        ),
        output="The refined picture of the try-on.",
        source="AILabTools API document, Try on Clothes Refiner; the price [public]",
        credits="25",
        params={"gender": {"enum": ["woman", "man"], "description": "Of the person in person_image."}},
        fixed={"task_type": "async"},
    ),
}


def _operation(name: str, service: Service) -> Operation:
    return Operation(
        vendor="ailabtools",
        name=name,
        title=service.title,
        inputs=service.inputs,
        params=params_schema(service.params, tuple(service.params)),
        outputs=(OutputSpec("image", service.output),),
        source=service.source,
        credits=service.credits,
    )


class AILabTools(Vendor, TellsCredits):
    """Needs the secret `api_key`. The paths are those that no seed gives."""

    name = "ailabtools"
    operations: Mapping[str, Operation] = {name: _operation(name, service) for name, service in SERVICES.items()}

    def __init__(
        self, pace: Pace | None = None, query_path: str = QUERY_PATH, credits_path: str = CREDITS_PATH
    ) -> None:
        self.pace = pace or PACE
        self._query_path, self._credits_path = query_path, credits_path

    async def try_credentials(self, account: Account) -> None:
        await self.credits(account)

    async def credits(self, account: Account) -> Credits:
        """The sum of all pools: universal credits, and such as only one service can use."""
        answer = await _get(account, Purpose.LOOK, self._credits_path)
        fault = _fault(account, answer)
        if fault is not None:
            raise fault
        payload = reading.said(answer, _secrets(account))
        # A list; in the newest document's sample one pool by itself.
        pools = payload.get("data")
        pools = [pools] if isinstance(pools, dict) and pools else pools
        if not isinstance(pools, list):
            raise reading.unreadable("the answer has no credits: this is not AILabTools")
        left = [reading.decimal(pool.get("balance")) if isinstance(pool, dict) else None for pool in pools]
        known = [amount for amount in left if amount is not None]
        return Credits(f"{sum(known, Decimal(0)):f}" if len(known) == len(left) else None, payload)

    async def prepare(self, account: Account, work: Work) -> Prepared:  # noqa: ARG002 - nothing is sent beforehand
        """Only words: the pictures themselves go out with the paid call."""
        own = {spec.name for spec in work.operation.inputs}
        if own & work.extra.keys():
            raise VendorError("a picture is given as an input", ErrorClass.INPUT, "picture_in_extra", permanent=True)
        if not all(isinstance(given, InputFile) for given in work.inputs.values()):
            raise VendorError("AILabTools takes files, not links", ErrorClass.INPUT, "no_file", permanent=True)
        given = {**SERVICES[work.operation.name].fixed, **work.params, **work.extra}
        return Prepared({"operation": work.operation.name, "fields": {name: _word(given[name]) for name in given}})

    async def submit(self, account: Account, prepared: Prepared, reply_to: str | None, work: Work) -> Submitted:  # noqa: ARG002 - it can't call back
        service = SERVICES[prepared.data["operation"]]
        parts = [Part(name, value) for name, value in prepared.data["fields"].items()]
        for name, image in work.inputs.items():
            assert isinstance(image, InputFile), "prepare has refused all else"
            filename = f"{name}{_SUFFIXES[image.content_type]}"
            parts.append(Part(name, image.path, filename=filename, content_type=image.content_type))
        seconds = self.pace.blocking_call if service.blocks else self.pace.call
        async with account.turn(Purpose.SUBMIT, blocks=service.blocks):
            with reading.told_apart(paid=True):
                answer = await account.http.request(
                    "POST", _url(account, service.path), headers=_key(account), parts=parts, deadline=seconds, cut=True
                )
        fault = _fault(account, answer, paid=True)
        if fault is not None:
            raise fault
        reply = reading.callback(Via.REPLY, answer, _secrets(account))
        update = self.read(reply, None)
        if not update.final and update.task_id is None:
            raise reading.unreadable("the answer to the submission has neither a result nor a task_id", paid=True)
        return Submitted(update.task_id, reply if update.final else None)

    async def ask(self, account: Account, task: Task) -> Callback:
        answer = await _get(account, Purpose.POLL, f"{self._query_path}?task_id={quote(task.id, safe='')}")
        callback = reading.callback(Via.POLL, answer, _secrets(account))
        if self.read(callback, task).raw_state is None:
            raise _fault(account, answer) or reading.unreadable("the answer to the question has no task_status")
        return callback

    def read(self, callback: Callback, task: Task | None) -> Update:
        if callback.via is Via.WEBHOOK:
            # AILabTools has no webhook: whoever sent this, it is worth a question at most.
            return Update(UpdateState.HINT)
        payload = reading.json_object(callback.body, callback.content_type)
        task_id = task.id if task is not None else reading.identifier(_told(payload, "task_id"))
        said = Update(UpdateState.RUNNING, task_id=task_id, raw=payload)
        no = codes.no(payload, callback.status or 200)
        if no is not None:
            meaning = no.of_task()
            return said if meaning is None else _refused(said, meaning, no)
        status = _told(payload, "task_status")
        number = reading.whole(status)
        if number is None and callback.via is Via.REPLY:
            return _answered(said, payload)
        said = replace(said, raw_state=reading.identifier(status) if number is None else str(number))
        state = UpdateState.RUNNING if number is None else STATES.get(number, UpdateState.RUNNING)
        if state is UpdateState.FAILED:
            name, message = codes.why(payload)
            return _failed(said, codes.CODES.get(name, TASK_FAILED), name or str(number), message, Charged.NO)
        return _succeeded(said, payload) if state is UpdateState.SUCCEEDED else said

    def fetch(self, account: Account, source: Mapping[str, Any]) -> AbstractAsyncContextManager[Stream]:
        return reading.linked_result(account.public_http, str(source["url"]))


def _url(account: Account, path: str) -> str:
    return f"{account.base_url.rstrip('/')}{path}"


def _key(account: Account) -> dict[str, str]:
    return {KEY_HEADER: account.secrets["api_key"]}


def _secrets(account: Account) -> tuple[str, ...]:
    return (account.secrets["api_key"],)


async def _get(account: Account, purpose: Purpose, path: str) -> Answer:
    async with account.turn(purpose):
        with reading.told_apart():
            return await account.http.request(
                "GET", _url(account, path), headers=_key(account), deadline=LOOK_SECONDS, cut=True
            )


def _word(value: Any) -> str:
    """A form field's text."""
    return value if isinstance(value, str) else json.dumps(value)


def _told(payload: Mapping[str, Any], name: str) -> Any:
    """A field of the answer: at its top in the documents, under `data` for the vendor's own SDK."""
    value = payload.get(name)
    return reading.section(payload, "data").get(name) if value is None else value


def _fault(account: Account, answer: Answer, *, paid: bool = False) -> VendorError | None:
    """The no that an answer is, if it is one."""
    said = codes.no(reading.said(answer, _secrets(account)), answer.status)
    if said is None:
        return None
    accepted = Accepted.NO
    if paid and not said.own and answer.status >= 500:
        # Words of a proxy, not of the vendor: what stands behind it may have done the work.
        accepted = Accepted.UNKNOWN
    elif paid and said.own and not said.never_begun:
        # The price is due for a successful call only; but the failure may have come after the work.
        accepted = Accepted.UNLIKELY
    message = reading.redacted(said.message, _secrets(account))
    return reading.refused(said.meaning, said.code, message, answer.headers, accepted)


def _answered(said: Update, payload: Mapping[str, Any]) -> Update:
    """A reply without a task's status: the result itself, or the name of a task that is to be asked for."""
    if reading.identifier(_told(payload, "task_id")) is not None or _image(payload) is None:
        return said
    # The request is the unit of work; its id is what the vendor's support asks for.
    return _succeeded(replace(said, task_id=said.task_id or reading.identifier(payload.get("request_id"))), payload)


def _image(payload: Mapping[str, Any]) -> str | None:
    """The result's link: in `output`, which may stand under `data`, or in `data` itself."""
    data = reading.section(payload, "data")
    places = (reading.section(payload, "output"), reading.section(data, "output"), data)
    return next((url for place in places if (url := reading.link(place.get("image_url"))) is not None), None)


def _succeeded(said: Update, payload: Mapping[str, Any]) -> Update:
    url = _image(payload)
    if url is None:
        return _failed(said, NO_IMAGE, "no_image", "", Charged.UNKNOWN)
    return replace(
        said,
        state=UpdateState.SUCCEEDED,
        progress=100,
        outputs=(FoundOutput("image", {"url": url}, RESULT_LIVES_SECONDS),),
        charged=Charged.YES,
    )


def _refused(said: Update, meaning: Meaning, no: codes.Said) -> Update:
    """A no that speaks of the task. Credits are taken for each successful call; what is gone may have been one."""
    if meaning is not codes.TASK_GONE:
        return _failed(said, meaning, no.code, no.message, Charged.NO)
    # Right after its making a task may not be known yet: who asks again will see.
    return replace(_failed(said, meaning, no.code, no.message, Charged.UNKNOWN), state=UpdateState.MISSING)


def _failed(said: Update, meaning: Meaning, code: str, message: str, charged: Charged) -> Update:
    return replace(
        said,
        state=UpdateState.FAILED,
        raw_state=said.raw_state or code,
        failure=Failure(meaning.error_class, code, message or meaning.text, meaning.retryable),
        charged=charged,
    )
