"""How an endpoint is doing: what was tried and what came of it, how long its receiver takes, and what it is owed."""

from collections.abc import Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from schemas.delivery import ARRIVED, DeliveryState, Outcome
from schemas.endpoint import Endpoint
from schemas.event import rfc3339
from schemas.problem import not_found
from schemas.stats import EndpointStats, LastAttempt
from service.pipeline.retry import HOUR
from service.pipeline.shown import when
from service.store import endpoints, stats
from service.store.database import Reader
from service.store.keys import Principal
from service.store.stats import Last, Stats
from service.web.query import Query
from service.web.site import Answer, site_of

DEFAULT_HOURS, MOST_HOURS = 24, 168
_ENDED = frozenset(DeliveryState) - {DeliveryState.PENDING, DeliveryState.HELD}


async def show(request: Request, who: Principal) -> Response:
    site, query = site_of(request), Query(request)
    hours = query.number("hours", DEFAULT_HOURS, 1, MOST_HOURS)
    query.check()
    now = site.clock.now()
    since = now - hours * HOUR
    found = await site.core.db.read(partial(_look, who.project, request.path_params["id"], since))
    if found is None:
        raise not_found("endpoint")
    return Answer(_shown(*found, since, now))


async def _look(project: int, public_id: str, since: int, reader: Reader) -> tuple[Endpoint, Stats] | None:
    endpoint = await endpoints.get(reader, project, public_id)
    return None if endpoint is None else (endpoint, await stats.of_endpoint(reader, endpoint.row, since))


def _shown(endpoint: Endpoint, found: Stats, since: int, now: int) -> EndpointStats:
    tries = sum(found.attempts.values())
    ended = sum(count for state, count in found.deliveries.items() if state in _ENDED)
    return {
        "object": "endpoint_stats",
        "endpoint": endpoint.id,
        "state": endpoint.state,
        "since": rfc3339(since),
        "until": rfc3339(now),
        "sampled_since": when(found.sampled_since),
        "attempts": {
            "total": tries,
            "by_outcome": _counts(found.attempts),
            "success_rate": _rate(sum(found.attempts.get(outcome, 0) for outcome in ARRIVED), tries),
            "p50_ms": found.times["p50"],
            "p95_ms": found.times["p95"],
            "p99_ms": found.times["p99"],
        },
        "deliveries": {
            "total": sum(found.deliveries.values()),
            "by_state": _counts(found.deliveries),
            "success_rate": _rate(found.deliveries.get(DeliveryState.DELIVERED, 0), ended),
        },
        "pending": found.pending,
        "held": found.held,
        "oldest_pending_at": when(found.oldest_pending_at),
        "last_success": _last(found.last_success),
        "last_failure": _last(found.last_failure),
    }


def _counts(found: Mapping[Outcome, int] | Mapping[DeliveryState, int]) -> dict[str, int]:
    """What there was none of is left out."""
    return {str(name): count for name, count in sorted(found.items())}


def _rate(good: int, of: int) -> float | None:
    return round(good / of, 4) if of else None


def _last(tried: Last | None) -> LastAttempt | None:
    return None if tried is None else {"at": rfc3339(tried.at), "status": tried.status, "error": tried.error}
