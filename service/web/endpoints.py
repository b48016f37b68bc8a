"""Endpoints: subscribers' registrations, whether they are served now, and a test shot."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import cast

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from handlers import standardwebhooks
from handlers.destinations.contract import Checkable, Message, NoSteps
from handlers.http import origin
from schemas import ids, subscriptions
from schemas.delivery import ARRIVED
from schemas.endpoint import STREAM, Endpoint, EndpointState, Scheme, Target, Terms
from schemas.event import envelope, rfc3339
from schemas.event_types import TEST_TYPE
from schemas.problem import FieldError, Problem, invalid, not_found
from schemas.registration import EndpointPatch, EndpointRequest, TestRequest, default_filter
from schemas.shop import ShopConfig, changed, left_out
from service.pipeline import shown
from service.pipeline.core import Core
from service.pipeline.messages import written
from service.pipeline.signing import signing_key
from service.pipeline.target import sealed_config, shop_of, target_of
from service.store import deliveries, endpoints, lines, projects
from service.store.database import Reader, Tx
from service.store.keys import Principal
from service.web.lists import Begin, Entry, listed
from service.web.site import Answer, Site, field_errors, must_be_public, read_model, site_of

# What somebody waits for who tests a shop: until there is room for it, and for what is looked at.
ROOM_SECONDS = 10.0
LOOK_SECONDS = 20.0
AGAIN_SECONDS = 30
# Each event of a project is held against all of its endpoints.
MOST_PER_PROJECT = 1_000


async def create(request: Request, who: Principal) -> Response:
    site = site_of(request)
    wanted = await read_model(request, EndpointRequest)
    _must_be_public(site, wanted.url, wanted.config)
    now = site.clock.now()
    public_id = ids.new_id("ep", now)
    secret = standardwebhooks.new_secret()
    vault = site.core.vault
    config = None if wanted.config is None else sealed_config(vault, public_id, wanted.config)
    terms = wanted.terms(vault.seal(public_id, json.dumps(wanted.headers)), config)
    sealed = vault.seal(public_id, secret)
    endpoint = await site.core.db.write(_add, site.core, who.project, public_id, wanted.kind, terms, sealed)
    body: subscriptions.NewEndpoint = {**shown.endpoint(endpoint), "secret": secret}
    return Answer(body, 201, {"Location": f"/v1/endpoints/{endpoint.id}"})


def _must_be_public(site: Site, url: str | None, config: ShopConfig | None) -> None:
    if url is not None:
        must_be_public(site.guard, url, "url")
    if config is not None:
        must_be_public(site.guard, config.shop, "config.shop")


async def _add(
    tx: Tx, core: Core, project: int, public_id: str, kind: str, terms: Terms, sealed_secret: str
) -> Endpoint:
    await projects.lock(tx, project)
    await refuse_too_many(tx, project, "url" if terms.url else "kind")
    await _key_for(tx, core, project, terms)
    return await endpoints.add(tx, project, public_id, kind, terms, sealed_secret, core.clock.now(), None)


async def refuse_too_many(tx: Tx, project: int, field: str) -> None:
    """`field`: what is told to be at fault. The project is locked."""
    if await endpoints.count(tx, project) >= MOST_PER_PROJECT:
        reason = f"this project has {MOST_PER_PROJECT} endpoints, which is the most it may have"
        raise invalid([FieldError(field, reason)])


async def _key_for(tx: Tx, core: Core, project: int, terms: Terms) -> None:
    """What is signed with the project's key finds one there."""
    if Scheme.V1A in terms.signatures:
        await signing_key(tx, core, project)


async def index(request: Request, who: Principal) -> Response:
    return await listed(request, who, "endpoints", Begin.OLDEST, partial(_page, who.project))


async def _page(project: int, reader: Reader, after: int, limit: int) -> list[Entry]:
    found = await endpoints.listed(reader, project, after, limit)
    return [Entry(entry.row, shown.endpoint(entry)) for entry in found]


async def find(request: Request, who: Principal) -> Endpoint:
    endpoint = await site_of(request).core.db.read(endpoints.get, who.project, request.path_params["id"])
    if endpoint is None:
        raise not_found("endpoint")
    return endpoint


async def show(request: Request, who: Principal) -> Response:
    return Answer(shown.endpoint(await find(request, who)))


async def change(request: Request, who: Principal) -> Response:
    site = site_of(request)
    patch = await read_model(request, EndpointPatch)
    if patch.wrong_nulls:
        raise invalid([FieldError(name, "can't be null; leave it out to keep it") for name in patch.wrong_nulls])
    endpoint = await find(request, who)
    wrong = patch.wrong_for(endpoint.kind)
    if wrong:
        raise invalid([FieldError(name, reason) for name, reason in sorted(wrong.items())])
    _must_be_public(site, patch.url, None)
    await site.core.db.write(_change, site, endpoint, patch)
    site.deliver.endpoint_changed(endpoint.row, anew=_is_anew(patch))
    site.core.wake_deliveries()
    return Answer(shown.endpoint(await find(request, who)))


def _is_anew(patch: EndpointPatch) -> bool:
    """With another key at the same address its receiver may be well, too."""
    return bool({"url", "headers", "config"} & patch.model_fields_set)


async def _change(tx: Tx, site: Site, endpoint: Endpoint, patch: EndpointPatch) -> None:
    # Locked: its secrets are written back as they stand here, and may be sealed anew at any time.
    current = await _current(tx, endpoint)
    _keeps_headers_home(current.terms, patch)
    sealed = None if patch.headers is None else site.core.vault.seal(current.id, json.dumps(patch.headers))
    terms, now = _with_config(site, current, patch, patch.changed(current.terms, sealed)), site.clock.now()
    if current.hook is not None:
        same = await endpoints.hook(tx, current.project, terms)
        if same is not None and same.row != current.row:
            raise invalid([FieldError("url", f"{same.id} is a hook that subscribes to the same already")])
    await _key_for(tx, site.core, endpoint.project, terms)
    await endpoints.change(tx, current.row, terms, now)
    if _is_anew(patch):
        await endpoints.end_rest(tx, current.row)
    if terms.ordered != current.terms.ordered and current.kind != STREAM:
        await (lines.form if terms.ordered else lines.scatter)(tx, current.row, now)


def _keeps_headers_home(terms: Terms, patch: EndpointPatch) -> None:
    """Their values were given for one receiver, and nobody may read them. Raises Problem 422."""
    if patch.url is None or patch.headers is not None or not terms.header_names:
        return
    if origin(patch.url) != origin(terms.url):
        raise invalid([FieldError("headers", "must be given again with a url of another origin")])


def _with_config(site: Site, endpoint: Endpoint, patch: EndpointPatch, terms: Terms) -> Terms:
    """A shop's config as the patch changes it, and with it a filter that nobody chose. Raises Problem 422."""
    before = shop_of(site.core.vault, endpoint)
    if before is None or not patch.config:
        return terms
    try:
        config = changed(endpoint.kind, before, patch.config)
    except ValidationError as error:
        raise invalid(field_errors(error, under=("config",))) from None
    _must_be_public(site, None, config)
    if names := left_out(before, patch.config):
        raise invalid([FieldError(f"config.{name}", "must be given again with another shop") for name in names])
    if patch.filter is None and terms.filter == default_filter(before):
        terms = replace(terms, filter=default_filter(config))
    return replace(terms, config=sealed_config(site.core.vault, endpoint.id, config))


async def enable(request: Request, who: Principal) -> Response:
    """A disabled endpoint is served again, and what was held for it is sent."""
    return await _turned(request, who, serve_again)


async def pause(request: Request, who: Principal) -> Response:
    """What is owed to it is held from now on; attempts under way still count."""
    return await _turned(request, who, _pause)


async def resume(request: Request, who: Principal) -> Response:
    """A paused endpoint is served again, and what was held for it is sent."""
    return await _turned(request, who, _resume)


async def _turned(request: Request, who: Principal, unit: Callable[[Tx, Endpoint, int], Awaitable[None]]) -> Response:
    site = site_of(request)
    endpoint = await find(request, who)
    await site.core.db.write(unit, endpoint, site.clock.now())
    site.deliver.endpoint_changed(endpoint.row, anew=True)
    site.core.wake_deliveries()
    return Answer(shown.endpoint(await find(request, who)))


async def _current(tx: Tx, endpoint: Endpoint) -> Endpoint:
    """As it is now; no event is owed to it, and nobody else changes it, before the unit's end."""
    await projects.lock(tx, endpoint.project)
    current = await endpoints.locked(tx, endpoint.row)
    if current is None:
        raise not_found("endpoint")
    return current


async def serve_again(tx: Tx, endpoint: Endpoint, now: int) -> None:
    """It takes deliveries again, what was held too; and somebody vouches for it, whether it was enabled or not."""
    current = await _current(tx, endpoint)
    await endpoints.vouch(tx, current.row, now)
    if await endpoints.enable(tx, current.row, now):
        await deliveries.unhold(tx, current, now)


async def _pause(tx: Tx, endpoint: Endpoint, now: int) -> None:
    current = _not_disabled(await _current(tx, endpoint))
    await endpoints.end_rest(tx, current.row)
    if await endpoints.pause(tx, current.row, now):
        await deliveries.hold(tx, current.row, now)


async def _resume(tx: Tx, endpoint: Endpoint, now: int) -> None:
    current = _not_disabled(await _current(tx, endpoint))
    await endpoints.end_rest(tx, current.row)
    if await endpoints.resume(tx, current.row, now):
        await deliveries.unhold(tx, current, now)


def _not_disabled(endpoint: Endpoint) -> Endpoint:
    """Raises Problem 409: whoever pauses and resumes must not serve by chance what was disabled for a reason."""
    if endpoint.state is EndpointState.DISABLED:
        reason = (
            f"It is disabled ({endpoint.disabled_reason}): POST /v1/endpoints/{endpoint.id}/enable serves it again."
        )
        raise Problem(409, "endpoint_disabled", reason)
    return endpoint


async def delete(request: Request, who: Principal) -> Response:
    site = site_of(request)
    endpoint = await find(request, who)
    await site.core.db.write(remove, endpoint, site.clock.now())
    site.deliver.endpoint_changed(endpoint.row)
    site.replays.wake()
    return Response(status_code=204)


async def remove(tx: Tx, endpoint: Endpoint, now: int) -> None:
    """Gone for its subscriber; what it was still owed says so in the ledger."""
    await projects.lock(tx, endpoint.project)
    if await endpoints.delete(tx, endpoint.row, now):
        await deliveries.discard(tx, endpoint.row, now)


async def test(request: Request, who: Principal) -> Response:
    """One signed message right now, outside of the log; the answer tells what the receiver said.

    In a shop nothing is sent: it is looked whether a picture would arrive.
    """
    site = site_of(request)
    wanted = await read_model(request, TestRequest, optional=True)
    endpoint = await find(request, who)
    target = await target_of(site.core, endpoint)
    if target.shop is not None:
        return Answer(await _looked(site, who.project, target, wanted.metadata))
    now = site.clock.now()
    event_id = ids.new_id("evt", now)
    body = json.dumps(envelope(event_id, TEST_TYPE, now, 0, shown.endpoint(endpoint)), ensure_ascii=False)
    message = written(Message(event_id, TEST_TYPE, body.encode(), now), target)
    attempt = await site.destinations[endpoint.kind].send(message, target, NoSteps())
    told: subscriptions.TestShot = {
        "delivered": attempt.outcome in ARRIVED,
        "event": event_id,
        "at": rfc3339(attempt.started_at),
        "status": attempt.status,
        "ms": attempt.ms,
        "error": attempt.error,
        "response_head": attempt.response_head,
    }
    return Answer(told)


async def _looked(site: Site, project: int, target: Target, metadata: Mapping[str, str]) -> subscriptions.TestShot:
    """Raises Problem 503."""
    shop = cast(Checkable, site.destinations[target.kind])
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await stack.enter_async_context(site.deliver.room.guest(project))
        except TimeoutError:
            detail = "The service is busy with other shops: nothing was looked at. Ask again later."
            raise Problem(503, "shops_busy", detail, headers={"Retry-After": str(AGAIN_SECONDS)}) from None
        started = site.clock.now()
        checks = await shop.check(target, metadata, LOOK_SECONDS)
    wrong = [check.detail for check in checks if not check.ok]
    return {
        "delivered": not wrong,
        "event": None,
        "at": rfc3339(started),
        "status": None,
        "ms": site.clock.now() - started,
        "error": wrong[0] if wrong else None,
        "response_head": None,
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
    }
