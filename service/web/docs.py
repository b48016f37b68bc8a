"""The description of the API: `/openapi.json` for programs, `/docs` for people, both from the one route table."""

import json
import re
from functools import cache
from html import escape
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from schemas.endpoint import EndpointPatch, EndpointRequest
from schemas.job import JobRequest
from service.web.projects import KeyRequest, ProjectRequest
from service.web.site import Answer

VERSION = "1"
_MODELS = (JobRequest, EndpointRequest, EndpointPatch, ProjectRequest, KeyRequest)
_PARAMETER = re.compile(r"\{(\w+)\}")
_INTEGERS = frozenset({"limit", "exp", "wait"})

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457; all faulty fields at once.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "reason"],
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
        "oldest": {
            "type": "integer",
            "description": "With `events_gone` (410): the log of events begins here. Those between were retained for "
            "EVENT_RETENTION_DAYS and are gone; read on with `after` one less.",
        },
    },
}


@cache
def openapi() -> dict[str, Any]:
    """OpenAPI 3.1, made once."""
    from service.web.routes import ROUTES, Route

    _, definitions = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, keyed=isinstance(route, Route))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wirephoto",
            "version": VERSION,
            "summary": "Image-AI jobs: submit once, receive one signed event.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key, wp_…"}},
            "schemas": {**definitions["$defs"], "Problem": _PROBLEM},
        },
    }


def _operation(route: Any, *, keyed: bool) -> dict[str, Any]:
    ok: dict[str, Any] = {"description": route.summary}
    if route.status != 204:
        ok["content"] = {"application/json": {"schema": {"type": "object"}}}
    problem = {
        "description": "What is wrong",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    operation: dict[str, Any] = {
        "operationId": f"{route.handler.__module__.rsplit('.', 1)[-1]}_{route.handler.__name__}_{route.method.lower()}",
        "summary": route.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
              for name in _PARAMETER.findall(route.path)),
            *({"name": name, "in": "query", "schema": {"type": "integer" if name in _INTEGERS else "string"}}
              for name in route.query),
            *({"name": name, "in": "header", "schema": {"type": "string"}} for name in route.headers),
        ],
        "responses": {**{str(status): ok for status in (route.status, *route.also)}, "default": problem},
    }  # fmt: skip
    if keyed:
        operation["description"] = f"Needs a key of role {route.role}."
        content = {media: {"schema": _body(media, route.body)} for media in route.media}
        if route.body is not None or "application/json" not in content:
            operation["requestBody"] = {"required": True, "content": content}
    else:
        operation["security"] = []
    return operation


def _body(media: str, model: type[BaseModel] | None) -> dict[str, Any]:
    """What a body of this type holds: the model, or the parts of a form, or a file's bytes."""
    reference = {} if model is None else {"$ref": f"#/components/schemas/{model.__name__}"}
    file = {"type": "string", "contentMediaType": "image/*"}
    if media == "application/json":
        return reference
    if media != "multipart/form-data":
        return file
    if model is None:
        return {"type": "object", "required": ["file"], "properties": {"file": file}}
    described = "A file part per input, named as the input."
    return {
        "type": "object",
        "required": ["job"],
        "properties": {"job": reference},
        "additionalProperties": {**file, "description": described},
    }


async def openapi_json(request: Request) -> Response:  # noqa: ARG001 - the same for everybody
    return Answer(openapi())


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Wirephoto API</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
code, pre {{ font: 14px/1.4 ui-monospace, monospace; background: #f4f4f2; border-radius: 4px }}
code {{ padding: 1px 4px }} pre {{ padding: 1rem; overflow: auto }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: 4px 8px; border-bottom: 1px solid #ddd }}
summary {{ cursor: pointer }} .m {{ font-weight: 700; width: 5rem }}
</style>
<h1>Wirephoto API</h1>
<p>Send <code>Authorization: Bearer wp_…</code>. Errors are <code>application/problem+json</code> and name every faulty
field. The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>
<table><thead><tr><th>Method<th>Path<th>What it does<th>Key</thead><tbody>{rows}</tbody></table>
<h2>Bodies</h2>{bodies}
</html>"""


@cache
def _html() -> str:
    described = openapi()
    rows = "".join(
        f"<tr><td class=m>{method.upper()}<td><code>{escape(path)}</code><td>{escape(operation['summary'])}"
        f"<td>{'–' if operation.get('security') == [] else escape(operation['description'].split()[-1].rstrip('.'))}"
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    )
    schemas = described["components"]["schemas"]
    bodies = "".join(
        f"<details><summary><code>{escape(name)}</code> {escape(schema.get('description', ''))}</summary>"
        f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre></details>"
        for name, schema in schemas.items()
    )
    return _PAGE.format(rows=rows, bodies=bodies)


async def page(request: Request) -> Response:  # noqa: ARG001 - the same for everybody
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(_html(), headers=headers)
