"""What goes into a route: its parameters by name, and its body by media type."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from handlers.vendors.contract import LARGEST_STYLE_PAGE
from schemas.endpoint import PATTERNS
from service.web.hooks import DEFAULT_SAMPLES, MOST_SAMPLES
from service.web.lists import DEFAULT_LIMIT, MAX_LIMIT, Begin
from service.web.openapi.shapes import ref
from service.web.openapi.told import Told
from service.web.query import METADATA_KEY
from service.web.route import OpenRoute, Route
from service.web.stats import DEFAULT_HOURS, MOST_HOURS
from service.web.waiting import LONGEST_SECONDS

_PARAMETER = re.compile(r"\{(\w+)\}")
_TEXT: Mapping[str, Any] = {"type": "string"}
_CURSOR: Mapping[str, Any] = {"description": "`next` of the page before.", "schema": _TEXT}
_SEQUENCE: Mapping[str, Any] = {
    "description": "A sequence number: what came after it.",
    "schema": {"type": "integer", "format": "int64", "minimum": 0, "maximum": int(Begin.NEWEST), "default": 0},
}

_STYLE_PAGE: Mapping[str, Any] = {
    "description": "How many at most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_STYLE_PAGE, "default": LARGEST_STYLE_PAGE},
}

# By name; where a name means something else at one path, by both.
_QUERY: Mapping[str, Mapping[str, Any]] = {
    "limit": {
        "description": "How many at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    },
    "after": _CURSOR,
    "/v1/vendors/{vendor}/{feature}/style-groups limit": _STYLE_PAGE,
    "/v1/vendors/{vendor}/{feature}/styles limit": _STYLE_PAGE,
    "style_group_id": {
        "description": "Only the styles of this group: its id, as the list of groups tells it.",
        "schema": {**_TEXT, "pattern": "^[0-9]{1,19}$", "examples": ["18213963761051864"]},
    },
    "/v1/events after": _SEQUENCE,
    "/v1/events/stream after": {
        "description": "A sequence number: what came after it. Without: what comes from now on.",
        "schema": {"type": "integer", "format": "int64", "minimum": 0, "maximum": int(Begin.NEWEST)},
    },
    "wait": {
        "description": "Seconds to wait for something new.",
        "schema": {"type": "integer", "minimum": 0, "maximum": LONGEST_SECONDS, "default": 0},
    },
    "/v1/jobs state": {"schema": ref("JobState")},
    "/v1/deliveries state": {"schema": ref("DeliveryState")},
    "hours": {
        "description": "How far back to look.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_HOURS, "default": DEFAULT_HOURS},
    },
    "type": {"schema": ref("EventType")},
    "operation": {"schema": {**_TEXT, "examples": ["vanceai/enlarge3"]}},
    "vendor": {"schema": {**_TEXT, "examples": ["vanceai"]}},
    # A name for each key, `?metadata.product_id=8411`, which OpenAPI can only say as an object that is exploded.
    METADATA_KEY: {
        "name": "metadata",
        "description": "Only jobs with this metadata; several must all hold.",
        "style": "form",
        "explode": True,
        "schema": {
            "type": "object",
            "propertyNames": {"pattern": r"^metadata\."},
            "additionalProperties": _TEXT,
            "examples": [{"metadata.product_id": "8411"}],
        },
    },
    "endpoint": {"description": "An endpoint's id.", "schema": _TEXT},
    "event": {"description": "An event's id.", "schema": _TEXT},
    "/v1/hooks/samples event": {
        "description": "A type of events, or a wildcard; required.",
        "schema": {**_TEXT, "enum": sorted(PATTERNS)},
        "required": True,
    },
    "/v1/hooks/samples limit": {
        "description": "How many at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_SAMPLES, "default": DEFAULT_SAMPLES},
    },
    "format": {"description": "The format of the hook.", "schema": {**ref("Format"), "default": "flat"}},
    "exp": {"description": "Of a signed link: seconds since 1970.", "schema": _TEXT},
    "sig": {"description": "Of a signed link.", "schema": _TEXT},
}
_HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Last-Event-ID": {
        "description": "The id of the last message that was heard: what came after it. It wins over `after`.",
        "schema": {**_TEXT, "pattern": "^[0-9]{1,19}$"},
    },
    "Idempotency-Key": {
        "description": "The same key and request within 24 hours is the same job.",
        "schema": {**_TEXT, "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    },
    "Prefer": {
        "description": "`wait=N`, 1 to 60 seconds: answer with the finished job, or when time is up.",
        "schema": {**_TEXT, "pattern": r"^wait=([1-9]|[1-5]\d|60)$", "examples": ["wait=30"]},
    },
    "Range": {"description": "One range of bytes.", "schema": {**_TEXT, "examples": ["bytes=0-1023"]}},
    "If-Range": {"description": "An ETag: the range only of these very bytes.", "schema": _TEXT},
    "If-None-Match": {"description": "ETags of what is known already.", "schema": _TEXT},
}
_PATH: Mapping[str, Mapping[str, Any]] = {
    "id": {"schema": {**_TEXT, "minLength": 1}},
    "vendor": {"schema": {**_TEXT, "minLength": 1, "examples": ["vanceai"]}},
    "name": {"schema": {**_TEXT, "minLength": 1, "examples": ["enlarge3"]}},
    "feature": {
        "description": "An operation's name, without its vendor.",
        "schema": {**_TEXT, "minLength": 1, "examples": ["hair-style"]},
    },
    "token": {"description": "One submission's own secret.", "schema": {**_TEXT, "minLength": 1}},
}


def parameters(route: Route | OpenRoute) -> list[dict[str, Any]]:
    """Raises KeyError for a name that nobody has described."""
    in_path = ({"name": name, "in": "path", "required": True, **_PATH[name]} for name in _PARAMETER.findall(route.path))
    in_query = (
        {"name": name, "in": "query", **(_QUERY.get(f"{route.path} {name}") or _QUERY[name])} for name in route.query
    )
    in_header = ({"name": name, "in": "header", **_HEADERS[name]} for name in route.headers)
    return [*in_path, *in_query, *in_header]


def body(route: Route | OpenRoute, told: Told) -> Mapping[str, Any] | None:
    """None where the route takes none."""
    if not isinstance(route, Route):
        return told.body
    if route.body is None and "application/json" in route.media:
        return None
    content = {media: {"schema": _body(media, route.body)} for media in route.media}
    return {"required": told.body_required, "content": content}


def _body(media: str, model: type[BaseModel] | None) -> dict[str, Any]:
    """What a body of this type holds: the model, or the parts of a form, or a file's bytes."""
    reference = {} if model is None else ref(model.__name__)
    file = {"type": "string", "contentMediaType": "image/*"}
    if media == "application/json":
        return reference
    if media != "multipart/form-data":
        return file
    if model is None:
        return {"type": "object", "required": ["file"], "properties": {"file": file}, "additionalProperties": False}
    described = "A file part per input, named as the input."
    return {
        "type": "object",
        "required": ["job"],
        "properties": {"job": reference},
        "additionalProperties": {**file, "description": described},
    }
