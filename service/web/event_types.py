"""Which events there are: each with its JSON Schema and a sample that keeps it."""

import json
from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from schemas import answers, formats
from schemas.endpoint import Format
from schemas.event import EventType
from schemas.event_types import TOLD, schema_of
from service.pipeline.samples import SOURCE, sample
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
            "formats": {
                "flat": _written(event_type, Format.FLAT),
                "cloudevents": _written(event_type, Format.CLOUDEVENTS),
            },
        }
        for event_type, told in TOLD.items()
    ]


def _written(event_type: EventType, form: Format) -> answers.WrittenForm:
    body, content_type = formats.body(form, json.dumps(sample(event_type)).encode(), SOURCE)
    return {"content_type": content_type, "schema": schema_of(event_type, form), "sample": json.loads(body)}


async def index(request: Request, who: Principal) -> Response:  # noqa: ARG001 - the same for every project
    return Answer({"data": _all(), "next": None})
