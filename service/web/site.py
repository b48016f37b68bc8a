"""What the web's handlers are given, and how a request becomes typed values or a problem."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from handlers.destinations.contract import Destinations
from schemas.problem import FieldError, Problem, invalid
from service.clock import Clock
from service.config import reason_of
from service.lookups import Lookups
from service.pipeline.accept import Accept
from service.pipeline.core import Core
from service.pipeline.deliver import Deliver
from service.pipeline.replay import Replays
from service.pipeline.streams import Streams
from service.security import keys as security_keys
from service.security.cursors import Cursors
from service.security.egress import Guard
from service.security.keys import Role
from service.store import keys
from service.store.keys import Principal
from service.vendors import Vendors
from service.web.following import Following
from service.web.places import Places
from service.web.waiting import Waiting

M = TypeVar("M", bound=BaseModel)

MAX_JSON_BYTES = 1024 * 1024
# No real request comes near it, and nothing behind us (validation, schemas, the store) may run out of stack.
MAX_JSON_DEPTH = 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Site:
    """Made once by the composition root; `request.app.state.site` everywhere."""

    core: Core
    accept: Accept
    deliver: Deliver
    replays: Replays
    destinations: Destinations
    vendors: Vendors
    guard: Guard
    cursors: Cursors
    waiting: Waiting
    following: Following
    places: Places
    streams: Streams
    lookups: Lookups
    called_back: bool  # can vendors call us?
    max_upload_bytes: int
    metrics_token: str | None
    alive: Mapping[str, Any]  # name → something with `.alive`, for /readyz

    @property
    def clock(self) -> Clock:
        return self.core.clock


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


class Answer(JSONResponse):
    """JSON, UTF-8, without escapes for people's languages."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        # A problem may name a part of a form whose strange charset decoded to half a character.
        return text.encode(errors="replace")


# --- who is asking ---------------------------------------------------------------------------------------------------


async def authenticate(request: Request, needed: Role) -> Principal:
    """The key's principal. Raises Problem 401 where there is none, 403 where its role does not reach."""
    who = await principal(request)
    if who is None:
        raise Problem(
            401,
            "unauthenticated",
            "Send a valid API key: Authorization: Bearer wp_…",
            headers={"WWW-Authenticate": 'Bearer realm="wirephoto"'},
        )
    if not security_keys.may(who.role, needed):
        raise Problem(403, "forbidden", f"This needs a key of role {needed}; this key's role is {who.role}.")
    return who


async def principal(request: Request) -> Principal | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key.startswith(security_keys.PREFIX) or len(key) > 200:
        return None
    key_hash = security_keys.hash_of(key)
    who = await site_of(request).core.db.read(keys.by_hash, key_hash)
    return who if who is not None and security_keys.same(who.hash, key_hash) else None


# --- bodies ----------------------------------------------------------------------------------------------------------


async def read_capped(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes. Raises Problem 413 before more than that is kept."""
    refuse_by_length(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def refuse_by_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Problem:
    # The rest of the body is still on its way: the connection can't be used again.
    return Problem(413, "too_large", f"The body is larger than {limit} bytes.", headers={"Connection": "close"})


async def read_model(request: Request, model: type[M], *, optional: bool = False) -> M:
    """The JSON body as `model`. Raises Problem 415, 413, 400 (no JSON) or 422 with every faulty field."""
    body = await read_capped(request, MAX_JSON_BYTES)
    if optional and not body.strip():
        return model()
    return validated(_json_of(request, body), model)


async def read_json(request: Request) -> Any:
    """The JSON body, of whatever form. Raises Problem 415, 413 or 400."""
    return _json_of(request, await read_capped(request, MAX_JSON_BYTES))


def _json_of(request: Request, body: bytes) -> Any:
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise Problem(415, "unsupported_type", f"Send application/json, not {content_type}.")
    return parse_json(body)


def parse_json(body: bytes | str) -> Any:
    """Any JSON value that the rest of the service can hold and say again. Raises Problem 400."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise Problem(400, "bad_json", "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise Problem(
            400, "bad_json", f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except (RecursionError, ValueError):
        raise Problem(
            400, "bad_json", "The body is not JSON that can be read: too deep, or a number out of range."
        ) from None
    if _too_deep(value):
        raise Problem(400, "bad_json", f"The body is nested more than {MAX_JSON_DEPTH} levels deep.")
    if _SURROGATE.search(text):
        # Half of a surrogate pair, which JSON can write and UTF-8 can't; whole pairs are fine.
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Problem(400, "bad_json", "The body holds half of a surrogate pair, which is no text.") from None
    return value


def validated(value: Any, model: type[M]) -> M:
    """Raises Problem 422 with every faulty field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(field_errors(error)) from None


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for entry in level
            if isinstance(entry, dict | list)
            for inner in (entry.values() if isinstance(entry, dict) else entry)
        ]
        if not level:
            return False
    return True


def field_errors(error: ValidationError, *, under: tuple[str, ...] = ()) -> list[FieldError]:
    """Every fault by its dotted path, from `under` on. What was sent is not repeated: it may be a secret."""
    return [
        FieldError(".".join(map(str, (*under, *fault["loc"]))) or "body", reason_of(fault["type"], fault["msg"]))
        for fault in error.errors(include_url=False, include_input=False)
    ]


# --- addresses --------------------------------------------------------------------------------------------------------


def must_be_public(guard: Guard, url: str, field: str) -> None:
    """Refuse at once what the address guard would refuse later, where the URL alone tells."""
    try:
        guard.judge_url(url)
    except ValueError as error:
        raise invalid([FieldError(field, str(error))]) from None
