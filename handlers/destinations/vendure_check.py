"""Whether a delivery to Vendure would go through, asked without changing anything."""

from collections.abc import Mapping

from handlers.destinations import vendure_queries as queries
from handlers.destinations.contract import Check
from handlers.destinations.tries import Denied, Trouble
from handlers.destinations.vendure_calls import Admin
from schemas.delivery import Outcome
from schemas.shop import VendureConfig, filled

UNKNOWN_KEY = (
    "the key is not taken: it must be an API key of this server, whose authOptions.tokenMethod must include 'api-key'"
)


async def _missing(admin: Admin) -> list[str]:
    """The permissions that a delivery needs, and the key's role has not."""
    missing = []
    for permission, document in queries.PERMISSIONS.items():
        try:
            await admin.ask(document)
        except Denied:
            missing.append(permission)
    return missing


async def lacking(admin: Admin) -> str | None:
    """What the key's role lacks, in words. Raises Denied where the key is not taken at all."""
    try:
        await admin.ask(queries.CHANNEL)
    except Denied:
        raise Denied(UNKNOWN_KEY) from None
    missing = await _missing(admin)
    return f"the key's role lacks {' and '.join(missing)}" if missing else None


async def checks(admin: Admin, config: VendureConfig, metadata: Mapping[str, str], found: list[Check]) -> None:
    """Adds one thing after the other, until one can't be looked at: then raises Trouble, under its step."""
    values = {f"metadata.{name}": value for name, value in metadata.items()}
    admin.progress.step = "credentials"
    try:
        channel = await admin.ask(queries.CHANNEL)
    except Denied:
        raise Trouble(Outcome.REFUSED, UNKNOWN_KEY) from None
    found.append(Check("credentials", ok=True, detail="The key is taken."))
    if config.channel_token is not None:
        admin.progress.step = "channel"
        admin.is_channel(channel)
        found.append(Check("channel", ok=True, detail="The channel is there."))
    admin.progress.step = "permissions"
    missing = await _missing(admin)
    said = f"The key's role lacks {' and '.join(missing)}." if missing else "The key's role may do what is needed."
    found.append(Check("permissions", not missing, said))
    if config.custom_field is not None:
        admin.progress.step = "custom_field"
        await admin.ask(queries.FIELD % config.custom_field)
        found.append(Check("custom_field", ok=True, detail=f"Products have the field {config.custom_field}."))
    named = filled(config.product, values)
    if named is None:
        return
    admin.progress.step = "product"
    product = await admin.product(named)
    pictures = len(product.assets)
    found.append(Check("product", ok=True, detail=f"Product {named} is there, with {pictures} pictures."))
    named = filled(config.variant, values)
    if named is None:
        return
    admin.progress.step = "variant"
    await admin.variant(product.owner, named)
    found.append(Check("variant", ok=True, detail=f"Variant {named} is one of the product's."))
