"""An endpoint with its secrets open, as a destination needs it; and the project's keys for who asks for `v1a`.

The credentials of a shop are sealed and opened here.
"""

import json
from collections.abc import Sequence

from schemas import formats
from schemas.endpoint import Endpoint, Format, OldSecret, Scheme, Target, Terms
from schemas.shop import SHOPS, SealedConfig, ShopConfig
from service.pipeline.core import Core
from service.pipeline.signing import old_secrets
from service.security.vault import Vault
from service.store import projects, signing_keys
from service.store.database import Reader
from service.store.signing_keys import SigningKey


async def target_of(core: Core, endpoint: Endpoint) -> Target:
    """Raises WrongKey, StoreUnavailable."""
    terms, vault = endpoint.terms, core.vault
    keys, source = [], ""
    if Scheme.V1A in terms.signatures or terms.format is Format.CLOUDEVENTS:
        now = core.clock.now()
        sealed, source = await core.db.read(_of_project, core.installation, endpoint.project, terms, now)
        keys = [(key.until, vault.open(key.id, key.sealed_private_key)) for key in sealed]
    return Target(
        id=endpoint.id,
        kind=endpoint.kind,
        url=terms.url,
        secret=vault.open(endpoint.id, endpoint.sealed_secret),
        headers=json.loads(vault.open(endpoint.id, terms.sealed_headers)),
        format=terms.format,
        signatures=terms.signatures,
        old_secrets=old_secrets(vault, endpoint),
        private_key=next((key for until, key in keys if until is None), None),
        old_private_keys=tuple(OldSecret(until, key) for until, key in keys if until is not None),
        source=source,
        shop=shop_of(vault, endpoint),
    )


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


async def _of_project(
    reader: Reader, installation: str, project: int, terms: Terms, now: int
) -> tuple[Sequence[SigningKey], str]:
    source = formats.source(installation, (await projects.get(reader, project)).id)
    if Scheme.V1A not in terms.signatures:
        return [], source
    keys = await signing_keys.that_sign(reader, project, now)
    assert keys, "made before its first endpoint"
    return keys, source
