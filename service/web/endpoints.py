"""Endpoints: subscribers' registrations, their secrets, and a test shot."""

import json
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from handlers import standardwebhooks
from handlers.destinations.contract import Message, NoSteps
from schemas import answers, ids
from schemas.delivery import Outcome
from schemas.endpoint import Endpoint, EndpointPatch, EndpointRequest, Terms
from schemas.event import envelope, rfc3339
from schemas.event_types import TEST_TYPE
from schemas.problem import FieldError, invalid, not_found
from service.pipeline import shown
from service.pipeline.deliver import target_of
from service.store import deliveries, endpoints, projects
from service.store.database import Reader, Tx
from service.store.keys import Principal
from service.web.lists import Begin, Entry, listed
from service.web.site import Answer, Site, must_be_public, read_model, site_of

# Each event of a project is held against all of its endpoints.
MOST_PER_PROJECT = 1_000


async def create(request: Request, who: Principal) -> Response:
    site = site_of(request)
    wanted = await read_model(request, EndpointRequest)
    must_be_public(site.guard, wanted.url, "url")
    now = site.clock.now()
    public_id = ids.new_id("ep", now)
    secret = standardwebhooks.new_secret()
    vault = site.core.vault
    terms = wanted.terms(vault.seal(public_id, json.dumps(wanted.headers)))
    sealed = vault.seal(public_id, secret)
    endpoint = await site.core.db.write(_add, who.project, public_id, wanted.kind, terms, sealed, now)
    body: answers.NewEndpoint = {**shown.endpoint(endpoint), "secret": secret}
    return Answer(body, 201, {"Location": f"/v1/endpoints/{endpoint.id}"})


async def _add(tx: Tx, project: int, public_id: str, kind: str, terms: Terms, sealed_secret: str, now: int) -> Endpoint:
    await projects.lock(tx, project)
    if await endpoints.count(tx, project) >= MOST_PER_PROJECT:
        reason = f"this project has {MOST_PER_PROJECT} endpoints, which is the most it may have"
        raise invalid([FieldError("url", reason)])
    return await endpoints.add(tx, project, public_id, kind, terms, sealed_secret, now, None)


async def index(request: Request, who: Principal) -> Response:
    return await listed(request, who, "endpoints", Begin.OLDEST, partial(_page, who.project))


async def _page(project: int, reader: Reader, after: int, limit: int) -> list[Entry]:
    found = await endpoints.listed(reader, project, after, limit)
    return [Entry(entry.row, shown.endpoint(entry)) for entry in found]


async def _find(request: Request, who: Principal) -> Endpoint:
    endpoint = await site_of(request).core.db.read(endpoints.get, who.project, request.path_params["id"])
    if endpoint is None:
        raise not_found("endpoint")
    return endpoint


async def show(request: Request, who: Principal) -> Response:
    return Answer(shown.endpoint(await _find(request, who)))


async def secret(request: Request, who: Principal) -> Response:
    endpoint = await _find(request, who)
    told: answers.SigningSecret = {"secret": site_of(request).core.vault.open(endpoint.id, endpoint.sealed_secret)}
    return Answer(told)


async def webhook_secret(request: Request, who: Principal) -> Response:
    """What per-job webhooks of this project are signed with."""
    core = site_of(request).core
    owner, sealed = await core.db.read(projects.sealed_webhook_secret, who.project)
    return Answer({"secret": core.vault.open(owner, sealed)})


async def change(request: Request, who: Principal) -> Response:
    site = site_of(request)
    patch = await read_model(request, EndpointPatch)
    if patch.wrong_nulls:
        raise invalid([FieldError(name, "can't be null; leave it out to keep it") for name in patch.wrong_nulls])
    if patch.url is not None:
        must_be_public(site.guard, patch.url, "url")
    endpoint = await _find(request, who)
    await site.core.db.write(_change, site, endpoint, patch)
    site.deliver.endpoint_changed(endpoint.row)
    return Answer(shown.endpoint(await _find(request, who)))


async def _change(tx: Tx, site: Site, endpoint: Endpoint, patch: EndpointPatch) -> None:
    await projects.lock(tx, endpoint.project)
    current = await endpoints.by_row(tx, endpoint.row)
    if current is None:
        raise not_found("endpoint")
    sealed = None if patch.headers is None else site.core.vault.seal(current.id, json.dumps(patch.headers))
    await endpoints.change(tx, current.row, patch.changed(current.terms, sealed), site.clock.now())


async def enable(request: Request, who: Principal) -> Response:
    """A disabled endpoint is served again, and what was held for it is sent."""
    site = site_of(request)
    endpoint = await _find(request, who)
    await site.core.db.write(_enable, endpoint, site.clock.now())
    site.deliver.endpoint_changed(endpoint.row)
    site.deliver.wake_scan()
    return Answer(shown.endpoint(await _find(request, who)))


async def _enable(tx: Tx, endpoint: Endpoint, now: int) -> None:
    await projects.lock(tx, endpoint.project)
    if await endpoints.enable(tx, endpoint.row, now):
        await deliveries.unhold(tx, endpoint.row, now)


async def delete(request: Request, who: Principal) -> Response:
    site = site_of(request)
    endpoint = await _find(request, who)
    await site.core.db.write(_delete, endpoint, site.clock.now())
    site.deliver.endpoint_changed(endpoint.row)
    site.replays.wake()
    return Response(status_code=204)


async def _delete(tx: Tx, endpoint: Endpoint, now: int) -> None:
    """Gone for its subscriber; what it was still owed says so in the ledger."""
    await projects.lock(tx, endpoint.project)
    if await endpoints.delete(tx, endpoint.row, now):
        await deliveries.discard(tx, endpoint.row, now)


async def test(request: Request, who: Principal) -> Response:
    """One signed message right now, outside of the log; the answer tells what the receiver said."""
    site = site_of(request)
    endpoint = await _find(request, who)
    now = site.clock.now()
    event_id = ids.new_id("evt", now)
    body = json.dumps(envelope(event_id, TEST_TYPE, now, 0, shown.endpoint(endpoint)), ensure_ascii=False)
    target = target_of(endpoint, site.core.vault)
    message = Message(event_id, TEST_TYPE, body.encode(), now)
    attempt = await site.destinations[endpoint.kind].send(message, target, NoSteps())
    told: answers.TestShot = {
        "delivered": attempt.outcome is Outcome.DELIVERED,
        "event": event_id,
        "at": rfc3339(attempt.started_at),
        "status": attempt.status,
        "ms": attempt.ms,
        "error": attempt.error,
        "response_head": attempt.response_head,
    }
    return Answer(told)
