"""Beside the eighth step: what deliveries are signed with.

An endpoint has a secret for `v1`, a project a key for `v1a`. Either is rotated by the same rule: the new one signs at
once, the one before beside it for an overlap, and an overlap of nothing ends all that were before, at once.
"""

import json

from handlers import standardwebhooks
from schemas import ids
from schemas.endpoint import Endpoint, OldSecret
from schemas.problem import Problem, not_found
from service.pipeline.core import Core
from service.security.vault import Vault
from service.store import endpoints, projects, signing_keys
from service.store.database import Tx
from service.store.signing_keys import SigningKey

# From before, of an endpoint's secrets or of a project's keys. Each is one more signature of every delivery.
MOST_OLD_SECRETS = 4
# Of a project's, those from before a rotation too: the JWKS is for everybody, and must not grow with one tenant's zeal.
MOST_PUBLISHED = 100


def old_secrets(vault: Vault, endpoint: Endpoint) -> tuple[OldSecret, ...]:
    """The newest first. Raises WrongKey."""
    sealed = endpoint.sealed_old_secrets
    if sealed is None:
        return ()
    return tuple(OldSecret(until, secret) for until, secret in json.loads(vault.open(endpoint.id, sealed)))


async def rotate_secret(tx: Tx, vault: Vault, endpoint: int, made: str, until: int, now: int) -> None:
    """The secret `made` signs from now on; the one before until `until`, and those before it as long as was told then.

    Where `until` is now, none of them does any more. Raises Problem 404, 409, and WrongKey.
    """
    current = await endpoints.locked(tx, endpoint)
    if current is None:
        raise not_found("endpoint")
    old = []
    if until > now:
        before = OldSecret(until, vault.open(current.id, current.sealed_secret))
        old = [before, *(kept for kept in old_secrets(vault, current) if kept.until > now)]
    _refuse_too_many(len(old), "secrets")
    sealed = vault.seal(current.id, json.dumps([(kept.until, kept.secret) for kept in old])) if old else None
    ends = max((kept.until for kept in old), default=None)
    await endpoints.rotate(tx, endpoint, vault.seal(current.id, made), sealed, ends, now)


async def rotate_key(tx: Tx, core: Core, project: int, until: int, now: int) -> SigningKey:
    """A new key signs from now on; the one before until `until`, and those before it as long as was told then.

    What no longer signs stays published for as long as the log keeps what it signed (EVENT_RETENTION_DAYS): a receiver
    may have put a request by, and check it as late as anybody can still ask us for its event. Its private half goes at
    the end of its overlap: nobody can have it any more, so to publish the other one costs nothing.

    Where `until` is now, the key has leaked, and what it signed proves nothing: all keys from before go at once, with
    their public halves. Raises Problem 409.
    """
    await projects.lock(tx, project)
    if until > now:
        # What is told of the one before holds even where nobody has needed one yet.
        await signing_key(tx, core, project)
        _refuse_too_many(len(await signing_keys.that_sign(tx, project, now)), "keys")
        await signing_keys.retire(tx, project, until)
        await signing_keys.thin_out(tx, project, MOST_PUBLISHED - 1, now)
    else:
        await signing_keys.remove_all(tx, project)
    return await _made(tx, core, project, now)


def _refuse_too_many(old: int, what: str) -> None:
    """Refused rather than one of them dropped: somebody was told that it signs."""
    if old > MOST_OLD_SECRETS:
        detail = f"{MOST_OLD_SECRETS} {what} from before still sign; overlap_seconds 0 ends all of them at once."
        raise Problem(409, "too_many_rotations", detail)


async def signing_key(tx: Tx, core: Core, project: int) -> SigningKey:
    """The project's key; made where there is none yet."""
    found = await signing_keys.newest(tx, project)
    if found is not None:
        return found
    # Whoever was first has it made: locked, and looked for again.
    await projects.lock(tx, project)
    found = await signing_keys.newest(tx, project)
    return await _made(tx, core, project, core.clock.now()) if found is None else found


async def _made(tx: Tx, core: Core, project: int, now: int) -> SigningKey:
    """Under the project's lock."""
    private_key, public_id = standardwebhooks.new_private_key(), ids.new_id("sgn", now)
    sealed = core.vault.seal(public_id, private_key)
    made = SigningKey(public_id, standardwebhooks.public_key_of(private_key), sealed)
    await signing_keys.add(tx, project, made, now)
    return made
