"""A product that has as many media as Shopify takes: what can be put there is, and what can't is said to be so."""

from collections.abc import AsyncIterator

import pytest

from schemas.delivery import Outcome
from tests.destinations.shopify_operations import MOST_MEDIA
from tests.destinations.shopify_rig import Rig, rigged
from tests.destinations.shopify_shop import ShopifyShop

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shopify() -> AsyncIterator[Rig]:
    async with rigged() as opened:
        yield opened


FULL = {"product_id": "7"}
PRODUCT = "gid://shopify/Product/7"


def full(shop: ShopifyShop, videos: int = 1) -> list[str]:
    """A product without room for one more; the names of its media."""
    shop.product(7, *(f"old-{n}.jpg" for n in range(MOST_MEDIA - videos)), videos=[f"v-{n}.mp4" for n in range(videos)])
    return shop.names(PRODUCT)


async def test_the_pictures_of_a_full_product_are_replaced(shopify: Rig) -> None:
    full(shopify.shop)
    attempt = await shopify.send("coffee", "cat", metadata=FULL, mode="replace")
    assert (attempt.outcome, attempt.error) == (Outcome.DELIVERED, None)
    assert shopify.shop.names(PRODUCT) == [*(file.name for file in shopify.shop.ours), "v-0.mp4"]
