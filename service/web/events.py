"""Events and deliveries: the ordered log, and the ledger of who has what."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from schemas.delivery import Delivery, DeliveryState
from schemas.event import EventType
from schemas.problem import not_found
from service.pipeline import shown
from service.store import deliveries, events
from service.store.database import Reader
from service.store.keys import Principal
from service.web.site import NEWEST, Answer, bad_cursor, limit_of, page, query_choice, query_int, site_of


async def index(request: Request, who: Principal) -> Response:
    site, limit = site_of(request), limit_of(request)
    after = query_int(request, "after", 0, 0, NEWEST)
    chosen = query_choice(request, "type", list(EventType))
    found = await site.core.db.read(events.after, who.project, after, chosen, limit + 1)
    return page([shown.event(entry) for entry in found], limit, cursor="sequence")


async def show(request: Request, who: Principal) -> Response:
    site = site_of(request)
    body = await site.core.db.read(_with_ledger, who.project, request.path_params["id"])
    if body is None:
        raise not_found("event")
    return Answer(body)


async def _with_ledger(reader: Reader, project: int, public_id: str) -> dict[str, Any] | None:
    event = await events.get(reader, project, public_id)
    if event is None:
        return None
    owed = await deliveries.of_event(reader, event.row)
    return {
        **shown.event(event),
        "status": _status(owed),
        "deliveries": [shown.delivery(entry) for entry in owed],
    }


def _status(owed: Sequence[Delivery]) -> str:
    """`delivered` to all, `pending`, or `undelivered`: the deliveries say to whom and why."""
    states = {entry.state for entry in owed}
    if DeliveryState.PENDING in states:
        return "pending"
    return "delivered" if states <= {DeliveryState.DELIVERED} else "undelivered"


async def deliveries_index(request: Request, who: Principal) -> Response:
    site, limit = site_of(request), limit_of(request)
    chosen = deliveries.Filter(
        endpoint=request.query_params.get("endpoint"),
        event=request.query_params.get("event"),
        state=query_choice(request, "state", list(DeliveryState)),
    )
    cursor = request.query_params.get("after")
    return page(await site.core.db.read(_page, who.project, chosen, cursor, limit + 1), limit)


async def _page(
    reader: Reader, project: int, chosen: deliveries.Filter, cursor: str | None, limit: int
) -> list[dict[str, Any]]:
    before = NEWEST
    if cursor is not None:
        last = await deliveries.get(reader, project, cursor)
        if last is None:
            raise bad_cursor()
        before = last.row
    return [shown.delivery(entry) for entry in await deliveries.listed(reader, project, chosen, before, limit)]


async def delivery_show(request: Request, who: Principal) -> Response:
    body = await site_of(request).core.db.read(_with_attempts, who.project, request.path_params["id"])
    if body is None:
        raise not_found("delivery")
    return Answer(body)


async def _with_attempts(reader: Reader, project: int, public_id: str) -> dict[str, Any] | None:
    delivery = await deliveries.get(reader, project, public_id)
    if delivery is None:
        return None
    past = await deliveries.attempts(reader, delivery.row)
    return {**shown.delivery(delivery), "attempts": [shown.attempt(entry) for entry in past]}
