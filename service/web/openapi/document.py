"""The whole description, OpenAPI 3.1, from the table of URLs and what each route answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.web.openapi import inputs, outputs
from service.web.openapi.shapes import components
from service.web.openapi.told import TOLD, Told
from service.web.openapi.webhooks import webhooks
from service.web.route import OpenRoute, Route

VERSION = "1"

# By the first part of the path, behind /v1.
_TAGS: Mapping[str, str] = {
    "jobs": "Submit pictures and follow them.",
    "assets": "Pictures that are kept here: uploads and results.",
    "operations": "What can be done, by which vendor.",
    "vendors": "How the vendors are doing.",
    "events": "The ordered log of what happened.",
    "event-types": "What an event of each type looks like.",
    "endpoints": "Who is told of events, and how.",
    "hooks": "How no-code tools subscribe: Zapier, n8n, Make.",
    "webhook-secret": "The secret that per-job webhooks are signed with.",
    "replays": "Ranges of the log that an endpoint is sent once more.",
    "signing-key": "What v1a signatures are checked with.",
    "deliveries": "The ledger: who has which event, and why not.",
    "me": "Whose key this is, and which installation's.",
    "projects": "The walls between tenants.",
    "keys": "Who may do what.",
    "callbacks": "Where vendors call in.",
    "operating": "For whoever runs this.",
    "webhooks": "What subscribers receive.",
}
_DESCRIPTION = """Submit an image job once, receive one signed event when the finished picture is safe.

Send `Authorization: Bearer wp_…`. Errors are `application/problem+json` (RFC 9457) and name every faulty field at once.
Lists are `{"data": […], "next": cursor|null}`. Times are RFC 3339, UTC, with milliseconds; ids are opaque.
Whatever answers to GET answers to HEAD too. A wrong method is a 405 that names the right ones."""


def describe(routes: Sequence[Route | OpenRoute]) -> dict[str, Any]:
    """Raises KeyError where a route, a parameter or a status has been described by nobody."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, TOLD[f"{route.method} {route.path}"])
    models = {route.body.__name__: route.body for route in routes if isinstance(route, Route) and route.body}
    used = {tag for methods in paths.values() for operation in methods.values() for tag in operation["tags"]}
    shapes = [shape for told in TOLD.values() for shape in (told.shape, *told.instead.values())]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wirephoto",
            "version": VERSION,
            "summary": "Image-AI jobs: submit once, receive one signed event.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Where this description came from."}],
        "security": [{"key": []}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items() if name in {*used, "webhooks"}],
        "paths": paths,
        "webhooks": webhooks(),
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, wp_…"},
                "metrics": {"type": "http", "scheme": "bearer", "description": "METRICS_TOKEN, where it is set."},
            },
            "schemas": components(models.values(), shapes),
            "responses": outputs.problems(),
        },
    }


def _operation(route: Route | OpenRoute, told: Told) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.handler.__module__.rsplit('.', 1)[-1]}_{route.handler.__name__}_{route.method.lower()}",
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "parameters": inputs.parameters(route),
        "responses": outputs.responses(route, told),
    }
    body = inputs.body(route, told)
    if body is not None:
        operation["requestBody"] = body
    if isinstance(route, Route):
        operation["description"] = f"Needs a key of role {route.role}."
    else:
        operation["security"] = [dict(way) for way in told.security or ()]
    return operation


def _tag(path: str) -> str:
    parts = path.split("/")
    name = parts[2] if parts[1] == "v1" else parts[1]
    return name if name in _TAGS else "operating"
