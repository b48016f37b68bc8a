"""REST hooks: how Zapier, n8n and Make subscribe, look whether they still are, and unsubscribe.

A hook is an endpoint, and is shown at `/v1/endpoints` too. Here it is made and found by what it subscribes to: to
subscribe twice is to subscribe once, for a tool that got no answer asks again; and to unsubscribe always succeeds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from handlers import standardwebhooks
from schemas import formats, ids
from schemas.endpoint import PATTERNS, Endpoint, EndpointState, Format, Terms, is_named
from schemas.event import Event, EventType
from schemas.hook import HookRequest
from schemas.problem import not_found
from service.pipeline import samples, shown
from service.store import endpoints, events, projects
from service.store.database import Reader, Tx
from service.store.keys import Principal
from service.store.projects import Project
from service.web.endpoints import refuse_too_many, remove, serve_again
from service.web.lists import Begin, Entry, listed
from service.web.query import Query
from service.web.site import Answer, must_be_public, read_model, site_of

DEFAULT_SAMPLES, MOST_SAMPLES = 10, 100


@dataclass(frozen=True, slots=True)
class New:
    """What a hook is made of, if it has to be made; `field` is the name that its URL was sent by."""

    id: str
    terms: Terms
    sealed_secret: str
    field: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    hook: Endpoint
    made: bool = False
    woken: bool = False


async def create(request: Request, who: Principal) -> Response:
    """201, or 200 where the same is subscribed to already: then, if it was disabled, it is served again."""
    site = site_of(request)
    wanted = await read_model(request, HookRequest)
    field, url = wanted.named_url
    must_be_public(site.guard, url, field)
    now, vault = site.clock.now(), site.core.vault
    public_id = ids.new_id("ep", now)
    terms = wanted.terms(vault.seal(public_id, json.dumps({})))
    new = New(public_id, terms, vault.seal(public_id, standardwebhooks.new_secret()), field)
    subscribed = await site.core.db.write(subscribe, who.project, new, now)
    hook = subscribed.hook
    if subscribed.woken:
        site.deliver.endpoint_changed(hook.row, anew=True)
        site.core.wake_deliveries()
    return Answer(shown.hook(hook), 201 if subscribed.made else 200, {"Location": f"/v1/hooks/{hook.id}"})


async def subscribe(tx: Tx, project: int, new: New, now: int) -> Subscribed:
    """Raises Problem 422 where the project has too many endpoints."""
    # Whoever subscribes to the same at the same time waits here, and finds what the first has made.
    await projects.lock(tx, project)
    hook = await endpoints.hook(tx, project, new.terms)
    if hook is None:
        await refuse_too_many(tx, project, new.field)
        made = await endpoints.add(tx, project, new.id, "webhook", new.terms, new.sealed_secret, now, None, hook=True)
        return Subscribed(made, made=True)
    if hook.state is not EndpointState.DISABLED:
        return Subscribed(hook)
    await serve_again(tx, hook, now)
    awake = await endpoints.by_row(tx, hook.row)
    assert awake is not None, "the project is locked"
    return Subscribed(awake, woken=True)


async def index(request: Request, who: Principal) -> Response:
    return await listed(request, who, "hooks", Begin.OLDEST, partial(_page, who.project))


async def _page(project: int, reader: Reader, after: int, limit: int) -> list[Entry]:
    found = await endpoints.listed(reader, project, after, limit, hooks_only=True)
    return [Entry(entry.row, shown.hook(entry)) for entry in found]


async def _find(request: Request, who: Principal) -> Endpoint | None:
    found = await site_of(request).core.db.read(endpoints.get, who.project, request.path_params["id"])
    return found if found is not None and found.hook is not None else None


async def show(request: Request, who: Principal) -> Response:
    """n8n asks by this whether it has to subscribe anew."""
    hook = await _find(request, who)
    if hook is None:
        raise not_found("hook")
    return Answer(shown.hook(hook))


async def delete(request: Request, who: Principal) -> Response:
    """204 whatever the id: a tool that unsubscribes twice, or from what is long gone, must not be stuck on it."""
    site = site_of(request)
    hook = await _find(request, who)
    if hook is not None:
        await site.core.db.write(remove, hook, site.clock.now())
        site.deliver.endpoint_changed(hook.row)
    return Response(status_code=204)


async def samples_index(request: Request, who: Principal) -> Response:
    """Recent events, newest first, just as a hook is sent them; a made one of each type where there are none yet."""
    query = Query(request)
    pattern = query.choice("event", sorted(PATTERNS), required=True)
    form = query.choice("format", list(Format)) or Format.FLAT
    limit = query.number("limit", DEFAULT_SAMPLES, 1, MOST_SAMPLES)
    query.check()
    types = [name for name in EventType if is_named(name, [pattern or ""])]
    core = site_of(request).core
    project, found = await core.db.read(_recent, who.project, types, limit)
    payloads = [event.payload for event in found] or [json.dumps(samples.sample(name)) for name in types[:limit]]
    source = formats.source(core.installation, project.id)
    bodies = [formats.body(Format(form), payload.encode(), source)[0] for payload in payloads]
    return Answer([json.loads(body) for body in bodies])


async def _recent(reader: Reader, project: int, types: Sequence[str], limit: int) -> tuple[Project, Sequence[Event]]:
    return await projects.get(reader, project), await events.recent(reader, project, types, limit)
