"""What comes out of a route: each status with its schema, its content type and its headers."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from service.security.keys import Role
from service.web.openapi import examples
from service.web.openapi.shapes import ref, schema_of
from service.web.openapi.told import Media, Told
from service.web.route import OpenRoute, Route

PROBLEM = "application/problem+json"
_TEXT = {"type": "string"}

HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Location": {"description": "Where it can be looked at.", "schema": {**_TEXT, "format": "uri-reference"}},
    "Preference-Applied": {"description": "The `wait` that was kept to.", "schema": _TEXT},
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "How to show who you are.", "schema": _TEXT},
    "Accept-Ranges": {"description": "Ranges of bytes can be asked for.", "schema": {**_TEXT, "const": "bytes"}},
    "Content-Range": {"description": "Which bytes these are, and of how many.", "schema": _TEXT},
    "ETag": {"description": "The SHA-256 of the bytes, in quotes.", "schema": _TEXT},
    "Cache-Control": {"description": "For how long it may be kept.", "schema": _TEXT},
    "Content-Disposition": {"description": "Inline, with a file name.", "schema": _TEXT},
    "X-Content-Type-Options": {"description": "Browsers guess nothing.", "schema": {**_TEXT, "const": "nosniff"}},
}
_WHEN: Mapping[int, str] = {
    400: "The body can't be read",
    401: "No valid key",
    403: "This key may not",
    404: "There is no such thing, or it is another project's",
    409: "It can't be done as things stand",
    410: "It was here, and is no longer kept",
    413: "The body is too large",
    415: "The body has the wrong content type",
    416: "The range lies outside",
    422: "Fields are not valid: all of them are named",
    429: "Too many",
    500: "A fault of ours",
    503: "Not now: the store, the vendor or the shop that is asked can't be reached, or every place is taken",
}
_HEADERS_OF_PROBLEMS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After?",),
    503: ("Retry-After",),
}


def problems() -> dict[str, Any]:
    """Every refusal by its status, for `components.responses`."""
    return {_name(status): _problem(status, _HEADERS_OF_PROBLEMS.get(status, ())) for status in _WHEN}


def responses(route: Route | OpenRoute, told: Told) -> dict[str, Any]:
    found: dict[int, dict[str, Any]] = {}
    for status in (route.status, *route.also):
        found[status] = _answer(status, told, route)
    for status in _problems_of(route, told):
        own = told.headers.get(status)
        found[status] = {"$ref": f"#/components/responses/{_name(status)}"} if own is None else _problem(status, own)
    for status in told.instead:
        if status not in found:
            found[status] = _answer(status, told, route)
    return {str(status): found[status] for status in sorted(found)}


def _problems_of(route: Route | OpenRoute, told: Told) -> set[int]:
    """Those that follow from the row, and those that its line tells of."""
    if not isinstance(route, Route):
        return set(told.problems)
    found = {401, 422, 500, 503, *told.problems}
    if route.role is not Role.READ:
        found.add(403)
    if "{" in route.path:
        found.add(404)
    if route.body is not None or "application/json" not in route.media:
        found |= {400, 413}
    if route.body is not None:
        found.add(415)
    return found.difference(told.never)


def _answer(status: int, told: Told, route: Route | OpenRoute) -> dict[str, Any]:
    shape, headers = told.instead.get(status, told.shape), told.headers.get(status, ())
    phrase = HTTPStatus(status).phrase
    answer: dict[str, Any] = {"description": route.summary if status == route.status else phrase}
    if headers:
        answer["headers"] = _headers(headers)
    if isinstance(shape, Media):
        answer["content"] = {media: {"schema": dict(shape.schema)} for media in shape.types}
    elif shape is not None:
        content: dict[str, Any] = {"schema": schema_of(shape)}
        example = examples.of_answer(shape, told.occasions.get(status))
        if example is not None:
            content["example"] = example
        answer["content"] = {"application/json": content}
    return answer


def _problem(status: int, headers: tuple[str, ...]) -> dict[str, Any]:
    content = {"schema": ref("Problem"), "example": examples.of_problem(status)}
    problem: dict[str, Any] = {"description": _WHEN[status], "content": {PROBLEM: content}}
    if headers:
        problem["headers"] = _headers(headers)
    return problem


def _headers(names: tuple[str, ...]) -> dict[str, Any]:
    """A name that ends in `?` is not always there."""
    return {name.rstrip("?"): {**HEADERS[name.rstrip("?")], "required": not name.endswith("?")} for name in names}


def _name(status: int) -> str:
    return f"Problem{status}"
