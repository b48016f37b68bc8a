"""An endpoint with its secrets open, as a destination needs it; and the project's key for who asks for `v1a`.

The credentials of a shop are sealed and opened here.
"""

import json

from handlers import standardwebhooks
from schemas import formats, ids
from schemas.endpoint import Endpoint, Format, OldSecret, Scheme, Target, Terms
from schemas.problem import Problem, not_found
from schemas.shop import SHOPS, SealedConfig, ShopConfig
from service.pipeline.core import Core
from service.security.vault import Vault
from service.store import endpoints, projects, signing_keys
from service.store.database import Reader, Tx
from service.store.signing_keys import SigningKey

# Each is one more signature of every delivery.
MOST_OLD_SECRETS = 4


async def target_of(core: Core, endpoint: Endpoint) -> Target:
    """Raises WrongKey, StoreUnavailable."""
    terms, vault = endpoint.terms, core.vault
    sealed, source = None, ""
    if Scheme.V1A in terms.signatures or terms.format is Format.CLOUDEVENTS:
        sealed, source = await core.db.read(_of_project, core.installation, endpoint.project, terms)
    return Target(
        id=endpoint.id,
        kind=endpoint.kind,
        url=terms.url,
        secret=vault.open(endpoint.id, endpoint.sealed_secret),
        headers=json.loads(vault.open(endpoint.id, terms.sealed_headers)),
        format=terms.format,
        signatures=terms.signatures,
        old_secrets=_old_secrets(vault, endpoint),
        private_key=None if sealed is None else vault.open(sealed.id, sealed.sealed_private_key),
        source=source,
        shop=shop_of(vault, endpoint),
    )


def _old_secrets(vault: Vault, endpoint: Endpoint) -> tuple[OldSecret, ...]:
    """The newest first."""
    sealed = endpoint.sealed_old_secrets
    if sealed is None:
        return ()
    return tuple(OldSecret(until, secret) for until, secret in json.loads(vault.open(endpoint.id, sealed)))


async def rotate(tx: Tx, vault: Vault, endpoint: int, made: str, until: int, now: int) -> None:
    """The secret `made` signs from now on; the one before until `until`, and those before it as long as was told then.

    Where `until` is now, none of them does any more. Raises Problem 404, 409, and WrongKey.
    """
    current = await endpoints.locked(tx, endpoint)
    if current is None:
        raise not_found("endpoint")
    old = []
    if until > now:
        before = OldSecret(until, vault.open(current.id, current.sealed_secret))
        old = [before, *(kept for kept in _old_secrets(vault, current) if kept.until > now)]
    if len(old) > MOST_OLD_SECRETS:
        detail = f"{MOST_OLD_SECRETS} secrets from before still sign; overlap_seconds 0 ends all of them at once."
        raise Problem(409, "too_many_rotations", detail)
    sealed = vault.seal(current.id, json.dumps([(kept.until, kept.secret) for kept in old])) if old else None
    ends = max((kept.until for kept in old), default=None)
    await endpoints.rotate(tx, endpoint, vault.seal(current.id, made), sealed, ends, now)


def shop_of(vault: Vault, endpoint: Endpoint) -> ShopConfig | None:
    """A shop's config, with its credentials. Raises WrongKey."""
    config = endpoint.terms.config
    if config is None:
        return None
    # What is null is what was left out.
    whole = {**config.shown, **json.loads(vault.open(endpoint.id, config.sealed))}
    return SHOPS[endpoint.kind].model_validate({name: value for name, value in whole.items() if value is not None})


def sealed_config(vault: Vault, public_id: str, config: ShopConfig) -> SealedConfig:
    """As it is kept; `public_id` is its endpoint's."""
    secrets = config.secrets
    return SealedConfig(config.shown, tuple(sorted(secrets)), vault.seal(public_id, json.dumps(secrets)))


async def _of_project(reader: Reader, installation: str, project: int, terms: Terms) -> tuple[SigningKey | None, str]:
    source = formats.source(installation, (await projects.get(reader, project)).id)
    if Scheme.V1A not in terms.signatures:
        return None, source
    key = await signing_keys.newest(reader, project)
    assert key is not None, "made before its first endpoint"
    return key, source


async def signing_key(tx: Tx, core: Core, project: int) -> SigningKey:
    """The project's key; made where there is none yet."""
    found = await signing_keys.newest(tx, project)
    if found is not None:
        return found
    # Whoever was first has it made: locked, and looked for again.
    await projects.lock(tx, project)
    found = await signing_keys.newest(tx, project)
    if found is not None:
        return found
    now = core.clock.now()
    private_key, public_id = standardwebhooks.new_private_key(), ids.new_id("sgn", now)
    sealed = core.vault.seal(public_id, private_key)
    made = SigningKey(public_id, standardwebhooks.public_key_of(private_key), sealed)
    await signing_keys.add(tx, project, made, now)
    return made
