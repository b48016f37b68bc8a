"""A WooCommerce destination before its stand-in, for all modules that test it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from handlers.destinations.contract import Check
from handlers.destinations.woocommerce import WooCommerce
from schemas.delivery import Attempt
from schemas.endpoint import Target
from schemas.shop import WooCommerceConfig
from tests.destinations import shops_rig as rig
from tests.destinations.woocommerce_products import Product
from tests.destinations.woocommerce_shop import PASSWORD, USER, WooCommerceShop

METADATA = {"product_id": "8411", "alt": "Eine Tasse & mehr"}
PRODUCT = 8411


class Client:
    """A destination that sends to one address, its steps kept."""

    def __init__(self, url: str, destination: WooCommerce, pictures: rig.Pictures, naps: rig.Naps) -> None:
        self.url = url
        self.destination = destination
        self.pictures = pictures
        self.naps = naps
        self.steps = rig.Steps()
        self.way_in = {"username": USER, "application_password": PASSWORD}

    def target(self, endpoint: str = "ep_1", **config: Any) -> Target:
        return rig.target("woocommerce", WooCommerceConfig(**{"shop": self.url, **self.way_in, **config}), endpoint)

    async def send(
        self,
        *photos: str,
        metadata: Mapping[str, str] = METADATA,
        steps: rig.Steps | None = None,
        job: str = "job_1",
        outputs: list[dict[str, Any]] | None = None,
        **config: Any,
    ) -> Attempt:
        message = rig.message(metadata, *photos, job=job, outputs=outputs)
        return await self.destination.send(message, self.target(**config), self.steps if steps is None else steps)

    async def check(self, metadata: Mapping[str, str] = METADATA, **config: Any) -> list[Check]:
        return list(await self.destination.check(self.target(**config), metadata))


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
