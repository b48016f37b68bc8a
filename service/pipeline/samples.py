"""One sample of each event, made by the very code that makes the real ones, so that they can't drift apart."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from schemas import answers, formats, subscriptions
from schemas.asset import Asset
from schemas.callback import Via
from schemas.delivery import Delivery, DeliveryState, Undelivered
from schemas.endpoint import Endpoint, EndpointState, Format, Terms
from schemas.event import EventType, envelope
from schemas.event_types import TEST_TYPE
from schemas.job import Charged, ErrorClass, Failure, Input, Job, JobRequest, JobState
from schemas.trouble import Kind, Trouble
from service.pipeline import shown
from service.security.links import AssetLinks
from service.store.callbacks import Heard

_AT = 1_785_587_400_000  # 2026-08-01T12:30:00Z
_DAY = 24 * 3_600_000
_ID = "01m7y9dz7k7yx6crsbkvdbxv"
# Its links look like real ones and open nothing.
_LINKS = AssetLinks("https://wirephoto.example", b"the key of samples, which is no secret")

# What CloudEvents call the installation and the project.
SOURCE = formats.source("9b1f3c5d7e2a4068", f"prj_{_ID}a0")

_QUEUED = Job(
    row=0,
    id=f"job_{_ID}ge",
    project=0,
    vendor="vanceai",
    operation="vanceai/enlarge3",
    state=JobState.QUEUED,
    request=JobRequest(
        operation="vanceai/enlarge3",
        params={"scale": 2, "suppress_noise": 26},
        metadata={"product_id": "8411"},
        channels=["store-7"],
    ),
    progress=None,
    tries=0,
    faults=0,
    submissions=0,
    submission=None,
    vendor_task_id=None,
    created_at=_AT,
    staged_at=_AT,
    submitted_at=None,
    finished_at=None,
    failure=None,
    credits=None,
    charged=Charged.NO,
    possible_duplicate_at=None,
)
_RUNNING = replace(
    _QUEUED,
    state=JobState.RUNNING,
    submissions=1,
    vendor_task_id="6de4f3b1a2c05d77",
    submitted_at=_AT + 840,
    charged=Charged.UNKNOWN,
)
_SUCCEEDED = replace(
    _RUNNING,
    state=JobState.SUCCEEDED,
    progress=100,
    finished_at=_AT + 9_310,
    credits="1.000",
    charged=Charged.YES,
)
_FAILED = replace(
    _RUNNING,
    state=JobState.FAILED,
    finished_at=_AT + 9_310,
    failure=Failure(ErrorClass.INPUT, "10011", "the picture can't be read", retryable=False),
    charged=Charged.NO,
)
_PICTURE = Asset(
    row=0,
    id=f"ast_{_ID}p0",
    project=0,
    sha256="0f343b0931126a20f133d67c2b018a3b5e1f1c4f0f7b4f3f2e1d0c9b8a796857",
    bytes=1_268_004,
    content_type="image/jpeg",
    width=2400,
    height=1600,
    filename=None,
    created_at=_AT + 9_310,
    expires_at=_AT + 9_310 + 30 * _DAY,
)
_ENDPOINT = Endpoint(
    row=0,
    id=f"ep_{_ID}q2",
    project=0,
    job=None,
    kind="webhook",
    terms=Terms(
        url="https://shop.example/hooks/wirephoto",
        sealed_headers="",
        events=("job.succeeded", "job.failed"),
        channels=("store-7",),
        description="the shop",
        header_names=("X-Shop",),
    ),
    sealed_secret="",
    state=EndpointState.ENABLED,
    disabled_reason=None,
    created_at=_AT - _DAY,
    updated_at=_AT,
)
_DELIVERY = Delivery(
    row=0,
    id=f"dlv_{_ID}r4",
    project=0,
    event=f"evt_{_ID}s6",
    event_type=EventType.JOB_SUCCEEDED,
    endpoint=_ENDPOINT.id,
    state=DeliveryState.EXHAUSTED,
    attempts=11,
    retry_at=None,
    created_at=_AT - 4 * _DAY,
    finished_at=_AT,
    endpoint_row=0,
    undelivered=Undelivered.EXHAUSTED,
)


def _job(job: Job, told: str | None = None) -> Mapping[str, Any]:
    """`told`: what the vendor's webhook came to mean, where it has called."""
    inputs = [Input("image", {"asset": f"ast_{_ID}n8"}, None, None)]
    outputs = [("image", _PICTURE)] if job.state is JobState.SUCCEEDED else []
    heard = [] if told is None else [Heard(Via.WEBHOOK, _AT + 8_900, told)]
    return shown.job_with(job, inputs, outputs, heard, _LINKS)


def _vendor(trouble: Trouble | None = None) -> Mapping[str, Any]:
    return shown.vendor("vanceai", trouble, _AT)


_DATA: Mapping[EventType, Callable[[], Mapping[str, Any]]] = {
    EventType.JOB_QUEUED: lambda: _job(_QUEUED),
    EventType.JOB_SUBMITTED: lambda: _job(_RUNNING),
    EventType.JOB_PROGRESSED: lambda: _job(replace(_RUNNING, progress=60)),
    EventType.JOB_SUCCEEDED: lambda: _job(_SUCCEEDED, "succeeded"),
    EventType.JOB_FAILED: lambda: _job(_FAILED, "failed"),
    EventType.JOB_CANCELED: lambda: _job(replace(_RUNNING, state=JobState.CANCELED, finished_at=_AT + 2_000)),
    EventType.ENDPOINT_DISABLED: lambda: shown.endpoint(
        replace(_ENDPOINT, state=EndpointState.DISABLED, disabled_reason="gone")
    ),
    EventType.ENDPOINT_RECOVERED: lambda: shown.endpoint(_ENDPOINT),
    EventType.DELIVERY_EXHAUSTED: lambda: shown.delivery(_DELIVERY),
    EventType.VENDOR_UNAVAILABLE: lambda: _vendor(Trouble(Kind.REFUSED, _AT, "submit", ErrorClass.AUTH, "30001")),
    EventType.VENDOR_RECOVERED: lambda: _vendor(),
    EventType.VENDOR_CREDITS_LOW: lambda: _vendor(
        Trouble(Kind.LOW, _AT, "look", ErrorClass.CREDITS, "", credits="12.000")
    ),
}

_PLACES = {event_type: place for place, event_type in enumerate(EventType)}


def sample(event_type: EventType) -> answers.Event:
    """An event as a subscriber of this type receives it; always the same.

    Each type's has an id of its own: a tool that is shown several of them takes two with one id for one event.
    """
    event_id = f"evt_{_ID}{_PLACES[event_type]:02}"
    return cast("answers.Event", envelope(event_id, event_type, _AT + 9_320, 4711, _DATA[event_type]()))


def sample_test_shot() -> answers.Event:
    return cast("answers.Event", envelope(f"evt_{_ID}t8", TEST_TYPE, _AT, 0, shown.endpoint(_ENDPOINT)))


def hook() -> subscriptions.Hook:
    terms = replace(_ENDPOINT.terms, url="https://flows.example/hooks/1", events=("job.succeeded",), format=Format.FLAT)
    return shown.hook(replace(_ENDPOINT, terms=terms))


def asset() -> answers.Asset:
    return shown.asset(_PICTURE, _LINKS)
