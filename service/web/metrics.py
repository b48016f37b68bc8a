"""`/metrics`: what was counted since the start, and how things stand now."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from schemas.endpoint import EndpointState
from schemas.problem import Problem
from service.metrics import Metrics
from service.security import keys as security_keys
from service.store import deliveries, endpoints, jobs, submissions
from service.store.database import Reader, StoreUnavailable
from service.vendors import Vendors
from service.web.site import site_of


@dataclass(frozen=True, slots=True)
class _Standing:
    jobs_waiting: list[jobs.Queue]
    jobs_in_hand: list[jobs.Queue]
    tasks_open: dict[str, int]
    deliveries: deliveries.Backlog
    endpoints: Mapping[str, int]


async def index(request: Request) -> Response:
    """Open to everyone who reaches the port, unless METRICS_TOKEN is set. Raises Problem 401."""
    site = site_of(request)
    if site.metrics_token is not None and not _knows(request, site.metrics_token):
        headers = {"WWW-Authenticate": 'Bearer realm="wirephoto metrics"'}
        raise Problem(401, "unauthenticated", "Send METRICS_TOKEN: Authorization: Bearer …", headers=headers)
    metrics, now = site.core.metrics, site.clock.now()
    try:
        standing = await site.core.db.read(_standing)
    except StoreUnavailable:
        # What was counted can be told all the same, and is never more wanted than now.
        standing = None
    # From here to the text nothing is awaited: two scrapes at once do not mix.
    metrics.requests_waiting.set(site.waiting.count)
    of_deliveries = len(site.streams.connected)
    metrics.streams.set(max(site.places.open - of_deliveries, 0), "events")
    metrics.streams.set(of_deliveries, "deliveries")
    _set_vendors(metrics, site.vendors, now)
    _set(metrics, standing, now)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(metrics.registry), headers={"Content-Type": content_type})


def _knows(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and security_keys.same(given.strip(), token)


async def _standing(reader: Reader) -> _Standing:
    return _Standing(
        await jobs.waiting(reader),
        await jobs.in_hand(reader),
        await submissions.open_by_vendor(reader),
        await deliveries.backlog(reader),
        await endpoints.standing(reader),
    )


def _set_vendors(metrics: Metrics, vendors: Vendors, now: int) -> None:
    metrics.vendor_keep_alive.clear()
    for contracted in vendors:
        name, turns = contracted.name, contracted.turns
        metrics.vendor_paused.set(contracted.door.shut, name)
        metrics.vendor_waiting.set(turns.waiting, name)
        for state in turns.state():
            window = (name, state.window.scope, f"{state.window.seconds:g}")
            metrics.vendor_left.set(state.left, *window)
            metrics.vendor_size.set(state.window.requests, *window)
        if (due_at := turns.next_keep_alive_at()) is not None:
            metrics.vendor_keep_alive.set((due_at - now) / 1000, name)


def _set(metrics: Metrics, standing: _Standing | None, now: int) -> None:
    for level in metrics.of_the_store:
        level.clear()
    metrics.store_up.set(standing is not None)
    if standing is None:
        return
    for queue in standing.jobs_waiting:
        metrics.jobs_waiting.set(queue.count, queue.step, queue.vendor)
        metrics.jobs_overdue.set(_since(queue.oldest, now), queue.step, queue.vendor)
    for queue in standing.jobs_in_hand:
        metrics.jobs_in_hand.set(queue.count, queue.step, queue.vendor)
    for vendor, count in standing.tasks_open.items():
        metrics.tasks_open.set(count, vendor)
    backlog = standing.deliveries
    metrics.deliveries_waiting.set(backlog.waiting)
    metrics.deliveries_overdue.set(_since(backlog.next_due, now))
    metrics.deliveries_in_hand.set(backlog.in_hand)
    metrics.deliveries_oldest.set(_since(backlog.oldest_in_hand, now))
    for state in (*EndpointState, "broken"):
        metrics.endpoints.set(standing.endpoints.get(state, 0), state)
    metrics.deliveries_queued.set(backlog.queued)
    metrics.deliveries_held.set(backlog.held)
    metrics.deliveries_held_oldest.set(_since(backlog.held_since, now))


def _since(at: int | None, now: int) -> float:
    return 0.0 if at is None else max(now - at, 0) / 1000
