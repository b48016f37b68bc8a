"""What all shops have in common: which picture goes where, and what two endpoints of one shop agree upon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from handlers.destinations.shops import Impossible, placed
from handlers.destinations.tries import turn_of
from schemas.delivery import Outcome
from schemas.shop import VendureConfig
from tests.destinations import shops_rig as rig
from tests.destinations.shopify_rig import rigged as shopify
from tests.destinations.woocommerce_rig import rigged as woocommerce

pytestmark = pytest.mark.anyio

SHOP = "https://lamps.example/admin-api"


def target(**config: Any) -> Any:
    return rig.target("vendure", VendureConfig(**{"shop": SHOP, "api_key": "key", **config}))


def test_the_ids_that_one_shop_gave_are_not_looked_for_at_another() -> None:
    """They are small numbers: at the next shop the same one is somebody else's picture."""
    message = rig.message({"product_id": "1"})
    (here,), (again,) = placed(message, target()), placed(message, target(mode="replace", api_key="another"))
    (there,) = placed(message, target(shop="https://vases.example/admin-api"))
    assert here.step == again.step
    assert (here.step == there.step, here.name == there.name) == (False, True)


def test_places_are_counted_for_each_product_of_its_own() -> None:
    outputs = [rig.output("coffee", name="a"), rig.output("cat", name="b"), rig.output("astronaut", name="a")]
    message = rig.message({"position": "3"}, outputs=outputs)
    pictures = placed(message, target(product="product-{output}"))
    assert [(picture.product, picture.position) for picture in pictures] == [
        ("product-a", 3),
        ("product-b", 3),
        ("product-a", 4),
    ]


def test_a_position_of_ten_thousand_digits_is_none() -> None:
    metadata = {"product_id": "1", "position": "9" * 500}
    with pytest.raises(Impossible):
        placed(rig.message(metadata), target(position="{metadata.position}" * 20))


class Keys(rig.Turns):
    """Remembers for what a turn was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        self.asked.append(key)
        async with super().__call__(key):
            yield


async def test_a_product_has_one_turn_however_it_and_its_shop_are_written() -> None:
    async with woocommerce() as (client, _):
        client.destination.turn = keys = Keys()
        for shop, product in ((client.url, "8411"), (f"{client.url.upper()}/wp-json/", "08411")):
            await client.send(shop=shop, metadata={"product_id": product})
        assert len(keys.asked) == 2
        assert len(set(keys.asked)) == 1
    async with shopify() as it:
        it.destination.turn = keys = Keys()
        for shop, product in ((it.url, "8411"), (f"{it.url.upper()}/", "gid://shopify/Product/08411")):
            await it.send(shop=shop, metadata={"product_id": product})
        assert len(keys.asked) == 2
        assert len(set(keys.asked)) == 1


def test_a_shops_address_is_the_same_however_it_is_written() -> None:
    written = (
        "https://lamps.example/admin-api",
        "HTTPS://Lamps.example.:443/admin-api/",
        "http://lamps.example/admin-api",
    )
    assert {turn_of(shop, "8411") for shop in written} == {"lamps.example/admin-api/8411"}
    assert turn_of("http://lamps.example:8080/admin-api", "8411") == "lamps.example:8080/admin-api/8411"
    assert turn_of("https://lamps.example/b", "8411") != turn_of("https://lamps.example/a", "8411")


async def test_what_another_shop_knows_by_the_same_number_is_never_put_onto_a_product() -> None:
    """The endpoint was given another shop while a delivery waited for its next try, or before it was sent again."""
    async with woocommerce() as (client, shop), woocommerce() as (other, elsewhere):
        assert (await client.send()).outcome is Outcome.DELIVERED
        (ours,) = shop.ours
        while elsewhere.picture("not-ours") < ours.id:
            pass
        attempt = await other.send(steps=client.steps, mode="replace")
        assert attempt.outcome is Outcome.DELIVERED, attempt
        assert elsewhere.shop.products[8411].images == [media.id for media in elsewhere.ours]
