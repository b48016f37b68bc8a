"""The JSON that goes out: one shape for each noun, in answers and in events alike.

These are plain dicts with a type: mypy holds the code that builds them to it, and the published JSON Schemas are made
from it. They are open for what later versions add: a reader must not stumble over a name it does not know.
"""

from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic reads no other TypedDict before Python 3.12
)

from pydantic import Field, JsonValue
from typing_extensions import TypedDict

from schemas.callback import Via
from schemas.delivery import DeliveryState, Outcome, Undelivered
from schemas.event import EventType
from schemas.forms import (
    AssetId,
    AttemptId,
    Count,
    Decimal,
    DeliveryId,
    EndpointId,
    EventId,
    JobId,
    Sha256,
    Time,
    Url,
    string,
)
from schemas.job import Charged, JobError, JobState

# --- what is wrong ---------------------------------------------------------------------------------------------------


class FaultyField(TypedDict):
    field: Annotated[str, Field(description="The dotted path in the request.", examples=["params.scale"])]
    reason: str


class Problem(TypedDict):
    """What is wrong, as RFC 9457 says it; all faulty fields at once."""

    type: Annotated[str, string(pattern="^urn:wirephoto:problem:", description="A stable name, for programs.")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="A sentence, for people.")]
    errors: NotRequired[list[FaultyField]]
    oldest: Annotated[
        NotRequired[int],
        Field(
            description="With `events_gone` (410): the log begins here. What came before was kept for"
            " EVENT_RETENTION_DAYS and is gone; read on with `after` one less."
        ),
    ]
    newest: Annotated[
        NotRequired[int],
        Field(
            description="With `cursor_ahead` (409): the log ends here, before the cursor. It was set back, as by"
            " restoring a backup; read on with `after` 0, or with this number."
        ),
    ]
    vendor_error: Annotated[
        NotRequired[JobError],
        Field(description="With a vendor's refusal: what it said, to the first project alone."),
    ]


# --- assets and jobs -------------------------------------------------------------------------------------------------


class Asset(TypedDict):
    """An image we hold: an upload or a result."""

    id: AssetId
    object: Literal["asset"]
    url: Annotated[Url, Field(description="A signed link that needs no key and lives as long as the asset.")]
    content_type: str
    bytes: Count
    width: Count
    height: Count
    sha256: Sha256
    filename: str | None
    created_at: Time
    expires_at: Time


class Output(TypedDict):
    """One result of a job, kept by us."""

    name: str
    asset: AssetId
    url: Url
    content_type: str
    bytes: Count
    width: Count
    height: Count
    sha256: Sha256


# `pass` is Python's own word, so this one is made by call.
InputSource = TypedDict(
    "InputSource",
    {"url": str, "pass": bool, "asset": AssetId, "job": JobId, "output": str, "upload": str | None},
    total=False,
)


class Billing(TypedDict):
    credits: Annotated[Decimal | None, Field(description="The vendor's own unit.")]
    charged: Charged
    possible_duplicate: Annotated[bool, Field(description="An answer was lost, and the work may be paid for twice.")]


class HeardCallback(TypedDict):
    """What the vendor said of the job's task, and how we came to hear it."""

    via: Via
    at: Time
    state: Annotated[str | None, Field(description="What it meant; null until it is read.")]


class Job(TypedDict):
    """One picture operation at one vendor, from its request to its end."""

    id: JobId
    object: Literal["job"]
    operation: Annotated[str, Field(examples=["vanceai/enlarge3"])]
    vendor: str
    state: JobState
    progress: Annotated[int | None, Field(ge=0, le=100)]
    vendor_task_id: str | None
    submissions: Count
    # Not in events that were written before there were retries: the log keeps them as they were signed.
    retry_of: NotRequired[Annotated[JobId | None, Field(description="The job that this one is another try of.")]]
    created_at: Time
    submitted_at: Time | None
    finished_at: Time | None
    inputs: dict[str, InputSource]
    params: dict[str, JsonValue]
    extra: dict[str, JsonValue]
    metadata: dict[str, str]
    channels: list[str]
    outputs: list[Output]
    error: JobError | None
    billing: Billing
    callbacks: list[HeardCallback]


class Step(TypedDict):
    """One step of a job; which facts it has, depends on the step."""

    at: Time
    step: Literal["accepted", "staged", "submitted", "callback", "fetched", "event", "delivery"]
    retry_of: NotRequired[JobId]
    submission: NotRequired[int]
    vendor_task_id: NotRequired[str | None]
    via: NotRequired[Via]
    state: NotRequired[str | None]
    output: NotRequired[str]
    bytes: NotRequired[Count]
    event: NotRequired[EventId]
    type: NotRequired[EventType]
    sequence: NotRequired[int]
    delivery: NotRequired[DeliveryId]
    endpoint: NotRequired[EndpointId]
    attempt: NotRequired[int]
    outcome: NotRequired[Outcome]
    status: NotRequired[int | None]


class Timeline(TypedDict):
    job: JobId
    state: JobState
    data: list[Step]


# --- endpoints, deliveries, events -----------------------------------------------------------------------------------


class Delivery(TypedDict):
    """One event owed to one endpoint."""

    id: DeliveryId
    object: Literal["delivery"]
    event: EventId
    event_type: EventType
    endpoint: EndpointId
    state: DeliveryState
    attempt_count: Count
    next_attempt_at: Time | None
    created_at: Time
    finished_at: Time | None
    # Not in events that were written before anything could be sent once more.
    delivered_at: NotRequired[
        Annotated[Time | None, Field(description="When it was first delivered; it stays, if it is sent once more.")]
    ]
    undelivered: NotRequired[
        Annotated[Undelivered | None, Field(description="Why it was not delivered, and no further attempt is planned.")]
    ]


class Attempt(TypedDict):
    """One try of a delivery."""

    id: AttemptId
    number: int
    at: Time
    outcome: Outcome
    status: Annotated[int | None, Field(description="HTTP status; null where no answer came.")]
    ms: Count
    error: Annotated[str | None, Field(description="Why it failed; of `superseded`, what it left to a later job.")]
    response_head: Annotated[str | None, Field(description="At most 1 KiB of the answer.")]


class DeliveryWithAttempts(Delivery):
    attempts: list[Attempt]


class VendorStatus(TypedDict):
    """How a vendor is doing, as `vendor.*` events tell it."""

    id: Annotated[str, Field(description="The vendor's name.", examples=["vanceai"])]
    object: Literal["vendor"]
    healthy: bool
    reason: str | None
    since: Time
    credits: Annotated[Decimal | None, Field(description="What is left, where the vendor has said so.")]


class Event(TypedDict):
    """An immutable fact. `data` is the object concerned, as it was then."""

    id: EventId
    type: str
    timestamp: Time
    sequence: Annotated[int, Field(ge=0, description="Counts per project, without gaps.")]
    data: dict[str, Any]


class LedgerEntry(Delivery):
    """A delivery with what came of it last."""

    last_attempt: Attempt | None


class EventWithLedger(Event):
    """An event, and who has it and who has not."""

    status: Annotated[
        Literal["delivered", "pending", "undelivered"],
        Field(description="`delivered`: all have it. `pending`: it is being sent. `undelivered`: see to whom and why."),
    ]
    deliveries: list[LedgerEntry]


class WrittenForm(TypedDict):
    """An event in one of the other formats."""

    content_type: str
    schema: Annotated[dict[str, Any], Field(description="JSON Schema 2020-12 of the whole body.")]
    sample: dict[str, Any]


class EventForms(TypedDict):
    flat: WrittenForm
    cloudevents: WrittenForm


class EventKind(TypedDict):
    """A type of event, with what an event of it looks like."""

    object: Literal["event_type"]
    type: EventType
    description: str
    schema: Annotated[dict[str, Any], Field(description="JSON Schema 2020-12 of the whole event.")]
    sample: Event
    formats: Annotated[EventForms, Field(description="The same event as endpoints of another format receive it.")]


# --- health ---------------------------------------------------------------------------------------------------


class Health(TypedDict):
    status: Literal["ok"]
    installation: Annotated[str, Field(description="Tells this installation from another; made at its first start.")]


class Ready(TypedDict):
    status: Literal["ready"]


class NotReady(TypedDict):
    status: Literal["not ready"]
    reasons: list[str]
