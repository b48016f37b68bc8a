"""What Perfect Corp's words mean: states, codes, results (seed 000). Pure, and nothing here raises.

A task that failed is told with HTTP 200 and `status: "error"`; a request that failed as `{status, error, error_code}`,
where the code outranks the status: an empty account, for one, is a 400 [public].
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from handlers.http import Answer
from handlers.vendors import reading
from handlers.vendors.contract import Accepted, VendorError
from handlers.vendors.reading import Meaning
from schemas.callback import Callback, FoundOutput, Update, UpdateState, Via
from schemas.job import Charged, ErrorClass, Failure

RESULT_LIVES_SECONDS = 2 * 3600
_LONGEST_WAIT_MS = 3_600_000

STATES: Mapping[str, UpdateState] = {
    "running": UpdateState.RUNNING,
    "success": UpdateState.SUCCEEDED,
    "error": UpdateState.FAILED,
}
# Why a task failed. The list is open.
ENGINE: Mapping[str, Meaning] = {
    "exceed_max_filesize": Meaning(ErrorClass.INPUT, "the file is too large for the vendor"),
    "invalid_parameter": Meaning(ErrorClass.INPUT, "a parameter has a value that the vendor does not take"),
    "error_download_image": Meaning(ErrorClass.VENDOR, "the vendor could not get at the picture", retryable=True),
    "error_download_mask": Meaning(ErrorClass.VENDOR, "the vendor could not get at the mask", retryable=True),
    "error_decode_image": Meaning(ErrorClass.INPUT, "the vendor can't decode the picture"),
    "error_decode_mask": Meaning(ErrorClass.INPUT, "the vendor can't decode the mask"),
    "error_nsfw_content_detected": Meaning(ErrorClass.MODERATION, "the vendor found the picture not safe for work"),
    "error_no_face": Meaning(ErrorClass.INPUT, "there is no face in the picture"),
    "error_pose": Meaning(ErrorClass.INPUT, "the vendor can't make out the pose"),
    "error_face_parsing": Meaning(ErrorClass.INPUT, "the vendor can't make out the parts of the face"),
    "error_inference": Meaning(ErrorClass.VENDOR, "the vendor failed while processing", retryable=True),
    # What it draws is different each time.
    "exceed_nsfw_retry_limits": Meaning(
        ErrorClass.MODERATION, "all that the vendor made was not safe for work", retryable=True
    ),
    "error_upload": Meaning(ErrorClass.VENDOR, "the vendor could not store its result", retryable=True),
    "error_multiple_people": Meaning(ErrorClass.INPUT, "there are several people in the picture"),
    "error_no_shoulder": Meaning(ErrorClass.INPUT, "the shoulders are not in the picture"),
    "error_large_face_angle": Meaning(ErrorClass.INPUT, "the face is turned away too far"),
    "unknown_internal_error": Meaning(ErrorClass.VENDOR, "the vendor failed for a reason of its own", retryable=True),
}
# Why a request failed [public]; what is in neither table is told by its status.
CODES: Mapping[str, Meaning] = {
    "CreditInsufficiency": Meaning(ErrorClass.CREDITS, "not enough credits", of_task=False),
    "InvalidAccessToken": Meaning(ErrorClass.AUTH, "the access token is refused", of_task=False),
    "InvalidApiKey": Meaning(ErrorClass.AUTH, "the client_id is refused", of_task=False),
    "InvalidParameters": Meaning(ErrorClass.INPUT, "a parameter is missing or wrong"),
}
NO_TASK = "InvalidTaskId"
_TOKEN_REFUSED = frozenset({"InvalidAccessToken"})
NO_RESULT = Meaning(ErrorClass.VENDOR, "the vendor reports success, but no result", retryable=True)
# How an operator can mend it, or time: no other file or parameter would change these.
_NOT_THE_FILES = frozenset({ErrorClass.AUTH, ErrorClass.CREDITS})


def said(answer: Answer) -> dict[str, Any]:
    return reading.json_object(answer.body, answer.headers.get("Content-Type", ""))


def refuses_token(answer: Answer) -> bool:
    """Whether another token could make this answer a better one."""
    payload = said(answer)
    return _code(payload) in _TOKEN_REFUSED or _status(answer.status, payload) == 401


def fault(answer: Answer, secrets: tuple[str, ...], *, paid: bool = False, reused: bool = False) -> VendorError | None:
    """The no that an answer is, if it is one.

    `reused`: the request named a file that was not uploaded for it, and that may be gone by now.
    """
    payload = reading.said(answer, secrets)
    status, code = _status(answer.status, payload), _code(payload)
    if code is None and reading.fine(status):
        return None
    meaning = _meaning(code or "", status)
    if reused and meaning.error_class not in _NOT_THE_FILES:
        meaning = replace(meaning, permanent=False)
    message = reading.redacted(reading.readable(payload.get("error")), secrets)
    # After a fault of its own the vendor may be at work; the same request_id then costs nothing more.
    accepted = Accepted.UNKNOWN if paid and 500 <= status < 600 else Accepted.NO
    return reading.refused(meaning, code or status, message, answer.headers, accepted)


def read(callback: Callback, task_id: str | None) -> Update:
    """What was said of a task; a webhook is only a hint, for this vendor has none."""
    if callback.via is Via.WEBHOOK:
        return Update(UpdateState.HINT)
    payload = reading.json_object(callback.body, callback.content_type)
    result = reading.section(payload, "result")
    state = reading.identifier(result.get("status"))
    told = Update(
        STATES.get((state or "").lower(), UpdateState.RUNNING),
        raw_state=state,
        task_id=task_id or reading.identifier(result.get("task_id")),
        ask_again_ms=_wait(result.get("polling_interval")),
        raw=payload,
    )
    if state is None:
        if _knows_no_task(callback, payload):
            return replace(told, state=UpdateState.MISSING, raw_state=NO_TASK)
        # Whatever else a request may be refused for, it says nothing of the task.
        return told
    if told.state is UpdateState.FAILED:
        code = reading.identifier(result.get("error")) or _code(payload) or "unknown"
        return _failed(told, ENGINE.get(code, reading.UNLISTED), code, Charged.NO)
    if told.state is UpdateState.SUCCEEDED:
        outputs = _outputs(result.get("results"))
        if not outputs:
            return _failed(told, NO_RESULT, "no_result", Charged.UNKNOWN)
        return replace(told, progress=100, outputs=outputs, charged=Charged.YES)
    return told


def _meaning(code: str, status: int) -> Meaning:
    if code in CODES:
        return CODES[code]
    if code in ENGINE:
        # Of a request: what a new job could mend, the same call may as well.
        return replace(ENGINE[code], permanent=not ENGINE[code].retryable)
    return reading.by_status(status)


def _code(payload: Mapping[str, Any]) -> str | None:
    """Clients have seen both spellings."""
    code = reading.identifier(payload.get("error_code")) or reading.identifier(payload.get("errorCode"))
    return None if code == "0" else code


def _status(http: int | None, payload: Mapping[str, Any]) -> int:
    """The body's `status` where it says no, for HTTP may say 200 all the same; else the HTTP status."""
    own = reading.whole(payload.get("status"))
    return own if own is not None and not reading.fine(own) else http or 200


def _knows_no_task(callback: Callback, payload: Mapping[str, Any]) -> bool:
    # A 404 that is no JSON is some proxy's, or a wrong BASE_URL's.
    return _code(payload) == NO_TASK or (bool(payload) and _status(callback.status, payload) == 404)


def _wait(value: Any) -> int | None:
    wait = reading.whole(value)
    return wait if wait is not None and 0 < wait <= _LONGEST_WAIT_MS else None


def _outputs(value: Any) -> tuple[FoundOutput, ...]:
    """Every picture of every action, by the action's id and then as the vendor ordered them."""
    actions = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    actions.sort(key=lambda entry: (reading.whole(entry.get("id")) is None, reading.whole(entry.get("id")) or 0))
    found = [source for action in actions for entry in _listed(action.get("data")) if (source := _source(entry))]
    return tuple(
        FoundOutput("image" if number == 1 else f"image_{number}", source, RESULT_LIVES_SECONDS)
        for number, source in enumerate(found, 1)
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _source(entry: Any) -> dict[str, Any] | None:
    """What `fetch` needs, and what spares an upload where this picture is the next task's input."""
    url = reading.link(entry.get("url")) if isinstance(entry, dict) else None
    if url is None:
        return None
    dst_id = reading.identifier(entry.get("dst_id"))
    return {"url": url} if dst_id is None else {"url": url, "dst_id": dst_id}


def _failed(told: Update, meaning: Meaning, code: str, charged: Charged) -> Update:
    failure = Failure(meaning.error_class, code, meaning.text, meaning.retryable)
    return replace(told, state=UpdateState.FAILED, failure=failure, charged=charged)
