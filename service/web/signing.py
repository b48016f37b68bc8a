"""What deliveries are signed with: secrets and their rotation, and the public keys of projects."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from handlers import standardwebhooks
from schemas import subscriptions
from schemas.event import rfc3339
from schemas.registration import Rotation
from service.pipeline.core import Core
from service.pipeline.signing import rotate_key
from service.pipeline.signing import rotate_secret as rotate
from service.pipeline.signing import signing_key as key_of
from service.store import projects, signing_keys
from service.store.keys import Principal
from service.store.signing_keys import PublicKey
from service.web.endpoints import find
from service.web.site import Answer, read_model, site_of

# A receiver looks again when it meets a key that it does not know.
JWKS_SECONDS = 300


async def secret(request: Request, who: Principal) -> Response:
    endpoint = await find(request, who)
    told: subscriptions.SigningSecret = {
        "secret": site_of(request).core.vault.open(endpoint.id, endpoint.sealed_secret)
    }
    return Answer(told)


async def rotate_secret(request: Request, who: Principal) -> Response:
    """A new secret at once; until its overlap ends, the one before signs too."""
    site = site_of(request)
    wanted = await read_model(request, Rotation, optional=True)
    endpoint = await find(request, who)
    made, now = standardwebhooks.new_secret(), site.clock.now()
    until = now + wanted.overlap_seconds * 1000
    await site.core.db.write(rotate, site.core.vault, endpoint.row, made, until, now)
    site.deliver.endpoint_changed(endpoint.row)
    told: subscriptions.RotatedSecret = {"secret": made, "old_secret_expires_at": rfc3339(until)}
    return Answer(told)


async def webhook_secret(request: Request, who: Principal) -> Response:
    """What per-job webhooks of this project are signed with."""
    core = site_of(request).core
    owner, sealed = await core.db.read(projects.sealed_webhook_secret, who.project)
    return Answer({"secret": core.vault.open(owner, sealed)})


async def rotate_webhook_secret(request: Request, who: Principal) -> Response:
    """For jobs from now on: each job's webhook keeps to the end the secret with which it was made."""
    core = site_of(request).core
    made = standardwebhooks.new_secret()
    owner, _ = await core.db.read(projects.sealed_webhook_secret, who.project)
    await core.db.write(projects.change_webhook_secret, who.project, core.vault.seal(owner, made))
    return Answer({"secret": made})


async def signing_key(request: Request, who: Principal) -> Response:
    """The public half of what the project's `v1a` signatures are made with."""
    core = site_of(request).core
    key = await core.db.write(key_of, core, who.project)
    told: subscriptions.SigningKey = {"public_key": key.public_key, "kid": key.id}
    return Answer(told)


async def rotate_signing_key(request: Request, who: Principal) -> Response:
    """A new key at once; until its overlap ends, the one before signs too, and it is published for longer."""
    site = site_of(request)
    wanted = await read_model(request, Rotation, optional=True)
    now = site.clock.now()
    until = now + wanted.overlap_seconds * 1000
    key = await site.core.db.write(rotate_key, site.core, who.project, until, now)
    site.deliver.signing_key_changed(who.project)
    told: subscriptions.RotatedKey = {
        "public_key": key.public_key,
        "kid": key.id,
        "old_key_expires_at": rfc3339(until),
    }
    return Answer(told)


async def jwks(request: Request) -> Response:
    """Every project's: whoever checks a signature need not be anybody's tenant.

    A signature names no key, so who keeps the list for its `max-age` may meet a new one. During an overlap the old one
    signs too; where that has leaked, it is believed for as long.
    """
    found = await _all_keys(site_of(request).core)
    told = {"keys": [standardwebhooks.jwk(key.public_key, key.id) for key in found]}
    return Answer(told, headers={"Cache-Control": f"public, max-age={JWKS_SECONDS}"})


async def _all_keys(core: Core) -> Sequence[PublicKey]:
    for project in await core.db.read(signing_keys.projects_without):
        await core.db.write(key_of, core, project)
    return await core.db.read(signing_keys.published)
