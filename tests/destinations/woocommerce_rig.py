"""A WooCommerce destination before its stand-in, for all modules that test it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from handlers.destinations.woocommerce import WooCommerce
from schemas.endpoint import Target
from schemas.shop import WooCommerceConfig
from tests.destinations import shops_rig as rig
from tests.destinations.woocommerce_products import Product
from tests.destinations.woocommerce_shop import PASSWORD, USER, WooCommerceShop

METADATA = {"product_id": "8411", "alt": "Eine Tasse & mehr"}
PRODUCT = 8411


class Client(rig.Sender):
    metadata = METADATA

    def __init__(self, url: str, destination: WooCommerce, pictures: rig.Pictures, naps: rig.Naps) -> None:
        super().__init__(url, destination, pictures, naps)
        self.way_in = {"username": USER, "application_password": PASSWORD}

    def target(self, endpoint: str = "ep_1", **config: Any) -> Target:
        return rig.target("woocommerce", WooCommerceConfig(**{"shop": self.url, **self.way_in, **config}), endpoint)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    http, pictures, naps = rig.http(), rig.Pictures(), rig.Naps()
    try:
        yield Client(url, WooCommerce(http, rig.now, naps, pictures, rig.Turns()), pictures, naps)
    finally:
        await http.close()


@asynccontextmanager
async def rigged() -> AsyncIterator[tuple[Client, WooCommerceShop]]:
    """With product 8411, which has two images. No client of ours ever does what none should."""
    shop = WooCommerceShop()
    shop.shop.products[PRODUCT] = Product([shop.picture("front"), shop.picture("back")], variations={5: None})
    async with shop.open() as url, client(url) as opened:
        yield opened, shop
    assert shop.violations == []
