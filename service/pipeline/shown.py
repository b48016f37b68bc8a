"""The one JSON form of each noun, for answers and events alike."""

import json
from collections.abc import Sequence
from typing import Any

from schemas import answers, subscriptions
from schemas.asset import Asset
from schemas.delivery import Delivery, PastAttempt
from schemas.endpoint import Endpoint
from schemas.event import Event, EventType, rfc3339
from schemas.job import Input, Job
from schemas.trouble import HARMLESS, Trouble
from service.security.links import AssetLinks
from service.store import callbacks, jobs, results
from service.store.callbacks import Heard
from service.store.database import Reader


def when(at: int | None) -> str | None:
    return None if at is None else rfc3339(at)


def asset(held: Asset, links: AssetLinks) -> answers.Asset:
    return {
        "id": held.id,
        "object": "asset",
        "url": links.url(held.id, held.expires_at),
        "content_type": held.content_type,
        "bytes": held.bytes,
        "width": held.width,
        "height": held.height,
        "sha256": held.sha256,
        "filename": held.filename,
        "created_at": rfc3339(held.created_at),
        "expires_at": rfc3339(held.expires_at),
    }


def _output(name: str, held: Asset, links: AssetLinks) -> answers.Output:
    return {
        "name": name,
        "asset": held.id,
        "url": links.url(held.id, held.expires_at),
        "content_type": held.content_type,
        "bytes": held.bytes,
        "width": held.width,
        "height": held.height,
        "sha256": held.sha256,
    }


async def job(reader: Reader, shown: Job, links: AssetLinks) -> answers.Job:
    """A job with all that other rows say of it."""
    outputs = await results.assets(reader, shown.row)
    heard = await callbacks.heard(reader, shown.row)
    inputs = await jobs.inputs_of(reader, shown.row)
    return job_with(shown, inputs, outputs, heard, links)


def job_with(
    shown: Job,
    inputs: Sequence[Input],
    outputs: Sequence[tuple[str, Asset]],
    heard: Sequence[Heard],
    links: AssetLinks,
) -> answers.Job:
    return {
        "id": shown.id,
        "object": "job",
        "operation": shown.operation,
        "vendor": shown.vendor,
        "state": shown.state,
        "progress": shown.progress,
        "vendor_task_id": shown.vendor_task_id,
        "submissions": shown.submissions,
        "retry_of": shown.retry_of,
        "created_at": rfc3339(shown.created_at),
        "submitted_at": when(shown.submitted_at),
        "finished_at": when(shown.finished_at),
        "inputs": {entry.name: entry.source for entry in inputs},  # type: ignore[misc]  # as accept wrote it
        "params": shown.request.params,
        "extra": shown.request.extra,
        "metadata": shown.request.metadata,
        "channels": shown.request.channels,
        "outputs": [_output(name, held, links) for name, held in outputs],
        "error": None if shown.failure is None else shown.failure.as_json(),
        "billing": {
            "credits": shown.credits,
            "charged": shown.charged,
            "possible_duplicate": shown.possible_duplicate_at is not None,
        },
        "callbacks": [{"via": entry.via, "at": rfc3339(entry.received_at), "state": entry.state} for entry in heard],
    }


def event(written: Event) -> dict[str, Any]:
    """Read back from the signed bytes, so that the log and the deliveries say the same."""
    body: dict[str, Any] = json.loads(written.payload)
    return body


def endpoint(registered: Endpoint) -> subscriptions.Endpoint:
    """Without its secrets: of its headers only the names."""
    terms = registered.terms
    schedule, limit = terms.retry_schedule, terms.rate_limit
    return {
        "id": registered.id,
        "object": "endpoint",
        "url": terms.url or None,
        "kind": registered.kind,
        "config": {} if terms.config is None else dict(terms.config.shown),
        "credentials": [] if terms.config is None else list(terms.config.credentials),
        "events": list(terms.events),
        "channels": list(terms.channels),
        "filter": dict(terms.filter),
        "description": terms.description,
        "headers": list(terms.header_names),
        "format": terms.format,
        "signatures": list(terms.signatures),
        "rate_limit": None if limit is None else {"requests": limit.requests, "seconds": limit.seconds},
        "max_in_flight": terms.max_in_flight,
        "ordered": terms.ordered,
        "retry_schedule": None if schedule is None else list(schedule),
        "hook": registered.hook is not None,
        "state": registered.state,
        "disabled_reason": registered.disabled_reason,
        "health": {"failing_since": when(registered.failing_since), "broken_since": when(registered.broken_at)},
        "created_at": rfc3339(registered.created_at),
        "updated_at": rfc3339(registered.updated_at),
    }


def hook(subscribed: Endpoint) -> subscriptions.Hook:
    terms = subscribed.terms
    return {
        "id": subscribed.id,
        "object": "hook",
        "hookUrl": terms.url,
        "events": list(terms.events),
        "filter": dict(terms.filter),
        "format": terms.format,
        "state": subscribed.state,
        "disabled_reason": subscribed.disabled_reason,
        "created_at": rfc3339(subscribed.created_at),
    }


def delivery(owed: Delivery) -> answers.Delivery:
    return {
        "id": owed.id,
        "object": "delivery",
        "event": owed.event,
        "event_type": EventType(owed.event_type),
        "endpoint": owed.endpoint,
        "state": owed.state,
        "attempt_count": owed.attempts,
        "next_attempt_at": when(owed.retry_at),
        "created_at": rfc3339(owed.created_at),
        "finished_at": when(owed.finished_at),
        "delivered_at": when(owed.delivered_at),
        "undelivered": owed.undelivered,
    }


def vendor(name: str, trouble: Trouble | None, now: int) -> answers.VendorStatus:
    """`trouble` None: it is well, since `now`."""
    return {
        "id": name,
        "object": "vendor",
        "healthy": trouble is None or trouble.kind in HARMLESS,
        "reason": None if trouble is None else trouble.reason,
        "since": rfc3339(now if trouble is None else trouble.since),
        "credits": None if trouble is None else trouble.credits,
    }


def attempt(past: PastAttempt) -> answers.Attempt:
    made = past.attempt
    return {
        "id": past.id,
        "number": past.number,
        "at": rfc3339(made.started_at),
        "outcome": made.outcome,
        "status": made.status,
        "ms": made.ms,
        "error": made.error,
        "response_head": made.response_head,
    }
