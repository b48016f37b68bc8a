"""What a vendor said of a task (callback), and what it means to us (update)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.job import Charged, Failure


class Via(StrEnum):
    """How a callback came."""

    WEBHOOK = "webhook"  # the vendor called us
    POLL = "poll"  # we asked: a simulated callback
    REPLY = "reply"  # a synchronous answer to the submission itself


@dataclass(frozen=True, slots=True)
class Callback:
    """A vendor's words, byte for byte; `status` is the HTTP status of an answer and None for a webhook."""

    via: Via
    body: bytes
    content_type: str = "application/json"
    status: int | None = None


class UpdateState(StrEnum):
    HINT = "hint"  # unsigned words: worth asking the vendor, worth nothing more
    RUNNING = "running"
    MISSING = "missing"  # the vendor does not know the task: perhaps not yet, perhaps not any more
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """A result at the vendor. `source` is what `Vendor.fetch` needs; `lives_seconds` how long it can be had there."""

    name: str
    source: Mapping[str, Any]
    lives_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """A callback's meaning. `raw_state` keeps the vendor's own word for the state, listed or not.

    Of a missing task, `failure` is what it comes to where it stays missing; without one it was lost.
    `ask_again_ms` is the least wait before the next question that the vendor wants, where it says so.
    """

    state: UpdateState
    raw_state: str | None = None
    progress: int | None = None
    task_id: str | None = None
    outputs: tuple[FoundOutput, ...] = ()
    failure: Failure | None = None
    charged: Charged = Charged.UNKNOWN
    credits: str | None = None
    ask_again_ms: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        return self.state in (UpdateState.SUCCEEDED, UpdateState.FAILED)
