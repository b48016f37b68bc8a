"""Examples that are real: made by the code that makes the real answers, or checked against it by tests."""

from collections.abc import Callable, Mapping
from typing import Any

from schemas import answers, subscriptions
from schemas.event import EventType
from schemas.problem import FieldError, Problem, invalid, not_found
from service.pipeline import samples
from service.web.openapi.told import ListOf, Shape

_MADE: Mapping[Any, Callable[[], Any]] = {
    answers.Job: lambda: samples.sample(EventType.JOB_SUCCEEDED)["data"],
    answers.Event: lambda: samples.sample(EventType.JOB_SUCCEEDED),
    subscriptions.Endpoint: lambda: samples.sample(EventType.ENDPOINT_RECOVERED)["data"],
    subscriptions.Hook: samples.hook,
    answers.Delivery: lambda: samples.sample(EventType.DELIVERY_EXHAUSTED)["data"],
    answers.Asset: samples.asset,
    answers.Health: lambda: {"status": "ok", "installation": "9b1f3c5d7e2a4068"},
    answers.Ready: lambda: {"status": "ready"},
}

_PROBLEMS: Mapping[int, Problem] = {
    400: Problem(400, "bad_json", "The body is not JSON: Expecting value at line 1, column 1."),
    401: Problem(401, "unauthenticated", "Send a valid API key: Authorization: Bearer wp_…"),
    403: Problem(403, "forbidden", "This needs a key of role admin; this key's role is read."),
    404: not_found("job"),
    409: Problem(409, "idempotency_conflict", "This Idempotency-Key was used for another request."),
    410: Problem(410, "events_gone", "Events 2 to 3 are no longer kept. Read on with after=3.", more={"oldest": 4}),
    413: Problem(413, "too_large", "The body is larger than 1048576 bytes."),
    415: Problem(415, "unsupported_type", "Send application/json, not text/plain."),
    416: Problem(416, "bad_range", "This range lies outside the asset."),
    422: invalid(
        [FieldError("params.scale", "3 is not one of [2, 4, 6, 8]"), FieldError("inputs.image", "is required")]
    ),
    429: Problem(429, "too_many_callbacks", "More was said of this job than a vendor would say."),
    500: Problem(500, "internal", "Something went wrong here; it is in the log."),
    503: Problem(503, "unavailable", "The store can't be reached now."),
}


def of_answer(shape: Shape, occasion: EventType | None) -> Any | None:
    """`occasion`: the event whose object is the example. None where a shape's fields say enough by themselves."""
    if occasion is not None:
        return samples.sample(occasion)["data"]
    inner = shape.shape if isinstance(shape, ListOf) else shape
    made = _MADE.get(inner)
    if made is None:
        return None
    return {"data": [made()], "next": None} if isinstance(shape, ListOf) else made()


def of_problem(status: int) -> dict[str, Any]:
    """Raises KeyError for a status that nobody has described."""
    return _PROBLEMS[status].as_json()
