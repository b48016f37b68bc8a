"""A Shopify destination before its stand-in, for all modules that test it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from handlers.destinations.shopify import Shopify
from schemas.endpoint import Target
from schemas.shop import ShopifyConfig
from tests.destinations import shops_rig as rig
from tests.destinations.shopify_shop import TOKEN, ShopifyShop

METADATA = {"product_id": "8411", "alt": "A cup"}


class Rig(rig.Sender):
    metadata = METADATA

    def __init__(
        self, shop: ShopifyShop, url: str, destination: Shopify, pictures: rig.Pictures, naps: rig.Naps
    ) -> None:
        super().__init__(url, destination, pictures, naps)
        self.shop = shop

    def target(self, endpoint: str = "ep_1", **config: Any) -> Target:
        if "config_outputs" in config:
            config["outputs"] = config.pop("config_outputs")
        way_in = {} if "client_id" in config else {"access_token": TOKEN}
        return rig.target("shopify", ShopifyConfig(**{"shop": self.url, **way_in, **config}), endpoint)


@asynccontextmanager
async def rigged(shop: ShopifyShop | None = None) -> AsyncIterator[Rig]:
    """With product 8411, which has two pictures and a video. No client of ours ever does what none should."""
    shop = shop or ShopifyShop()
    shop.product(8411, "front.jpg", "back.jpg", videos=["turning.mp4"])
    http, pictures, naps = rig.http(), rig.Pictures(), rig.Naps()
    async with shop.open() as url:
        try:
            yield Rig(shop, url, Shopify(http, rig.now, naps, pictures, rig.Turns()), pictures, naps)
        finally:
            await http.close()
    assert shop.violations == []
