"""A product that has as many media as Shopify takes: what can be put there is, and what can't is said to be so."""

from collections.abc import AsyncIterator

import pytest

from schemas.delivery import Outcome
from tests.destinations.faults import Fault
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


async def test_a_full_product_is_never_without_pictures_whatever_ends_the_try() -> None:
    cut = 0
    while True:
        cut += 1
        async with rigged() as shopify:
            old = set(full(shopify.shop))
            shopify.shop.faults.restart(**{f"call_{cut}": Fault.LOST})
            first = await shopify.send("coffee", "cat", metadata=FULL, mode="replace")
            cuts_something = len(shopify.shop.faults.calls) >= cut
            if first.outcome is not Outcome.DELIVERED:
                there = set(shopify.shop.names(PRODUCT))
                # Ours, or all but the two of the old ones in whose places they go.
                assert {file.name for file in shopify.shop.ours} <= there or len(there & old) >= len(old) - 2, cut
                shopify.shop.faults.restart()
                second = await shopify.send("coffee", "cat", metadata=FULL, mode="replace")
                assert second.outcome is Outcome.DELIVERED, (cut, second)
            assert shopify.shop.names(PRODUCT) == [*(file.name for file in shopify.shop.ours), "v-0.mp4"]
            assert len(shopify.shop.ours) == 2
        if not cuts_something:
            break
    assert cut > 15


@pytest.mark.parametrize(("mode", "videos"), [("append", 1), ("set_main", 1), ("replace", MOST_MEDIA)])
async def test_where_nothing_goes_it_is_said_what_to_do_and_a_redelivery_finds_the_file(
    shopify: Rig, mode: str, videos: int
) -> None:
    before = full(shopify.shop, videos)
    attempt = await shopify.send(metadata=FULL, mode=mode)
    assert attempt.outcome is Outcome.ABORT
    assert "has 250 pictures and other media; take some off it" in (attempt.error or "")
    assert shopify.shop.names(PRODUCT) == before
    shopify.shop.products[PRODUCT].media.pop()
    assert (await shopify.send(metadata=FULL, mode=mode)).outcome is Outcome.DELIVERED
    assert len(shopify.shop.ours) == 1


async def test_a_full_product_that_shows_the_picture_already_is_left_alone(shopify: Rig) -> None:
    full(shopify.shop)
    shopify.shop.products[PRODUCT].media.pop(0)
    assert (await shopify.send(metadata=FULL)).outcome is Outcome.DELIVERED
    shopify.shop.changes.clear()
    assert (await shopify.send(metadata=FULL, mode="append")).outcome is Outcome.DELIVERED
    assert shopify.shop.changes == []
