"""Whether a delivery to WooCommerce would go through, asked without changing anything."""

from collections.abc import Mapping
from typing import Any

from handlers.destinations.contract import Check
from handlers.destinations.tries import Denied, dig
from handlers.destinations.woocommerce_calls import Site, number
from schemas.shop import WooCommerceConfig, filled

# What a shop manager may; products are mostly published, and others'.
NEEDED = ("upload_files", "edit_products", "edit_published_products", "edit_others_products")


async def _user(site: Site) -> Any:
    return await site.read("wp/v2/users/me", context="edit", _fields="id,name,capabilities")


def _missing(user: Any) -> list[str]:
    return [name for name in NEEDED if dig(user, "capabilities", name) is not True]


async def lacking(site: Site) -> str | None:
    """What the user may not, in words. Raises Denied where the password is not taken at all."""
    missing = _missing(await _user(site))
    return f"the user may not: {', '.join(missing)}" if missing else None


async def checks(site: Site, config: WooCommerceConfig, metadata: Mapping[str, str], found: list[Check]) -> None:
    """Adds one thing after the other, until one can't be looked at: then raises Trouble, under its step."""
    values = {f"metadata.{name}": value for name, value in metadata.items()}
    site.progress.step = "credentials"
    try:
        user = await _user(site)
    except Denied as denied:
        if await site.offers_passwords():
            raise
        why = (
            f"{denied}. This site offers no application passwords: WordPress does so over https only, or where "
            "WP_ENVIRONMENT_TYPE is local"
        )
        raise Denied(why) from None
    found.append(Check("credentials", ok=True, detail=f"WordPress lets {dig(user, 'name') or config.username} in."))
    missing = _missing(user)
    said = f"The user may not: {', '.join(missing)}." if missing else "The user may upload, and change products."
    found.append(Check("permissions", not missing, said))
    site.progress.step = "woocommerce"
    await site.read("wc/v3/products", per_page="1", _fields="id")
    found.append(Check("woocommerce", ok=True, detail="WooCommerce answers."))
    named = filled(config.product, values)
    if named is None:
        return
    site.progress.step = "product"
    product = f"wc/v3/products/{number(named, 'product')}"
    images = dig(await site.read(product, _fields="id,images"), "images") or ()
    found.append(Check("product", ok=True, detail=f"Product {named} is there, with {len(images)} images."))
    named = filled(config.variant, values)
    if named is None:
        return
    site.progress.step = "variant"
    await site.read(f"{product}/variations/{number(named, 'variation')}", _fields="id")
    found.append(Check("variant", ok=True, detail=f"Variation {named} is one of the product's."))
