"""Which events there are: each with its JSON Schema and a sample that keeps it."""

from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from schemas import answers
from schemas.event_types import TOLD, schema_of
from service.pipeline.samples import sample
from service.store.keys import Principal
from service.web.site import Answer


@cache
def _all() -> list[answers.EventKind]:
    return [
        {
            "object": "event_type",
            "type": event_type,
            "description": told.description,
            "schema": schema_of(event_type),
            "sample": sample(event_type),
        }
        for event_type, told in TOLD.items()
    ]


async def index(request: Request, who: Principal) -> Response:  # noqa: ARG001 - the same for every project
    return Answer({"data": _all(), "next": None})
