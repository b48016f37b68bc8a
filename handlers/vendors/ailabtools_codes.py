"""How AILabTools says no: its codes' meanings. The seeds only refer to them, so they are from its public documents.

Those documents agree in a code's name (`error_detail.code`) and not in the HTTP status that it comes with: the name
decides, and the status only where the name is unknown or missing. The field `error_code_str` is the coarser, older one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.vendors import reading
from handlers.vendors.reading import Meaning
from schemas.job import ErrorClass


def _of_input(text: str) -> Meaning:
    return Meaning(ErrorClass.INPUT, text)


def _passing(text: str, error_class: ErrorClass = ErrorClass.VENDOR) -> Meaning:
    """The work failed, and may well succeed the next time."""
    return Meaning(error_class, text, permanent=False, retryable=True)


def _of_request(text: str, error_class: ErrorClass = ErrorClass.VENDOR) -> Meaning:
    """The vendor's bad day: a task that was being asked for may be well."""
    return Meaning(error_class, text, permanent=False, retryable=True, of_task=False)


def _of_account(text: str, error_class: ErrorClass = ErrorClass.AUTH) -> Meaning:
    # Credits too: an empty account may be refused every question, and the task that emptied it is paid for.
    return Meaning(error_class, text, of_task=False)


_UNFIT = _of_input("the picture's content does not suit the operation")
_PARAMETER = _of_input("a parameter is missing or wrong")
_UNSAFE = Meaning(ErrorClass.MODERATION, "the vendor's review found prohibited content")
_NO_KEY = _of_account("the vendor refuses the key")
_TROUBLE = _of_request("the vendor has trouble")

CODES: Mapping[str, Meaning] = {
    "MISSING_PARAMETERS": _PARAMETER,
    "ERROR_PARAMETERS": _PARAMETER,
    "ERROR_INVALID_PARAMETER": _PARAMETER,
    "PARAMETERS_CANNOT_EMPTY": _PARAMETER,
    "UNSUPPORTED_PARAMETER_VALUES": _PARAMETER,
    "FILE_SIZE_EXCEEDS_LIMIT": _of_input("the file is too large for the vendor"),
    "ERROR_REQUEST_BODY_TOO_LARGE": _of_input("the files are too large for the vendor"),
    "FILE_RESOLUTION_EXCEEDS_LIMITS": _of_input("the picture has too many or too few pixels for the vendor"),
    "ERROR_LOW_RESOLUTION": _of_input("the picture has too few pixels"),
    "ERROR_HIGH_RESOLUTION": _of_input("the picture has too many pixels"),
    "UNSUPPORTED_FILE_TYPES": _of_input("the vendor does not take files of this type"),
    "ERROR_UNSUPPORTED_GRAYSCALE_IMAGE": _of_input("the vendor does not take greyscale pictures"),
    "FILE_DECODING_FAILURE": _of_input("the vendor can't decode the picture"),
    "ERROR_INVALID_FILE": _of_input("the vendor finds the file invalid"),
    "ERROR_ILLEGAL_FILE": _of_input("the vendor finds the file illegal"),
    "FILE_CONTENT_NON_COMPLIANCE": _UNFIT,
    "ERROR_NO_FACE_IN_FILE": _of_input("there is no face in the picture"),
    "ERROR_FACE_SIZE_RATIO_NOT_MET": _of_input("the face is too small or too large in the picture"),
    "ERROR_BLURRY_FACE": _of_input("the face is blurred"),
    "ERROR_CONTENT_NON_COMPLIANCE": _UNSAFE,
    "ERROR_INPUT_CONTENT_NON_COMPLIANCE": _UNSAFE,
    "ERROR_OUTPUT_CONTENT_NON_COMPLIANCE": _UNSAFE,
    "ERROR_USER_NOT_EXISTS": _NO_KEY,
    "ERROR_APPLICATIONS_NOT_EXISTS": _NO_KEY,
    "ERROR_UNAUTHORIZED": _NO_KEY,
    "ERROR_USER_LOCKED": _of_account("the account is locked"),
    "ERROR_NOT_ENOUGH_CREDITS": _of_account("not enough credits", ErrorClass.CREDITS),
    "ERROR_PAYMENT_REQUIRED": _of_account("the vendor wants to be paid first", ErrorClass.CREDITS),
    # Of the address: ours is wrong, or the operation is switched off.
    "ERROR_AI_NOT_EXISTS": _of_account("the vendor does not have this operation, or not any more", ErrorClass.VENDOR),
    "EXCEEDING_LIMITS": _passing("one of the vendor's limits is exceeded"),
    "AI_SERVICE_FLOW_RESTRICTION": _of_request("too many requests", ErrorClass.RATE_LIMIT),
    "PROCESSING_FAILURE": _passing("the vendor failed while processing"),
    "AI_SERVICE_ERROR": _passing("the vendor's AI failed"),
    "AI_SERVICE_INTERNAL_ERROR": _passing("the vendor's AI failed"),
    "AI_SERVICE_UNAUTHORIZED": _passing("the vendor's AI is not available"),
    "AI_SERVICE_TIMEOUT": _passing("the vendor's AI took too long", ErrorClass.TIMEOUT),
    "ERROR_INSUFFICIENT_RESOURCES": _passing("the vendor had no resources left"),
    "UNKNOWN_ERROR": _TROUBLE,
    "SERVICE_INTERNAL_ERROR": _TROUBLE,
    "FILE_SERVICE_ERROR": _TROUBLE,
    "ERROR_GATEWAY": _TROUBLE,
}
# One name, several meanings: with 429 it is the rate, elsewhere a limit of the document's other operations.
_CODES_AT: Mapping[tuple[str, int], Meaning] = {
    ("EXCEEDING_LIMITS", 429): _of_request("too many requests", ErrorClass.RATE_LIMIT),
}
_STATUSES: Mapping[int, Meaning] = {422: _UNFIT}
# A question after a task of which the vendor knows nothing, by status: the code's name is documented nowhere.
TASK_GONE = Meaning(ErrorClass.EXPIRED, "the vendor does not know the task any more", retryable=True)
_GONE = frozenset({404, 410})
_HTTP_STATUSES = range(100, 600)
# Said before any work: a try more is no second bill.
_NEVER_BEGUN = frozenset({"ERROR_INSUFFICIENT_RESOURCES", "EXCEEDING_LIMITS", "AI_SERVICE_FLOW_RESTRICTION"})


@dataclass(frozen=True, slots=True)
class Said:
    """A no. `status` is the vendor's own where it gives one, else HTTP's. `own`: the vendor said it, and no proxy."""

    status: int
    name: str
    message: str
    own: bool

    @property
    def code(self) -> str:
        return self.name or str(self.status)

    @property
    def meaning(self) -> Meaning:
        known = _CODES_AT.get((self.name, self.status)) or CODES.get(self.name) or _STATUSES.get(self.status)
        return known or reading.by_status(self.status)

    def of_task(self) -> Meaning | None:
        """What it means for the task that was asked for; None where it says nothing of the task."""
        if not self.own:
            return None
        if self.status in _GONE and self.name not in CODES:
            return TASK_GONE
        if self.status >= 500 and self.name and self.name not in CODES:
            # A reason that no document lists, but a reason: without one it would be the vendor's bad day.
            return reading.UNLISTED
        return self.meaning if self.meaning.of_task else None

    @property
    def never_begun(self) -> bool:
        return self.meaning.permanent or self.name in _NEVER_BEGUN


def no(payload: Mapping[str, Any], status: int) -> Said | None:
    """The no that an answer is, if it is one: by HTTP's status, or by the vendor's own beside a 200."""
    number = _own_status(payload)
    if reading.fine(status) and number == 0:
        return None
    name, message = why(payload)
    # Older numbers of the vendor's own are no statuses, and say less than HTTP's.
    told = number if number in _HTTP_STATUSES or reading.fine(status) else status
    return Said(told or status, name, message, own=number != 0 or bool(name))


def _own_status(payload: Mapping[str, Any]) -> int:
    """What the vendor itself says; 0 where that is fine, or nothing. The newest document has it in the detail alone."""
    number = reading.whole(payload.get("error_code"))
    if number is None:
        number = reading.whole(reading.section(payload, "error_detail").get("status_code")) or 0
        return 0 if reading.fine(number) else number
    return number


def why(payload: Mapping[str, Any]) -> tuple[str, str]:
    """The code's name and the vendor's words for it; empty where there are none."""
    detail = reading.section(payload, "error_detail")
    names = [reading.identifier(detail.get("code")), reading.identifier(payload.get("error_code_str"))]
    name = next((known for known in names if known in CODES), None) or names[0] or names[1] or ""
    words = (reading.readable(detail.get("code_message")), reading.readable(detail.get("message")))
    return name, " ".join(filter(None, words)) or reading.readable(payload.get("error_msg"))
