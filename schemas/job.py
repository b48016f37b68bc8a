"""The job: a user's request to run one operation, and what became of it."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

from schemas import ids
from schemas.asset import ImageInfo, StoredFile

MAX_PARAMS_BYTES = 32 * 1024


class JobState(StrEnum):
    QUEUED = "queued"
    STAGING = "staging"
    SUBMITTING = "submitting"
    RUNNING = "running"
    FETCHING = "fetching"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})


class ErrorClass(StrEnum):
    INPUT = "input"
    MODERATION = "moderation"
    AUTH = "auth"
    CREDITS = "credits"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    EXPIRED = "expired"
    LOST = "lost"
    VENDOR = "vendor"
    UNCONFIRMED = "unconfirmed"
    UNKNOWN = "unknown"


class Charged(StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


# `class` is Python's own word, so this one is made by call.
JobError = TypedDict(
    "JobError",
    {
        "class": ErrorClass,
        "code": Annotated[str, Field(description="The vendor's own, where it gave one.")],
        "message": str,
        "retryable": Annotated[bool, Field(description="Whether a new try can help.")],
    },
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed. `code` is the vendor's own; `retryable` is true only where a new try can help."""

    error_class: ErrorClass
    code: str
    message: str
    retryable: bool = False

    def as_json(self) -> JobError:
        return {"class": self.error_class, "code": self.code, "message": self.message, "retryable": self.retryable}


def _http_url(value: str) -> str:
    if not value.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return value


HttpUrl = Annotated[
    str,
    Field(min_length=8, max_length=2048, json_schema_extra={"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}),
    AfterValidator(_http_url),
]


class JobInput(BaseModel):
    """One picture, named by exactly one of `url`, `asset` or `job`."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("url", "asset", "job")]},
    )

    url: HttpUrl | None = Field(None, description="An address that Wirephoto fetches right after the 202.")
    pass_on: bool = Field(False, alias="pass", description="Hand the link on unseen, to a vendor that takes links.")
    asset: str | None = Field(None, description="An asset of this project: its id.")
    job: str | None = Field(None, description="A finished job of this project, whose result is the input: its id.")
    output: str | None = Field(None, description="Which of that job's results; `image` by default.")

    @model_validator(mode="after")
    def _one_source(self) -> "JobInput":
        named = [name for name in ("url", "asset", "job") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError("give exactly one of url, asset, job" + (f", not {' and '.join(named)}" if named else ""))
        if self.pass_on and self.url is None:
            raise ValueError("pass goes with url")
        if self.output is not None and self.job is None:
            raise ValueError("output goes with job")
        if self.asset is not None and not ids.looks_like("ast", self.asset):
            raise ValueError("asset is not an asset id")
        if self.job is not None and not ids.looks_like("job", self.job):
            raise ValueError("job is not a job id")
        return self


MetadataKey = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$")]
JobMetadata = Annotated[dict[MetadataKey, Annotated[str, Field(max_length=500)]], Field(max_length=50)]
Channel = Annotated[str, Field(min_length=1, max_length=128)]


JobEvent = Literal["job.queued", "job.submitted", "job.progressed", "job.succeeded", "job.failed", "job.canceled"]


def _small(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    # They stand in every event of the job.
    if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) > MAX_PARAMS_BYTES:
        raise ValueError(f"must not be larger than {MAX_PARAMS_BYTES} bytes as JSON")
    return value


_OPERATION = re.compile(r"[a-z0-9_]+/[A-Za-z0-9_\-]+")


def _operation(value: str) -> str:
    if not _OPERATION.fullmatch(value):
        raise ValueError("must be vendor/name, such as vanceai/enlarge3")
    return value


Params = Annotated[dict[str, JsonValue], AfterValidator(_small)]


class JobRequest(BaseModel):
    """The body of `POST /v1/jobs`. Inputs may also come as file parts of a multipart request."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "operation": "vanceai/enlarge3",
                    "inputs": {"image": {"url": "https://shop.example/cat.jpg"}},
                    "params": {"scale": 2, "suppress_noise": 26},
                    "metadata": {"product_id": "8411"},
                    "webhook": "https://shop.example/only-for-this-job",
                }
            ]
        },
    )

    operation: Annotated[str, AfterValidator(_operation)] = Field(
        max_length=100, examples=["vanceai/enlarge3"], json_schema_extra={"pattern": f"^{_OPERATION.pattern}$"}
    )
    inputs: dict[str, JobInput] = Field(default_factory=dict, max_length=8)
    params: Params = Field(default_factory=dict, description="By the vendor's own names.")
    extra: Params = Field(default_factory=dict, description="Raw params, passed through unchecked.")
    metadata: JobMetadata = Field(default_factory=dict)
    channels: list[Channel] = Field(default_factory=list, max_length=10)
    webhook: HttpUrl | None = Field(None, description="A URL for this job's events only.")
    webhook_events: list[JobEvent] | None = Field(None, min_length=1, max_length=6)

    @model_validator(mode="after")
    def _events_need_webhook(self) -> "JobRequest":
        if self.webhook_events is not None and self.webhook is None:
            raise ValueError("webhook_events goes with webhook")
        return self


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store holds it. Times in milliseconds since 1970."""

    row: int
    id: str
    project: int
    vendor: str
    operation: str
    state: JobState
    request: JobRequest
    progress: int | None
    tries: int
    faults: int
    submissions: int
    submission: int | None  # the row of the current one
    vendor_task_id: str | None
    created_at: int
    staged_at: int | None
    submitted_at: int | None
    finished_at: int | None
    failure: Failure | None
    credits: str | None
    charged: Charged
    possible_duplicate_at: int | None
    retry_of: str | None = None  # the id of the job that this one is another try of


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a job: as the user named it, and the asset or the link it became."""

    name: str
    source: dict[str, Any]
    asset: int | None
    link: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """One output of a finished task: where the vendor keeps it, until when, and what we hold of it."""

    row: int
    name: str
    source: dict[str, Any]
    dies_at: int | None
    kept: "Kept | None"


@dataclass(frozen=True, slots=True)
class Kept:
    """A result whose bytes are durably ours."""

    at: int
    file: StoredFile
    image: ImageInfo
