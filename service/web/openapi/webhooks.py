"""What subscribers receive, described as OpenAPI's `webhooks`: one entry per type of event."""

from collections.abc import Mapping
from typing import Any

from schemas.event_types import TEST, TEST_TYPE, TOLD, Told
from service.pipeline.samples import sample, sample_test_shot
from service.web.openapi.shapes import event_name, ref

_HEADERS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "webhook-id",
        "in": "header",
        "required": True,
        "description": "The event's id, the same on every attempt: drop what you have seen.",
        "schema": {"type": "string", "pattern": "^evt_"},
    },
    {
        "name": "webhook-timestamp",
        "in": "header",
        "required": True,
        "description": "Seconds since 1970, of this attempt. Refuse what is older than five minutes.",
        "schema": {"type": "string", "pattern": r"^\d+$"},
    },
    {
        "name": "webhook-signature",
        "in": "header",
        "required": True,
        "description": "A list with spaces, of which one is enough: `v1,` and the base64 HMAC-SHA256 of"
        " `{id}.{timestamp}.{body}`, two of them while a secret is rotated; `v1a,` and the base64 ed25519 signature of"
        " the same, where the endpoint asks for it.",
        "schema": {"type": "string", "pattern": r"^v1a?,\S+( v1a?,\S+)*$"},
    },
)
_WORD = {
    "webhook-delivery": {
        "description": "`disable`: disable the endpoint. `abort`: give this delivery up. Whatever the status.",
        "schema": {"type": "string", "enum": ["disable", "abort"]},
    }
}
_WAIT = {
    "Retry-After": {
        "description": "Seconds or a date: not before then; at most ten hours.",
        "schema": {"type": "string"},
    }
}
# The table of outcomes, as `handlers/destinations/webhook.py` judges it.
_EXPECTED: Mapping[str, Mapping[str, Any]] = {
    "2XX": {"description": "Delivered. Answer within 15 seconds."},
    "3XX": {"description": "A failure: never followed, tried again by the schedule."},
    "410": {"description": "The endpoint is disabled at once; what it is owed is held."},
    "429": {"description": "Tried again, and the whole endpoint is slowed down.", "headers": _WAIT},
    "4XX": {"description": "Tried again by the schedule."},
    "502": {"description": "Tried again.", "headers": _WAIT},
    "503": {"description": "Tried again, and the whole endpoint is slowed down.", "headers": _WAIT},
    "504": {"description": "Tried again.", "headers": _WAIT},
    "5XX": {"description": "Tried again by the schedule, for about three days."},
}


def webhooks() -> dict[str, Any]:
    types = {str(name): _webhook(name, told, sample(name)) for name, told in TOLD.items()}
    return {**types, TEST_TYPE: _webhook(TEST_TYPE, TEST, sample_test_shot())}


def _webhook(name: str, told: Told, example: Mapping[str, Any]) -> dict[str, Any]:
    content = {"schema": ref(event_name(name)), "example": example}
    return {
        "post": {
            "operationId": f"on_{name.replace('.', '_')}",
            "summary": told.description,
            "description": "In the formats `flat` and `cloudevents` the body is what `GET /v1/event-types` shows.",
            "tags": ["webhooks"],
            "security": [],
            "parameters": [dict(header) for header in _HEADERS],
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                status: {**answer, "headers": {**answer.get("headers", {}), **_WORD}}
                for status, answer in _EXPECTED.items()
            },
        }
    }
