"""What each route answers: one line a route, held to the route table and to the real answers by tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas import answers, offers, replay, stats, subscriptions, tenants
from schemas.event import EventType


@dataclass(frozen=True)
class ListOf:
    """A page: `{"data": […], "next": cursor|null}`."""

    shape: Any


@dataclass(frozen=True)
class Media:
    """A body that is not JSON of ours."""

    types: tuple[str, ...]
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


Shape = Any  # a TypedDict of `schemas.answers`, a ListOf, a Media; None: no body
_EMPTY: Mapping[int, Any] = {}


@dataclass(frozen=True)
class Told:
    """`shape` is what a success holds. `problems` come beside those that a route's row implies by itself, `never` says
    which of these do not.

    `headers` by status (a name ending in `?` is not always there); `instead`: statuses whose body is another one.
    `security`: of an open route, where a key or token is one way in. `occasions`: the event whose object is an example
    of the answer, where the shape's own is not like it.
    """

    shape: Shape
    problems: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: _EMPTY)
    instead: Mapping[int, Shape] = field(default_factory=lambda: _EMPTY)
    security: tuple[Mapping[str, list[str]], ...] | None = None
    occasions: Mapping[int, EventType] = field(default_factory=lambda: _EMPTY)
    body: Mapping[str, Any] | None = None  # of an open route that takes one
    body_required: bool = True


_PICTURE = Media(("image/*",), {"type": "string", "contentMediaType": "image/*"})
_FILE_HEADERS = ("Accept-Ranges", "ETag", "Cache-Control", "Content-Disposition", "X-Content-Type-Options")
_CONTENT = Told(
    _PICTURE,
    problems=(401, 403, 404, 416, 500, 503),
    headers={
        200: _FILE_HEADERS,
        206: (*_FILE_HEADERS, "Content-Range"),
        304: _FILE_HEADERS,
        416: ("Content-Range",),
    },
    instead={304: None},
    security=({}, {"key": []}),
)
_STREAM = Media(("text/event-stream",))
_LATER = {429: ("Retry-After",)}
_MADE = {201: ("Location",)}
_ANY_BODY = {"required": False, "content": {"*/*": {"schema": {}}}, "description": "Whatever the vendor says."}
_CALLED = Told(None, problems=(404, 413, 429, 500, 503))

_TAKEN_IN = ("Location", "Preference-Applied?")

TOLD: Mapping[str, Told] = {
    "POST /v1/jobs": Told(
        answers.Job,
        problems=(409,),
        headers={200: _TAKEN_IN, 202: _TAKEN_IN},
        occasions={202: EventType.JOB_QUEUED},
    ),
    "GET /v1/jobs": Told(ListOf(answers.Job)),
    "GET /v1/jobs/{id}": Told(answers.Job),
    "GET /v1/jobs/{id}/timeline": Told(answers.Timeline),
    "POST /v1/jobs/{id}/cancel": Told(answers.Job, problems=(409,), occasions={200: EventType.JOB_CANCELED}),
    "POST /v1/jobs/{id}/retry": Told(
        answers.Job,
        problems=(409,),
        headers={200: _TAKEN_IN, 202: _TAKEN_IN},
        occasions={202: EventType.JOB_QUEUED},
    ),
    "POST /v1/assets": Told(answers.Asset, headers=_MADE),
    "GET /v1/assets/{id}": Told(answers.Asset),
    "GET /v1/assets/{id}/content": _CONTENT,
    "GET /v1/operations": Told(ListOf(offers.Operation)),
    "GET /v1/operations/{vendor}/{name}": Told(offers.Operation),
    "GET /v1/vendors": Told(ListOf(offers.Vendor)),
    "GET /v1/vendors/{vendor}/credits": Told(offers.Credits, problems=(409,)),
    "GET /v1/vendors/{vendor}/credits/history": Told(ListOf(offers.CreditUse), problems=(409,)),
    "GET /v1/vendors/{vendor}/{feature}/style-groups": Told(ListOf(offers.StyleGroup), problems=(409,)),
    "GET /v1/vendors/{vendor}/{feature}/styles": Told(ListOf(offers.Style), problems=(409,)),
    "POST /v1/vendors/{vendor}/probe": Told(offers.Vendor, problems=(409,)),
    "GET /v1/events": Told(ListOf(answers.Event), problems=(410, 429), headers=_LATER),
    "GET /v1/events/stream": Told(_STREAM, problems=(410, 429), headers=_LATER),
    "GET /v1/events/{id}": Told(answers.EventWithLedger),
    "GET /v1/event-types": Told(ListOf(answers.EventKind)),
    "POST /v1/endpoints": Told(subscriptions.NewEndpoint, headers=_MADE),
    "GET /v1/endpoints": Told(ListOf(subscriptions.Endpoint)),
    "GET /v1/endpoints/{id}": Told(subscriptions.Endpoint),
    "PATCH /v1/endpoints/{id}": Told(subscriptions.Endpoint),
    "DELETE /v1/endpoints/{id}": Told(None),
    "GET /v1/endpoints/{id}/secret": Told(subscriptions.SigningSecret),
    "POST /v1/endpoints/{id}/pause": Told(subscriptions.Endpoint, problems=(409,)),
    "POST /v1/endpoints/{id}/resume": Told(subscriptions.Endpoint, problems=(409,)),
    "POST /v1/endpoints/{id}/rotate-secret": Told(subscriptions.RotatedSecret, problems=(409,), body_required=False),
    "POST /v1/endpoints/{id}/enable": Told(subscriptions.Endpoint),
    "POST /v1/endpoints/{id}/test": Told(subscriptions.TestShot, body_required=False),
    "POST /v1/endpoints/{id}/replay": Told(
        replay.ReplayAnswer,
        problems=(409,),
        headers={202: ("Location",)},
        instead={200: replay.ReplayCount},
    ),
    "GET /v1/endpoints/{id}/stats": Told(stats.EndpointStats),
    "GET /v1/replays": Told(ListOf(replay.ReplayAnswer)),
    "GET /v1/replays/{id}": Told(replay.ReplayAnswer),
    "POST /v1/replays/{id}/cancel": Told(replay.ReplayAnswer, problems=(409,)),
    "GET /v1/endpoints/{id}/stream": Told(_STREAM, problems=(409, 429), headers=_LATER),
    "POST /v1/endpoints/{id}/answers": Told(subscriptions.StreamAnswered, problems=(409,)),
    "POST /v1/hooks": Told(subscriptions.Hook, headers={200: ("Location",), 201: ("Location",)}),
    "GET /v1/hooks": Told(ListOf(subscriptions.Hook)),
    "GET /v1/hooks/samples": Told(
        Media(("application/json",), {"type": "array", "items": {"type": "object", "required": ["id", "type"]}})
    ),
    "GET /v1/hooks/{id}": Told(subscriptions.Hook),
    "DELETE /v1/hooks/{id}": Told(None, never=(404,)),
    "GET /v1/webhook-secret": Told(subscriptions.SigningSecret),
    "POST /v1/webhook-secret/rotate": Told(subscriptions.SigningSecret),
    "GET /v1/signing-key": Told(subscriptions.SigningKey),
    "POST /v1/signing-key/rotate": Told(subscriptions.RotatedKey, problems=(409,), body_required=False),
    "GET /v1/deliveries": Told(ListOf(answers.Delivery)),
    "GET /v1/deliveries/{id}": Told(answers.DeliveryWithAttempts),
    "POST /v1/deliveries/{id}/redeliver": Told(answers.Delivery, problems=(409,)),
    "GET /v1/me": Told(tenants.Me),
    "POST /v1/projects": Told(tenants.NewProject),
    "GET /v1/projects": Told(ListOf(tenants.Project)),
    "POST /v1/keys": Told(tenants.NewKey, body_required=False),
    "GET /v1/keys": Told(ListOf(tenants.Key)),
    "DELETE /v1/keys/{id}": Told(None),
    "POST /callbacks/{vendor}/{token}": replace(_CALLED, body=_ANY_BODY),
    "GET /callbacks/{vendor}/{token}": _CALLED,
    "GET /healthz": Told(answers.Health),
    "GET /readyz": Told(answers.Ready, problems=(500,), instead={503: answers.NotReady}),
    "GET /metrics": Told(
        Media(("text/plain", "application/openmetrics-text")), problems=(401, 500), security=({}, {"metrics": []})
    ),
    "GET /.well-known/jwks.json": Told(subscriptions.JwkSet, problems=(500, 503), headers={200: ("Cache-Control",)}),
    "GET /openapi.json": Told(Media(("application/json",), {"type": "object"})),
    "GET /docs": Told(Media(("text/html",))),
}
