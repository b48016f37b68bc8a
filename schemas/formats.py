"""How an event is written for its receiver: the bytes that are signed and sent, in each format.

The log keeps the standard form. The others are made of it, so that all of them say the same.
"""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from schemas.endpoint import Format
from schemas.flat import flat as flat
from schemas.forms import EventId, Time, string

JSON = "application/json"
CLOUDEVENTS = "application/cloudevents+json"
# Names of types are global in CloudEvents. A reversed domain is advised there; we have none to promise by.
TYPE_PREFIX = "wirephoto."
# Compared as texts there. A sequence number has 19 digits at most.
_SEQUENCE_DIGITS = 19


class CloudEvent(TypedDict):
    """An event as CloudEvents 1.0 has it, in structured JSON."""

    specversion: Literal["1.0"]
    id: EventId
    source: Annotated[
        str,
        string(
            format="uri-reference",
            examples=["urn:wirephoto:9b1f3c5d7e2a4068:prj_01m7y9dz7k7yx6crsbkvdbxvge"],
            description="The installation and the project: within it an id and a sequence stand for one event.",
        ),
    ]
    type: Annotated[str, Field(description="`wirephoto.` and the type.", examples=["wirephoto.job.succeeded"])]
    time: Time
    subject: Annotated[str, Field(description="The id of the object concerned; of a vendor its name.")]
    datacontenttype: Literal["application/json"]
    sequence: Annotated[
        str, string(pattern=r"^\d{19}$", description="With zeros in front, so that texts compare as numbers do.")
    ]
    data: dict[str, Any]


def source(installation: str, project: str) -> str:
    """The `source` of a project's CloudEvents. It stays the same wherever the service moves to."""
    return f"urn:wirephoto:{installation}:{project}"


def cloudevent(event: Mapping[str, Any], source: str) -> CloudEvent:
    """An event, as it stands in the log, as a CloudEvent."""
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": source,
        "type": TYPE_PREFIX + event["type"],
        "time": event["timestamp"],
        "subject": event["data"].get("id", event["id"]),
        "datacontenttype": "application/json",
        "sequence": f"{event['sequence']:0{_SEQUENCE_DIGITS}d}",
        "data": event["data"],
    }


def body(form: Format, payload: bytes, source: str) -> tuple[bytes, str]:
    """The bytes to send and their content type. `payload`: the event as it stands in the log.

    `source` is what CloudEvents call so; the other formats don't say it.
    """
    content_type, write = _WRITTEN[form]
    if write is None:
        return payload, content_type
    written = json.dumps(write(json.loads(payload), source), ensure_ascii=False, separators=(",", ":"))
    return written.encode(), content_type


_WRITTEN: Mapping[Format, tuple[str, Callable[[Mapping[str, Any], str], Mapping[str, Any]] | None]] = {
    Format.STANDARD: (JSON, None),
    Format.FLAT: (JSON, lambda event, _: flat(event)),
    Format.CLOUDEVENTS: (CLOUDEVENTS, cloudevent),
}
