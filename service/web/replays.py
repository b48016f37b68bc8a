"""Once more: one delivery, or a range of the log for an endpoint, counted first where somebody asks."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from schemas.event import rfc3339
from schemas.problem import FieldError, invalid, not_found
from schemas.replay import LogBegin, Replay, ReplayAnswer, ReplayCount, ReplayRequest, Span
from service.pipeline import replay, shown
from service.pipeline.shown import when
from service.store import endpoints, events, replays
from service.store.database import Reader
from service.store.keys import Principal
from service.web.lists import Begin, Entry, listed
from service.web.query import Query
from service.web.site import Answer, read_json, site_of, validated


async def redeliver(request: Request, who: Principal) -> Response:
    """Under the same webhook-id, with its schedule begun anew."""
    site = site_of(request)
    public_id = request.path_params["id"]
    delivery = await site.core.db.write(replay.redeliver, who.project, public_id, site.clock.now())
    site.deliver.probe_now(delivery.endpoint_row)
    site.core.wake_deliveries()
    return Answer(shown.delivery(delivery), 202)


async def create(request: Request, who: Principal) -> Response:
    """A dry run is counted by the very code that goes through the range."""
    site = site_of(request)
    body = await read_json(request)
    endpoint = await site.core.db.read(endpoints.get, who.project, request.path_params["id"])
    if endpoint is None:
        raise not_found("endpoint")
    wanted = validated(body, ReplayRequest)
    now = site.clock.now()
    until = now if wanted.until is None else min(wanted.until, now)
    if wanted.since > until:
        raise invalid([FieldError("since", "must lie before until, and before now")])
    span = await site.core.db.read(replay.span_of, who.project, wanted.since, until, wanted.only)
    note = await site.core.db.read(_oldest, span)
    total = await site.replays.count(endpoint, span)
    if wanted.dry_run:
        counted: ReplayCount = {"count": total, "dry_run": True}
        if note is not None:
            counted["oldest"] = note
        return Answer(counted)
    made = await site.core.db.write(replay.begin, endpoint.row, span, total, now)
    site.replays.wake()
    told = _shown(made)
    if note is not None:
        told["oldest"] = note
    return Answer(told, 202, {"Location": f"/v1/replays/{made.id}"})


async def _oldest(reader: Reader, span: Span) -> LogBegin | None:
    """Where the log begins, if the range begins before it and something was there once."""
    sequence = await events.oldest(reader, span.project)
    if sequence == 1:
        return None
    first = await events.after(reader, span.project, sequence - 1, None, 1)
    at = first[0].created_at if first else None
    return None if at is not None and at <= span.since else {"sequence": sequence, "timestamp": when(at)}


async def index(request: Request, who: Principal) -> Response:
    query = Query(request)
    fetch = partial(_page, who.project, query.text("endpoint"))
    return await listed(request, who, "replays", Begin.NEWEST, fetch, query)


async def _page(project: int, endpoint: str | None, reader: Reader, before: int, limit: int) -> list[Entry]:
    found = await replays.listed(reader, project, endpoint, before, limit)
    return [Entry(entry.row, _shown(entry)) for entry in found]


async def show(request: Request, who: Principal) -> Response:
    found = await site_of(request).core.db.read(replays.get, who.project, request.path_params["id"])
    if found is None:
        raise not_found("replay")
    return Answer(_shown(found))


async def cancel(request: Request, who: Principal) -> Response:
    site = site_of(request)
    ended = await site.core.db.write(replay.cancel, who.project, request.path_params["id"], site.clock.now())
    return Answer(_shown(ended))


def _shown(found: Replay) -> ReplayAnswer:
    span = found.span
    return {
        "id": found.id,
        "object": "replay",
        "endpoint": found.endpoint_id,
        "since": rfc3339(span.since),
        "until": rfc3339(span.until),
        "only": span.which,
        "state": found.state,
        "total": found.total,
        "owed": found.owed,
        "pending": found.pending,
        "created_at": rfc3339(found.created_at),
        "finished_at": when(found.finished_at),
    }
