"""A finished picture on a product at WooCommerce: every mode, once however often it is tried, and seen there."""

import asyncio
from typing import Any

import pytest

from schemas.delivery import Outcome
from tests.destinations import shops_rig as rig
from tests.destinations.faults import Fault
from tests.destinations.woocommerce_products import Product
from tests.destinations.woocommerce_rig import METADATA, PRODUCT, rigged

pytestmark = pytest.mark.anyio

OLD = ["front.jpg", "back.jpg"]


@pytest.mark.parametrize(
    ("mode", "position", "expected"),
    [
        ("append", None, [*OLD, "A", "B"]),
        ("append", "1", ["A", "B", *OLD]),
        ("append", "2", ["front.jpg", "A", "B", "back.jpg"]),
        ("append", "99", [*OLD, "A", "B"]),
        ("set_main", None, ["A", "B", *OLD]),
        ("replace", None, ["A", "B"]),
    ],
)
async def test_both_pictures_of_a_job_are_where_the_mode_wants_them(
    mode: str, position: str | None, expected: list[str]
) -> None:
    metadata = METADATA | ({} if position is None else {"position": position})
    async with rigged() as (client, shop):
        attempt = await client.send("coffee", "cat", metadata=metadata, mode=mode)
        assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.DELIVERED, 200, None)
        first, second = shop.ours
        names = {first.file: "A", second.file: "B"}
        assert [names.get(name, name) for name in shop.names(PRODUCT)] == expected
        assert (first.body, second.body) == (rig.photo("coffee"), rig.photo("cat"))
        assert (first.alt, first.title) == (METADATA["alt"], METADATA["alt"])
        # What was thrown out of the product is still in the library.
        assert len(shop.media) == 4


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("mode", ["append", "replace", "set_main"])
async def test_killed_at_any_call_and_tried_again_there_is_exactly_one_picture_each(mode: str, fault: Fault) -> None:
    cut = 0
    while True:
        cut += 1
        async with rigged() as (client, shop):
            shop.faults.restart(**{f"call_{cut}": fault})
            metadata = METADATA | {"variant_id": "5", "position": "2"}
            options: dict[str, Any] = {"mode": mode, "meta_key": "job", "metadata": metadata}
            first = await client.send("coffee", "cat", **options)
            cuts_something = len(shop.faults.calls) >= cut
            if first.outcome is not Outcome.DELIVERED:
                assert first.outcome is Outcome.RETRY, (cut, first)
                shop.faults.restart()
                second = await client.send("coffee", "cat", **options)
                assert second.outcome is Outcome.DELIVERED, (cut, second)
            assert [media.body for media in shop.ours] == [rig.photo("coffee"), rig.photo("cat")], cut
            mine = [name for name in shop.names(PRODUCT) if name.startswith("wirephoto-")]
            assert mine == [media.file for media in shop.ours], cut
            product = shop.shop.products[PRODUCT]
            assert product.variations == {5: shop.ours[0].id}
            assert product.meta == {"job": "job_1"}
        if not cuts_something:
            break
    assert cut > 12


async def test_a_try_that_was_lost_is_found_although_nothing_was_saved_and_its_slug_was_changed() -> None:
    async with rigged() as (client, shop):
        shop.renames = True
        assert (await client.send()).outcome is Outcome.DELIVERED
        assert (await client.send(steps=rig.Steps())).outcome is Outcome.DELIVERED
        assert len(shop.ours) == 1
        assert len(shop.names(PRODUCT)) == 3


async def test_two_deliveries_to_one_product_at_once_keep_both_pictures() -> None:
    async with rigged() as (client, shop):
        attempts = await asyncio.gather(
            *(client.send(photo, steps=rig.Steps(), job=f"job_{photo}") for photo in ("coffee", "cat", "astronaut"))
        )
        assert {attempt.outcome for attempt in attempts} == {Outcome.DELIVERED}
        assert len(shop.names(PRODUCT)) == 5
        assert len(shop.ours) == 3


async def test_what_a_shop_dropped_in_silence_is_not_delivered() -> None:
    async with rigged() as (client, shop):
        shop.shop.drops = True
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 200)
        assert attempt.error == "verify: WooCommerce took the change, but the product does not show it"
        shop.shop.drops = False
        assert (await client.send()).outcome is Outcome.DELIVERED
        assert len(shop.ours) == 1


async def test_a_redelivery_asks_and_changes_nothing() -> None:
    async with rigged() as (client, shop):
        await client.send(meta_key="job", metadata=METADATA | {"variant_id": "5"})
        product = shop.shop.products[PRODUCT]
        product.meta["job"], shop.shop.writes = "job_later", 0
        attempt = await client.send(meta_key="job", metadata=METADATA | {"variant_id": "5"})
        assert attempt.outcome is Outcome.DELIVERED
        assert shop.shop.writes == 0
        assert product.meta == {"job": "job_later"}
        assert len(shop.ours) == 1


async def test_a_redelivery_puts_back_what_was_taken_off_the_product() -> None:
    async with rigged() as (client, shop):
        await client.send(mode="set_main")
        product = shop.shop.products[PRODUCT]
        ours = product.images.pop(0)
        assert (await client.send(mode="set_main")).outcome is Outcome.DELIVERED
        assert product.images[0] == ours
        assert len(shop.ours) == 1


async def test_a_redelivery_uploads_again_what_was_deleted_at_the_shop() -> None:
    async with rigged() as (client, shop):
        await client.send()
        (ours,) = shop.ours
        shop.shop.products[PRODUCT].images.remove(ours.id)
        del shop.media[ours.id]
        assert (await client.send()).outcome is Outcome.DELIVERED
        (again,) = shop.ours
        assert again.id != ours.id
        assert shop.shop.products[PRODUCT].images[-1] == again.id


async def test_an_upload_that_wordpress_could_not_finish_is_finished_and_not_made_again() -> None:
    async with rigged() as (client, shop):
        shop.out_of_memory = 1
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 500)
        assert (await client.send()).outcome is Outcome.DELIVERED
        (ours,) = shop.ours
        assert not ours.missing


async def test_a_product_without_images_gets_its_first() -> None:
    async with rigged() as (client, shop):
        shop.shop.products[7] = Product()
        assert (await client.send(metadata={"product_id": "7"})).outcome is Outcome.DELIVERED
        (ours,) = shop.ours
        assert (shop.names(7), ours.alt, ours.title) == ([ours.file], "", ours.slug)
