"""Which events there are, what each tells, and the JSON Schema that every event of a type keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas import answers
from schemas.event import EventType

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Schemas(GenerateJsonSchema):
    """As pydantic makes them, without a title for each field: it only says the field's name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


@dataclass(frozen=True, slots=True)
class Told:
    """What events of one type are about; `state` is the only one their object can be in."""

    description: str
    data: str  # the object's name in `schemas.answers`
    state: str | None = None


TOLD: Mapping[EventType, Told] = {
    EventType.JOB_QUEUED: Told("A job was accepted and waits for its turn.", "Job", "queued"),
    EventType.JOB_SUBMITTED: Told("The vendor has taken the job in.", "Job", "running"),
    EventType.JOB_PROGRESSED: Told(
        "The vendor has told how far it is; at most every two seconds, and only where subscribed by name.",
        "Job",
        "running",
    ),
    EventType.JOB_SUCCEEDED: Told("The finished pictures are ours and can be had by their links.", "Job", "succeeded"),
    EventType.JOB_FAILED: Told("The job has ended without a result; `data.error` says why.", "Job", "failed"),
    EventType.JOB_CANCELED: Told("The job was ended by its user.", "Job", "canceled"),
    EventType.ENDPOINT_DISABLED: Told(
        "An endpoint gets nothing more until it is enabled again; what it is owed is held.", "Endpoint", "disabled"
    ),
    EventType.ENDPOINT_RECOVERED: Told("An endpoint that had failed takes deliveries again.", "Endpoint", "enabled"),
    EventType.DELIVERY_EXHAUSTED: Told("The last attempt of a delivery has failed.", "Delivery", "exhausted"),
    EventType.VENDOR_UNAVAILABLE: Told(
        "A vendor refuses our key, and its jobs wait; or it gives no answers. First project only.", "VendorStatus"
    ),
    EventType.VENDOR_RECOVERED: Told("A vendor can be used again: its jobs go on. First project only.", "VendorStatus"),
    EventType.VENDOR_CREDITS_LOW: Told(
        "An account's credits have run out, and its jobs wait. First project only.", "VendorStatus"
    ),
}
# What `POST /v1/endpoints/{id}/test` sends. It stands in no log, so it is none of the types.
TEST_TYPE = "endpoint.test"
TEST = Told("A test message, sent on request and outside of the log; its sequence is 0.", "Endpoint")


def narrowed(event_type: str, told: Told, ref: str) -> dict[str, Any]:
    """An event of one type; `ref` is where the objects' schemas stand, with `{model}` for the name."""
    data: dict[str, Any] = {"$ref": ref.format(model=told.data)}
    if told.state is not None:
        data = {"allOf": [data, {"type": "object", "properties": {"state": {"const": told.state}}}]}
    return {
        "title": event_type,
        "description": told.description,
        "allOf": [{"$ref": ref.format(model="Event")}],
        "type": "object",
        "properties": {"type": {"const": event_type}, "data": data},
    }


def schema_of(event_type: EventType) -> dict[str, Any]:
    """JSON Schema 2020-12 of the whole event, complete in itself."""
    told = TOLD[event_type]
    wanted = {"Event": answers.Event, told.data: getattr(answers, told.data)}
    _, whole = TypeAdapter.json_schemas(
        [(name, "serialization", TypeAdapter(shape)) for name, shape in wanted.items()],
        ref_template="#/$defs/{model}",
        schema_generator=Schemas,
    )
    return {"$schema": DIALECT, **narrowed(event_type, told, "#/$defs/{model}"), "$defs": whole["$defs"]}
