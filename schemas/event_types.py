"""Which events there are, what each tells, and the JSON Schema that every event of a type keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas.answers import Delivery, Event, Job, VendorStatus
from schemas.endpoint import Format
from schemas.event import EventType
from schemas.flat import FLAT
from schemas.formats import TYPE_PREFIX, CloudEvent
from schemas.subscriptions import Endpoint

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Schemas(GenerateJsonSchema):
    """As pydantic makes them, without a title for each field: it only says the field's name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


@dataclass(frozen=True, slots=True)
class Told:
    """What events of one type are about; `state` is the only one their object can be in."""

    description: str
    data: type  # the object's shape
    state: str | None = None


TOLD: Mapping[EventType, Told] = {
    EventType.JOB_QUEUED: Told("A job was accepted and waits for its turn.", Job, "queued"),
    EventType.JOB_SUBMITTED: Told("The vendor has taken the job in.", Job, "running"),
    EventType.JOB_PROGRESSED: Told(
        "The vendor has told how far it is; at most every two seconds, and only where subscribed by name.",
        Job,
        "running",
    ),
    EventType.JOB_SUCCEEDED: Told("The finished pictures are ours and can be had by their links.", Job, "succeeded"),
    EventType.JOB_FAILED: Told("The job has ended without a result; `data.error` says why.", Job, "failed"),
    EventType.JOB_CANCELED: Told("The job was ended by its user.", Job, "canceled"),
    EventType.ENDPOINT_DISABLED: Told(
        "An endpoint gets nothing more until it is enabled again; what it is owed is held.",
        Endpoint,
        "disabled",
    ),
    EventType.ENDPOINT_RECOVERED: Told("An endpoint that had failed takes deliveries again.", Endpoint, "enabled"),
    EventType.DELIVERY_EXHAUSTED: Told("The last attempt of a delivery has failed.", Delivery, "exhausted"),
    EventType.VENDOR_UNAVAILABLE: Told(
        "A vendor refuses our key, and its jobs wait; or it gives no answers. First project only.", VendorStatus
    ),
    EventType.VENDOR_RECOVERED: Told("A vendor can be used again: its jobs go on. First project only.", VendorStatus),
    EventType.VENDOR_CREDITS_LOW: Told(
        "An account's credits have run out, and its jobs wait. First project only.", VendorStatus
    ),
}
# What `POST /v1/endpoints/{id}/test` sends. It stands in no log, so it is none of the types.
TEST_TYPE = "endpoint.test"
TEST = Told("A test message, sent on request and outside of the log; its sequence is 0.", Endpoint)


def narrowed(event_type: str, told: Told, ref: str) -> dict[str, Any]:
    """An event of one type; `ref` is where the objects' schemas stand, with `{model}` for the name."""
    data: dict[str, Any] = {"$ref": ref.format(model=told.data.__name__)}
    if told.state is not None:
        data = {"allOf": [data, {"type": "object", "properties": {"state": {"const": told.state}}}]}
    return {
        "title": event_type,
        "description": told.description,
        "allOf": [{"$ref": ref.format(model="Event")}],
        "type": "object",
        "properties": {"type": {"const": event_type}, "data": data},
    }


def schema_of(event_type: EventType, form: Format = Format.STANDARD) -> dict[str, Any]:
    """JSON Schema 2020-12 of the whole event in this format, complete in itself."""
    told, ref = TOLD[event_type], "#/$defs/{model}"
    wanted, narrow = _FORMS[form]
    _, whole = TypeAdapter.json_schemas(
        [(shape.__name__, "serialization", TypeAdapter(shape)) for shape in wanted(told)],
        ref_template=ref,
        schema_generator=Schemas,
    )
    return {"$schema": DIALECT, **narrow(event_type, told, ref), "$defs": whole["$defs"]}


def _flat(event_type: str, told: Told, ref: str) -> dict[str, Any]:
    state = {} if told.state is None else {"state": {"const": told.state}}
    return {
        "title": event_type,
        "description": told.description,
        "allOf": [{"$ref": ref.format(model=FLAT[told.data].__name__)}],
        "type": "object",
        "properties": {"type": {"const": event_type}, **state},
    }


def _cloudevent(event_type: str, told: Told, ref: str) -> dict[str, Any]:
    standard = narrowed(event_type, told, ref)
    return {
        **standard,
        "allOf": [{"$ref": ref.format(model="CloudEvent")}],
        "properties": {"type": {"const": TYPE_PREFIX + event_type}, "data": standard["properties"]["data"]},
    }


# Which shapes a format's schema is made of, and how it is narrowed to one type.
_FORMS: Mapping[Format, tuple[Callable[[Told], Sequence[type]], Callable[[str, Told, str], dict[str, Any]]]] = {
    Format.STANDARD: (lambda told: (Event, told.data), narrowed),
    Format.FLAT: (lambda told: (FLAT[told.data],), _flat),
    Format.CLOUDEVENTS: (lambda told: (CloudEvent, told.data), _cloudevent),
}
