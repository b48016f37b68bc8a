"""Events and deliveries: the ordered log, and the ledger of who has what."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from schemas.delivery import Delivery, DeliveryState
from schemas.event import EventType
from schemas.problem import not_found
from service.pipeline import shown
from service.pipeline.core import log_topic
from service.store import deliveries, events
from service.store.database import Reader
from service.store.keys import Principal
from service.web.cursor import LogPage, read_log
from service.web.lists import Begin, Entry, envelope, limit_of, listed
from service.web.query import Query
from service.web.site import Answer, site_of
from service.web.waiting import LONGEST_SECONDS


async def index(request: Request, who: Principal) -> Response:
    """The log from `after` on, oldest first; its cursor is the sequence number.

    With `wait` it is read without end: an empty answer comes only when the time is up, and `next` always says where to
    go on. Without, it is a list like any other: `next` is null once nothing more is there.
    """
    site, query = site_of(request), Query(request)
    limit, after = limit_of(query), query.number("after", 0, 0, Begin.NEWEST)
    chosen = query.choice("type", list(EventType))
    follows, wait = query.has("wait"), query.number("wait", 0, 0, LONGEST_SECONDS)
    query.check()

    async def look() -> LogPage:
        return await site.core.db.read(read_log, who.project, after, chosen, limit + 1)

    if wait:
        topic = log_topic(who.project, chosen)
        found = await site.waiting.until(request, who.project, topic, wait, look, _has_some)
    else:
        found = await look()
    told = [shown.event(entry) for entry in found.events[:limit]]
    if len(found.events) > limit:
        return envelope(told, str(told[-1]["sequence"]))
    # All that this view held has been looked through, the other types too: who follows need not see it again.
    return envelope(told, str(found.last) if follows else None)


def _has_some(log: LogPage) -> bool:
    return bool(log.events)


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
    ledger = await deliveries.ledger(reader, event.row)
    return {
        **shown.event(event),
        "status": _status([delivery for delivery, _ in ledger]),
        "deliveries": [
            {**shown.delivery(delivery), "last_attempt": None if last is None else shown.attempt(last)}
            for delivery, last in ledger
        ],
    }


def _status(owed: Sequence[Delivery]) -> str:
    """`delivered` to all, `pending`, or `undelivered`: the deliveries say to whom and why."""
    if any(entry.state is DeliveryState.PENDING for entry in owed):
        return "pending"
    # Whoever has it has it, though sending it once more may have failed.
    return "delivered" if all(entry.delivered_at is not None for entry in owed) else "undelivered"


async def deliveries_index(request: Request, who: Principal) -> Response:
    query = Query(request)
    chosen = deliveries.Filter(
        endpoint=query.text("endpoint"),
        event=query.text("event"),
        state=query.choice("state", list(DeliveryState)),
    )
    return await listed(request, who, "deliveries", Begin.NEWEST, partial(_page, who.project, chosen), query)


async def _page(project: int, chosen: deliveries.Filter, reader: Reader, before: int, limit: int) -> list[Entry]:
    found = await deliveries.listed(reader, project, chosen, before, limit)
    return [Entry(entry.row, shown.delivery(entry)) for entry in found]


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
