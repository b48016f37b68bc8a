"""What the vendor clients share: reading words that may be anything, and telling errors apart.

Every field may be missing, every number may be a string, a body may be in any encoding or no JSON at all. Nothing here
raises for what a vendor says, except the VendorError that is meant.
"""

import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, quote

from handlers.http import Answer, Http, Stream, TransportError, retry_after
from handlers.vendors.contract import MAX_RESULT_BYTES, Accepted, VendorError
from schemas.callback import Callback, Via
from schemas.job import ErrorClass

# Decoders that neither fail nor work for long on foreign bytes; others (idna, unicode_escape, …) do.
_CHARSETS = frozenset(
    {"utf-8", "utf-16", "utf-32", "us-ascii", "iso-8859-1", "windows-1252", "gbk", "gb2312", "gb18030", "big5"}
)
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.-]+)", re.IGNORECASE)
_MOST_FIELDS = 1000
_MOST_DEPTH = 6
_LONGEST_ID = 512
_LONGEST_AMOUNT = 12
_LONGEST_TYPE = 200
_LONGEST_LINK = 8192
_LONGEST_MESSAGE = 500
_LONGEST_WORDS = 64 * 1024
_BLANK = b"\xef\xbb\xbf \t\r\n"
# No picture begins so; JSON, HTML and XML do. The content type is not asked: PHP labels whatever it echoes text/html.
_BEGINS_WORDS = (b"{", b"[", b'"', b"<")


# -- errors ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a vendor's code means. `text` is for people, where the vendor gives no words of its own.

    `permanent`: another try of the same call cannot help; `retryable`: a new job can. `of_task` is False where the
    code speaks of the request, the key or the vendor's bad day, so that the task itself may still be well.
    """

    error_class: ErrorClass
    text: str
    permanent: bool = True
    retryable: bool = False
    of_task: bool = True


_SERVER = Meaning(ErrorClass.VENDOR, "the vendor has trouble", permanent=False, retryable=True, of_task=False)
UNLISTED = Meaning(
    ErrorClass.VENDOR, "the vendor gave a code that its document does not list", permanent=False, retryable=True
)

_BY_STATUS: Mapping[int, Meaning] = {
    400: Meaning(ErrorClass.INPUT, "the vendor finds a parameter missing or wrong"),
    401: Meaning(ErrorClass.AUTH, "the vendor refuses the key", of_task=False),
    402: Meaning(ErrorClass.CREDITS, "the vendor wants to be paid first", of_task=False),
    403: Meaning(ErrorClass.AUTH, "the vendor refuses the key", of_task=False),
    404: Meaning(ErrorClass.VENDOR, "the vendor knows no such address"),
    413: Meaning(ErrorClass.INPUT, "the file is too large for the vendor"),
    415: Meaning(ErrorClass.INPUT, "the vendor does not take files of this type"),
    429: Meaning(ErrorClass.RATE_LIMIT, "too many requests", permanent=False, retryable=True, of_task=False),
}

LINK_DEAD = Meaning(ErrorClass.EXPIRED, "the result's link is dead", retryable=True)
# How storages answer for a signed link that has run out.
_DEAD = frozenset({400, 401, 403, 404, 410})
_DOWNLOAD_SECONDS = 300.0
_REDIRECTS = 3

_BY_KIND: Mapping[str, Meaning] = {
    "timeout": Meaning(ErrorClass.TIMEOUT, "", permanent=False),
    "refused_address": Meaning(ErrorClass.VENDOR, ""),
    "bad_url": Meaning(ErrorClass.VENDOR, ""),
    "too_large": Meaning(ErrorClass.VENDOR, ""),
    "too_many_redirects": Meaning(ErrorClass.VENDOR, ""),
}


def by_status(status: int) -> Meaning:
    """An HTTP status, for vendors that speak in them and for answers of what stands before a vendor."""
    return _SERVER if 500 <= status < 600 else _BY_STATUS.get(status, UNLISTED)


def fine(status: int) -> bool:
    return 200 <= status < 300


def refused(
    meaning: Meaning, code: object, message: str, headers: Mapping[str, str], accepted: Accepted = Accepted.NO
) -> VendorError:
    """A vendor's no. `message` holds no secret: see `redacted`."""
    wait = None if meaning.permanent else asked_to_wait(headers)
    words = message or meaning.text
    return VendorError(
        words, meaning.error_class, str(code), meaning.permanent, accepted, wait, retryable=meaning.retryable
    )


def unreadable(what: str, *, paid: bool = False) -> VendorError:
    """An answer that is neither a yes nor a no: a paid call may have been taken in all the same."""
    return VendorError(what, code="unreadable", accepted=Accepted.UNKNOWN if paid else Accepted.NO)


def asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds. A date is measured by the answer's own Date: handlers have no clock."""
    try:
        now = parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        if any(map(str.isalpha, headers.get("Retry-After", ""))):
            return None
        now = 0.0  # seconds need none
    return retry_after(headers, round(now * 1000))


@contextmanager
def told_apart(*, paid: bool = False) -> Iterator[None]:
    """Turns a TransportError into a VendorError that says whether a paid call may have been taken in."""
    try:
        yield
    except TransportError as error:
        meaning = _BY_KIND.get(error.kind, _SERVER)
        accepted = Accepted.UNKNOWN if paid and error.sent else Accepted.NO
        fault = refused(meaning, error.kind, str(error), {}, accepted)
        fault.sent = error.sent
        raise fault from error
    except OSError as error:
        # Raised while the request was being made up: a picture of ours can't be read. Nothing was sent.
        message = f"the picture can't be read here: {error.strerror}"
        raise VendorError(message, code="unreadable_input", accepted=Accepted.NO) from error


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Vendors repeat what they were sent, our key included."""
    for secret in secrets:
        for form in filter(None, (secret, quote(secret, safe=""))):
            text = text.replace(form, "[redacted]")
    return text


def redacted_bytes(body: bytes, secrets: Iterable[str]) -> bytes:
    """The same, for a body that is to be kept; latin-1 maps every byte to itself."""
    return redacted(body.decode("latin-1"), (secret.encode().decode("latin-1") for secret in secrets)).encode("latin-1")


def callback(via: Via, answer: Answer, secrets: Sequence[str]) -> Callback:
    """What was answered, byte for byte but for our own secrets: it is kept."""
    body = redacted_bytes(answer.body, secrets)
    # A header may hold any byte, and the store takes none of the odd ones.
    content_type = answer.headers.get("Content-Type", "")[:_LONGEST_TYPE].encode("ascii", "replace").decode()
    return Callback(via, body, content_type, answer.status)


# -- words -------------------------------------------------------------------------------------------------------------


def json_object(body: bytes, content_type: str = "") -> dict[str, Any]:
    """The JSON object that a body is; empty for anything else. Strings are storable, floats finite."""
    value = _json(_decoded(body, content_type))
    return value if isinstance(value, dict) else {}


def said(answer: Answer, secrets: Sequence[str]) -> dict[str, Any]:
    """The JSON object that an answer is, without our own secrets: gone before words are cut, which would leave half."""
    return json_object(redacted_bytes(answer.body, secrets), answer.headers.get("Content-Type", ""))


def anything(body: bytes, content_type: str = "") -> Any:
    """JSON of any shape or, failing that, form fields: for bodies that no document describes."""
    text = _decoded(body, content_type)
    value = _json(text)
    if value is not None or "=" not in text:
        return value
    try:
        return {_storable(name): _storable(field) for name, field in parse_qsl(text, max_num_fields=_MOST_FIELDS)}
    except ValueError:
        return None


def section(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An inner object; also one that was sent as a JSON string, or as the only entry of a list."""
    value = payload.get(name)
    if isinstance(value, str):
        value = _json(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def link(value: Any) -> str | None:
    """A result's URL; who may follow it is for the address guard to say."""
    if not isinstance(value, str) or len(value) > _LONGEST_LINK:
        return None
    value = value.strip()
    return value if value.lower().startswith(("http://", "https://")) else None


def find(value: Any, name: str, depth: int = _MOST_DEPTH) -> str | None:
    """The first id or word under `name`, wherever it stands: nested, in a JSON string, as PHP's `data[name]`."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        value = _json(value)
    if depth == 0 or not isinstance(value, dict | list):
        return None
    if isinstance(value, dict):
        for key, inner in value.items():
            if (key == name or key.endswith(f"[{name}]")) and (word := identifier(inner)) is not None:
                return word
        value = list(value.values())
    return next((word for inner in value if (word := find(inner, name, depth - 1)) is not None), None)


def identifier(value: Any) -> str | None:
    """An id or a word, as text; None for what can't be one."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**_LONGEST_ID else ""
    if not isinstance(value, str):
        return None
    value = value.strip()
    return value if 0 < len(value) <= _LONGEST_ID else None


def whole(value: Any) -> int | None:
    """A whole number: int, float or numeric string; None for all else, fractions included."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def decimal(value: Any) -> Decimal | None:
    """An amount: what the text of a number, or a string, says to the digit. None for what no account holds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):
        return None
    exact = (
        number.is_finite()
        and abs(number.adjusted()) <= _LONGEST_AMOUNT
        and len(number.as_tuple().digits) <= 2 * _LONGEST_AMOUNT
    )
    return number if exact else None


def percent(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(min(max(number, 0.0), 100.0))


def readable(value: Any, depth: int = _MOST_DEPTH) -> str:
    """A vendor's message for people, flattened: it may be a string, an object of lists, or missing."""
    if depth == 0 or value is None:
        return ""
    if isinstance(value, dict):
        told = ((name, readable(inner, depth - 1)) for name, inner in value.items())
        return _short("; ".join(f"{name}: {text}" for name, text in told if text))
    if isinstance(value, list):
        return _short("; ".join(filter(None, (readable(inner, depth - 1) for inner in value))))
    return _short(" ".join(str(value).split())) if isinstance(value, str | float | bool) else identifier(value) or ""


def arranged(schema: Mapping[str, Any], value: Any) -> Any:
    """Checked params in their schema's order and types: JSON Schema lets 2.0 pass as an integer, vendors don't."""
    kind = schema.get("type")
    if kind == "object" and isinstance(value, Mapping):
        properties = schema["properties"]
        return {name: arranged(inner, value[name]) for name, inner in properties.items() if name in value}
    whole_only = "integer" in kind if isinstance(kind, list) else kind == "integer"
    return int(value) if whole_only and isinstance(value, float) else value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def _decoded(body: bytes, content_type: str) -> str:
    declared = _CHARSET.search(content_type)
    charset = declared.group(1).lower() if declared else ""
    if charset not in _CHARSETS:
        charset = json.detect_encoding(body)
    return body.decode(charset, "replace").removeprefix("\ufeff")


def _json(text: str) -> Any:
    try:
        return _storable(json.loads(text, parse_constant=lambda _: None, parse_float=_number))
    except (ValueError, RecursionError):
        return None


def _storable(value: Any) -> Any:
    """Without lone surrogates and NUL, which no database takes."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "")
    if isinstance(value, dict):
        return {_storable(name): _storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return value


# -- results -----------------------------------------------------------------------------------------------------------


class _Begun(Stream):
    """A stream whose first bytes were looked at; `chunks` gives them again."""

    def __init__(self, stream: Stream, head: bytes, rest: AsyncIterator[bytes]) -> None:
        self.status = stream.status
        self.headers = stream.headers
        self._head = head
        self._rest = rest

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._head
        async for chunk in self._rest:
            yield chunk


@asynccontextmanager
async def result(
    opening: AbstractAsyncContextManager[Stream], refuse: Callable[[Answer], VendorError]
) -> AsyncIterator[Stream]:
    """A result's bytes, unless they are words: an error page is never a picture. Raises VendorError, while read too."""
    with told_apart():
        async with opening as stream:
            rest = stream.chunks()
            head = await _take(rest, 1)
            start = head.lstrip(_BLANK)[:1]
            if not fine(stream.status) or not start or start in _BEGINS_WORDS:
                body = head + await _take(rest, _LONGEST_WORDS)
                raise refuse(Answer(stream.status, stream.headers, body, truncated=False, ms=0))
            yield _Begun(stream, head, rest)


def linked_result(http: Http, url: str) -> AbstractAsyncContextManager[Stream]:
    """The result behind a link into storage: no request of the API, so no turn, and no business of the key's."""
    opening = http.stream("GET", url, deadline=_DOWNLOAD_SECONDS, max_bytes=MAX_RESULT_BYTES, redirects=_REDIRECTS)
    return result(opening, _refused_link)


def _refused_link(answer: Answer) -> VendorError:
    if fine(answer.status):
        return not_a_picture(answer)
    return refused(LINK_DEAD if answer.status in _DEAD else by_status(answer.status), answer.status, "", answer.headers)


def not_a_picture(answer: Answer) -> VendorError:
    what = "words" if answer.body.lstrip(_BLANK) else "nothing"
    return VendorError(f"the vendor sent {what} instead of a picture", code="not_a_picture")


async def _take(chunks: AsyncIterator[bytes], enough: int) -> bytes:
    """Chunks until `enough` bytes that are not blank, or the end."""
    held = b""
    async for chunk in chunks:
        held += chunk
        if len(held.lstrip(_BLANK)) >= enough:
            break
    return held
