"""Answers that do not end: the log as it is written, and an endpoint's deliveries for whoever comes for them."""

from collections.abc import AsyncGenerator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from schemas import subscriptions
from schemas.endpoint import STREAM, Endpoint, EndpointState
from schemas.event import EventType, rfc3339
from schemas.problem import FieldError, Problem, invalid
from schemas.stream import StreamAnswer
from service.clock import Clock
from service.pipeline.streams import Outlet
from service.store import endpoints, projects
from service.store.database import Reader, StoreUnavailable
from service.store.keys import Principal
from service.web import sse
from service.web.cursor import end_of_log
from service.web.endpoints import find
from service.web.lists import Begin
from service.web.query import Query
from service.web.site import Answer, Site, read_model, site_of
from service.web.sse import EventStream, Line

LAST_EVENT_ID = "Last-Event-ID"


async def events(request: Request, who: Principal) -> Response:
    """The log from a cursor on, and what is added to it: `Last-Event-ID`, else `after`, else from now on."""
    site, query = site_of(request), Query(request)
    chosen = query.choice("type", list(EventType))
    after = query.number("after", 0, 0, Begin.NEWEST) if query.has("after") else None
    query.check()
    # A client that reconnects still asks for the address it began with: the header is the newer of the two.
    begin = _last_event_id(request, after)
    cursor, last = await site.core.db.read(_begin, who.project, begin)
    line = Line(request, site.clock.now())
    return _opened(site, who, line, site.following.follow(line, who.project, cursor, last, chosen))


def _opened(site: Site, who: Principal, line: Line, pieces: AsyncGenerator[bytes, None]) -> EventStream:
    """Nothing is awaited from here until it runs: what takes a place leaves it. Raises Problem 503."""
    site.places.take(who, line)
    return EventStream(line, pieces, site.clock.now, partial(site.places.leave, who, line))


def _last_event_id(request: Request, otherwise: int | None) -> int | None:
    text = request.headers.get(LAST_EVENT_ID, "").strip()
    if not text:
        return otherwise
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > Begin.NEWEST:
        raise invalid([FieldError(LAST_EVENT_ID, f"must be a whole number from 0 to {int(Begin.NEWEST)}")])
    return int(text)


async def _begin(reader: Reader, project: int, begin: int | None) -> tuple[int, int]:
    """The cursor, and where the log ends now. Raises Problem 409, 410 where it can't be read on from there."""
    if begin is None:
        last = await projects.last_sequence(reader, project)
        return last, last
    return begin, await end_of_log(reader, project, begin)


async def deliveries(request: Request, who: Principal) -> Response:
    """Take an endpoint over: each attempt is a message, until this client goes or another comes."""
    site, endpoint = site_of(request), await _stream_of(request, who)
    if endpoint.state is EndpointState.DISABLED:
        raise Problem(409, "endpoint_disabled", "This endpoint is disabled; enable it first.")
    line = Line(request, site.clock.now(), feeds_endpoint=True)
    try:
        return _opened(site, who, line, _handed(site, endpoint, line))
    except Problem:
        # Whoever knocks has not gone away: what waits for him is kept.
        await site.core.db.write(endpoints.seen, [endpoint.row], site.clock.now())
        raise


async def _handed(site: Site, endpoint: Endpoint, line: Line) -> AsyncGenerator[bytes, None]:
    if site.core.bells.closed:
        yield sse.opening()
        return
    outlet = Outlet(line.wake, line.drop_if_stuck)
    try:
        if not await site.streams.connect(endpoint, outlet):
            outlet.close("deleted")
        # Only now: who sees it open has taken the endpoint over.
        yield sse.opening()
        async for piece in _pieces(outlet, line, site.clock):
            yield piece
    except StoreUnavailable:
        # It comes back, and by then perhaps the store has, too.
        return
    finally:
        await site.streams.disconnect(endpoint, outlet)


async def _pieces(outlet: Outlet, line: Line, clock: Clock) -> AsyncGenerator[bytes, None]:
    while not line.gone:
        line.wake.clear()
        if outlet.waiting:
            yield sse.message_of("delivery", outlet.waiting.popleft())
        elif outlet.closed is not None:
            # Why, so that two clients do not take the endpoint from each other for ever.
            yield sse.closed(outlet.closed)
            return
        elif not await clock.wait(line.wake, clock.now() + sse.HEARTBEAT_MS):
            yield sse.heartbeat()


async def answer(request: Request, who: Principal) -> Response:
    """What the receiver behind a stream said to a delivery: this is the attempt."""
    site = site_of(request)
    said = await read_model(request, StreamAnswer)
    came_to = await site.streams.answer(await _stream_of(request, who), said)
    if came_to is None:
        detail = "No answer to this delivery is waited for: it has been answered, or its time is up."
        raise Problem(409, "not_waited_for", detail)
    next_at = None if came_to.next_at is None else rfc3339(came_to.next_at)
    told: subscriptions.StreamAnswered = {"outcome": came_to.outcome, "next_attempt_at": next_at}
    return Answer(told)


async def _stream_of(request: Request, who: Principal) -> Endpoint:
    endpoint = await find(request, who)
    if endpoint.kind != STREAM:
        raise Problem(409, "not_a_stream", f"This endpoint's kind is {endpoint.kind}: it is sent to its URL.")
    return endpoint
