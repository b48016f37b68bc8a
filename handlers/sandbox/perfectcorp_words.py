"""What Perfect Corp says when it says no, and how it behaves on a good day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from handlers.sandbox.faults import Fault, answering
from handlers.sandbox.perfectcorp_accounts import SEED_LIMITS, Limit
from handlers.sandbox.perfectcorp_storage import HeaderForm
from handlers.sandbox.server import Settings

_HOUR, _DAY = 3600.0, 86_400.0

# Code: HTTP status, text. The seed shows no request error; InvalidTaskId, InvalidAccessToken and CreditInsufficiency
# (with its 400) are [public], the other codes are [open].
ERRORS: Mapping[str, tuple[int, str]] = {
    "invalid_parameter": (400, "Invalid parameter value"),
    "InvalidFileId": (400, "The file does not exist, has expired or was not uploaded"),
    "InvalidStyleId": (400, "The style is none of this group's"),
    "CreditInsufficiency": (400, "Not enough credits"),
    "InvalidClientId": (401, "Unknown client_id"),
    "InvalidIdToken": (401, "Invalid id_token"),
    "InvalidAccessToken": (401, "Invalid or expired access token"),
    "InvalidTaskId": (404, "The task does not exist or has timed out"),
    "NotFound": (404, "Not found"),
    "MethodNotAllowed": (405, "Method not allowed"),
    "TooManyRequests": (429, "Too Many Requests"),
    "InternalError": (500, "Internal server error"),
}

CodeField = Literal["error_code", "errorCode"]


@dataclass(frozen=True)
class PerfectCorpSettings(Settings):
    """Times are seconds. `poll_seconds` is told as `polling_interval`; `result_seconds` is how long results are kept.

    `limits`, and whether a refused request counts too (`refused_count`), are the windows; `retry_after` adds that
    header to a 429. `one_token`: a new access token ends the earlier ones. `lost_is_charged` is the newer documents'
    word. `unseen_seconds`: so long a new task is not yet known to a poll. `told_seconds`: so long a task that has told
    its end can still be asked for it. `file_size` makes the newer documents' field of the file call needed, and then
    the slots tell and want that Content-Length. `last_page`: how a list's last page says so. `request_scope`: what a
    request_id counts for; `repeat_answer`: what is said to one that was used before. `missing_file`: who finds that a
    file is not there. `credit_shape`: where the lots stand.
    """

    result_seconds: float = 30 * _DAY
    limits: Sequence[Limit] = SEED_LIMITS
    refused_count: bool = True
    retry_after: bool = False
    key_bits: int = 1024  # as in the document's sample of an id_token
    id_token_seconds: float = 300.0
    token_seconds: float = 2 * _HOUR
    one_token: bool = False
    keep_alive_seconds: float = 10.0
    lost_is_charged: bool = False
    unseen_seconds: float = 0.0
    told_seconds: float = 30 * _DAY
    link_seconds: float = 2 * _HOUR
    slot_seconds: float = 2 * _HOUR
    file_seconds: float = _DAY
    file_size: bool = False
    headers: HeaderForm = "object"
    code_field: CodeField = "error_code"
    last_page: Literal["absent", "null"] = "absent"
    request_scope: Literal["client", "file"] = "client"
    repeat_answer: Literal["task_id", "nothing"] = "task_id"
    missing_file: Literal["request", "engine"] = "request"
    credits: Decimal = Decimal(500)
    credit_shape: Literal["results", "result.results"] = "results"  # both clients that were seen read the first


def error_body(code: str, code_field: CodeField) -> dict[str, object]:
    status, text = ERRORS[code]
    return {"status": status, "error": text, code_field: code}


def error(code: str, code_field: CodeField = "error_code") -> Fault:
    """One of ERRORS, as a fault."""
    return answering(error_body(code, code_field), ERRORS[code][0])
