"""The schemas that the description names: the models that judge requests, the shapes that answers are built as."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from schemas import answers
from schemas.event_types import TEST, TEST_TYPE, TOLD, Schemas, narrowed
from service.web.openapi.told import ListOf, Media, Shape

_REF = "#/components/schemas/{model}"
ANY_EVENT = "AnyEvent"


def ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=name)}


def event_name(event_type: str) -> str:
    """`job.credits_low` → `JobCreditsLowEvent`."""
    return "".join(part.capitalize() for part in event_type.replace("_", ".").split(".")) + "Event"


def components(models: Iterable[type[BaseModel]], shapes: Iterable[Shape]) -> dict[str, Any]:
    """Every schema by its name. A model of requests and a shape of answers never share a name."""
    inputs = [(model.__name__, "validation", TypeAdapter(model)) for model in models]
    named = {_innermost(shape) for shape in shapes} | {
        answers.Problem,
        *(told.data for told in TOLD.values()),
    }
    outputs = [
        (shape.__name__, "serialization", TypeAdapter(shape))
        for shape in sorted((shape for shape in named if shape is not None), key=lambda shape: str(shape.__name__))
    ]
    _, whole = TypeAdapter.json_schemas([*inputs, *outputs], ref_template=_REF, schema_generator=Schemas)  # type: ignore[list-item]  # mypy can't tell the literal modes
    return {**whole["$defs"], **_events()}


def _events() -> dict[str, Any]:
    events = {event_name(name): narrowed(name, told, _REF) for name, told in [*TOLD.items(), (TEST_TYPE, TEST)]}
    logged = {name: event_name(name) for name in TOLD}
    return {
        **events,
        ANY_EVENT: {
            "description": "An event of any type.",
            "oneOf": [ref(name) for name in logged.values()],
            "discriminator": {
                "propertyName": "type",
                "mapping": {str(kind): _REF.format(model=name) for kind, name in logged.items()},
            },
        },
    }


def _innermost(shape: Shape) -> Any:
    if isinstance(shape, Media):
        return None
    return shape.shape if isinstance(shape, ListOf) else shape


def schema_of(shape: Shape) -> Mapping[str, Any]:
    """The schema of a JSON answer of this shape."""
    if isinstance(shape, ListOf):
        return {
            "type": "object",
            "required": ["data", "next"],
            "properties": {
                "data": {"type": "array", "items": schema_of(shape.shape)},
                "next": {"type": ["string", "null"], "description": "Cursor of the next page: send it as `after`."},
            },
        }
    if shape is answers.Event:
        return ref(ANY_EVENT)
    if shape is answers.EventWithLedger:
        return {"allOf": [ref(ANY_EVENT), ref(shape.__name__)]}
    return ref(shape.__name__)
