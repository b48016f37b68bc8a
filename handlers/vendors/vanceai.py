"""VanceAI: upload, transform, and a webhook that is only a hint (seed 002).

Every error comes as HTTP 200 with a `code`. The key is a form field, so all requests are POSTs: a GET would put it into
the URL. The credit is charged at the download, so a second `/transform` of the same upload costs nothing more.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from handlers.http import Answer, Part, Stream
from handlers.vendors import reading
from handlers.vendors.contract import (
    MAX_RESULT_BYTES,
    Accepted,
    Account,
    Credits,
    InputFile,
    InputLink,
    Pace,
    Page,
    Prepared,
    Purpose,
    Submitted,
    Task,
    TellsCreditHistory,
    Vendor,
    VendorError,
    Work,
)
from handlers.vendors.reading import Meaning
from handlers.vendors.vanceai_features import IMAGE, OPERATIONS, with_recolor_name
from handlers.vendors.vanceai_jconfig import inputs_named, jconfig
from schemas.callback import Callback, FoundOutput, Update, UpdateState, Via
from schemas.catalogue import Operation
from schemas.job import Charged, ErrorClass, Failure

# "Such as to query the status ever 2 seconds": never sooner. The document gives no rate limit.
PACE = Pace(first_poll=2.0, interval=2.0, deadline=600.0, call=30.0, blocking_call=300.0, least=2.0, watchdog=30.0)
UPLOAD_SECONDS = 120.0
PROGRESS_SECONDS = 15.0
DOWNLOAD_SECONDS = 300.0
_LONGEST_NUMBER = 9

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


class VanceAI(Vendor, TellsCreditHistory):
    """Needs the secret `api_token`. `recolor_name`: sd_recolor's config, which the document calls by two names."""

    name = "vanceai"
    operations: Mapping[str, Operation] = OPERATIONS
    announces = True
    charges_at_download = True
    resubmits_free = True

    def __init__(self, pace: Pace | None = None, recolor_name: str = "recolor") -> None:
        self.pace = pace or PACE
        self._features = with_recolor_name(recolor_name)

    async def try_credentials(self, account: Account) -> None:
        await self.credits(account)

    async def credits(self, account: Account) -> Credits:
        """How many points there are. The document gives this one as a GET, with the key in the query."""
        url = f"{_url(account, 'point')}?{urlencode(_signed(account, []))}"
        async with account.turn(Purpose.LOOK):
            with reading.told_apart():
                answer = await account.http.request("GET", url, deadline=PROGRESS_SECONDS, cut=True)
        data = _data(answer, "point", _secrets(account))
        if not data:
            raise reading.unreadable("the answer has no points: this is not VanceAI")
        total, used = reading.decimal(data.get("max_num")), reading.decimal(data.get("used_num"))
        return Credits(None if total is None or used is None else f"{total - used:f}", data)

    async def credit_history(self, account: Account, after: str | None, limit: int) -> Page:
        """In the vendor's order. The cursor keeps the first page's size, or the pages would not fit together."""
        page, size = _cursor(after) if after is not None else (1, limit)
        form = [("page", str(page)), ("limit", str(size))]
        answer = await self._post(account, Purpose.LOOK, "points/record", PROGRESS_SECONDS, form=form)
        data = _data(answer, "record", _secrets(account))
        if not isinstance(data.get("datas"), list):
            raise reading.unreadable("the answer has no list of points")
        last = reading.whole(data.get("last_page")) or page
        entries = [entry for entry in data["datas"] if isinstance(entry, Mapping)]
        return Page(entries, f"{page + 1}-{size}" if entries and page < last else None)

    async def prepare(self, account: Account, work: Work) -> Prepared:
        given = work.inputs
        if inputs_named(work.operation, work.params, given) != given.keys():
            words = "an input is named by cn_configs and not given, or given and of no use to this work"
            raise VendorError(words, ErrorClass.INPUT, "control_input", permanent=True)
        uids = {name: await self._upload(account, file) for name, file in given.items()}
        text = jconfig(work.operation, work.params, work.extra, uids, self._features)
        return Prepared({"uid": uids[IMAGE.name], "jconfig": text})

    async def _upload(self, account: Account, file: InputFile | InputLink) -> str:
        if not isinstance(file, InputFile):
            raise VendorError("VanceAI takes a file, not a link", ErrorClass.INPUT, "no_file", permanent=True)
        parts = [
            Part("api_token", account.secrets["api_token"]),
            Part("file", file.path, filename=file.filename, content_type=file.content_type),
        ]
        answer = await self._post(account, Purpose.UPLOAD, "upload", UPLOAD_SECONDS, parts=parts)
        uid = reading.identifier(_data(answer, "upload", _secrets(account)).get("uid"))
        if uid is None:
            raise reading.unreadable("the answer to the upload has no uid")
        return uid

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


def _cursor(after: str) -> tuple[int, int]:
    """Page and size, as `credit_history` gave them away."""
    page, _, size = after.partition("-")
    if not all(part.isascii() and part.isdigit() and 0 < len(part) <= _LONGEST_NUMBER for part in (page, size)):
        raise VendorError("there is no such page", ErrorClass.INPUT, "no_page", permanent=True)
    return int(page), int(size)


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
    payload = reading.said(answer, secrets)
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
    return reading.section(reading.said(answer, secrets), "data")


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
