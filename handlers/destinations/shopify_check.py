"""Whether a delivery to Shopify would go through, asked without changing anything."""

from collections.abc import Mapping
from typing import Any

from handlers.destinations import shopify_queries as queries
from handlers.destinations.contract import Check
from handlers.destinations.shopify_calls import Admin, gid
from handlers.destinations.shops import Impossible
from handlers.destinations.tries import dig
from schemas.shop import ShopifyConfig, filled

# Of each of these one is enough; to write is to read too.
SCOPES = (frozenset({"write_products"}), frozenset({"write_files", "write_images"}))


async def _missing(admin: Admin) -> list[str]:
    """The scopes that a delivery needs, and the token has not."""
    data = await admin.ask(queries.SCOPES)
    there = {dig(scope, "handle") for scope in dig(data, "currentAppInstallation", "accessScopes") or ()}
    return [" or ".join(sorted(wanted)) for wanted in SCOPES if not wanted & there]


async def lacking(admin: Admin) -> str | None:
    """What the token lacks, in words. Raises Denied where it is not taken at all."""
    await admin.ask(queries.SHOP)
    missing = await _missing(admin)
    return f"the token lacks {' and '.join(missing)}" if missing else None


async def checks(admin: Admin, config: ShopifyConfig, metadata: Mapping[str, str], found: list[Check]) -> None:
    """Adds one thing after the other, until one can't be looked at: then raises Trouble, under its step."""
    values = {f"metadata.{name}": value for name, value in metadata.items()}
    admin.progress.step = "credentials"
    shop = dig(await admin.ask(queries.SHOP), "shop", "name")
    found.append(Check("credentials", ok=True, detail=f"{shop} lets us in."))
    admin.progress.step = "scopes"
    missing = await _missing(admin)
    said = f"The token lacks {' and '.join(missing)}." if missing else "The token may write products and files."
    found.append(Check("scopes", not missing, said))
    named = filled(config.product, values)
    if named is None:
        return
    admin.progress.step = "product"
    product = gid("Product", named)
    asked = dig(await admin.ask(queries.PRODUCT, id=product), "product")
    if asked is None:
        raise Impossible(f"the shop has no product {product}")
    pictures: Any = dig(asked, "media", "nodes") or ()
    found.append(
        Check("product", ok=True, detail=f"{product} is there, with {len(pictures)} pictures and other media.")
    )
    named = filled(config.variant, values)
    if named is None:
        return
    admin.progress.step = "variant"
    variant = gid("ProductVariant", named)
    asked = dig(await admin.ask(queries.VARIANT, id=variant), "productVariant")
    if dig(asked, "product", "id") != product:
        raise Impossible(f"{product} has no variant {variant}")
    found.append(Check("variant", ok=True, detail=f"{variant} is one of the product's."))
