"""A finished picture on a product at Shopify: every mode, once however often it is tried, and seen there."""

import asyncio
from typing import Any

import pytest

from schemas.delivery import Outcome
from tests.destinations import shops_rig as rig
from tests.destinations.faults import Fault
from tests.destinations.shopify_rig import METADATA, rigged
from tests.destinations.shopify_shop import ShopifyShop

pytestmark = pytest.mark.anyio

PRODUCT = "gid://shopify/Product/8411"
OLD = ["front.jpg", "back.jpg", "turning.mp4"]


@pytest.mark.parametrize(
    ("mode", "position", "expected"),
    [
        ("append", None, [*OLD, "A", "B"]),
        ("append", "1", ["A", "B", *OLD]),
        ("append", "2", ["front.jpg", "A", "B", "back.jpg", "turning.mp4"]),
        ("append", "99", [*OLD, "A", "B"]),
        ("set_main", None, ["A", "B", *OLD]),
        ("replace", None, ["A", "B", "turning.mp4"]),
    ],
)
async def test_both_pictures_of_a_job_are_where_the_mode_wants_them(
    mode: str, position: str | None, expected: list[str]
) -> None:
    metadata = METADATA | ({} if position is None else {"position": position})
    async with rigged() as shopify:
        attempt = await shopify.send("coffee", "cat", metadata=metadata, mode=mode)
        assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.DELIVERED, 200, None)
        first, second = shopify.shop.ours
        names = {first.name: "A", second.name: "B"}
        assert [names.get(name, name) for name in shopify.shop.names(PRODUCT)] == expected
        assert (first.body, second.body) == (rig.photo("coffee"), rig.photo("cat"))
        assert first.alt == "A cup"
        # What was thrown out of the product is still a file of the shop.
        assert {"front.jpg", "back.jpg"} <= {file.name for file in shopify.shop.files.values()}


@pytest.mark.parametrize(
    ("mode", "fault"),
    [*(("append", fault) for fault in Fault), ("replace", Fault.LOST), ("set_main", Fault.LOST)],
)
async def test_killed_at_any_call_and_tried_again_there_is_exactly_one_picture_each(mode: str, fault: Fault) -> None:
    cut = 0
    while True:
        cut += 1
        shop = ShopifyShop()
        async with rigged(shop) as shopify:
            old = shop.variant(5, PRODUCT, shop.products[PRODUCT].media[0])
            shop.faults.restart(**{f"call_{cut}": fault})
            options: dict[str, Any] = {
                "mode": mode,
                "metafield": {},
                "metadata": METADATA | {"variant_id": "5", "position": "2"},
            }
            first = await shopify.send("coffee", "cat", **options)
            cuts_something = len(shop.faults.calls) >= cut
            if first.outcome is not Outcome.DELIVERED:
                assert first.outcome is Outcome.RETRY, (cut, first)
                shop.faults.restart()
                second = await shopify.send("coffee", "cat", **options)
                assert second.outcome is Outcome.DELIVERED, (cut, second)
            assert sorted(file.body for file in shop.ours) == sorted([rig.photo("coffee"), rig.photo("cat")]), cut
            mine = [name for name in shop.names(PRODUCT) if name.startswith("wirephoto-")]
            assert mine == [file.name for file in shop.ours], cut
            assert shop.variants[old][1] == [shop.ours[0].id]
            assert shop.products[PRODUCT].metafields == {"wirephoto.job": "job_1"}
        if not cuts_something:
            break
    assert cut > 12


async def test_a_try_that_was_lost_is_found_by_its_name_although_nothing_was_saved() -> None:
    async with rigged() as shopify:
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        assert (await shopify.send(steps=rig.Steps())).outcome is Outcome.DELIVERED
        assert len(shopify.shop.ours) == 1
        assert len(shopify.shop.names(PRODUCT)) == 4


async def test_while_shopifys_search_lags_behind_no_second_file_is_made() -> None:
    async with rigged() as shopify:
        shopify.shop.unseen = 2
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        # Neither before the upload nor after Shopify refused the name.
        attempt = await shopify.send(steps=rig.Steps())
        assert attempt.outcome is Outcome.RETRY
        assert attempt.error == "create: an earlier try's file is there, but can't be found yet"
        assert (await shopify.send(steps=rig.Steps())).outcome is Outcome.DELIVERED
        assert len(shopify.shop.ours) == 1


async def test_a_search_that_passes_over_its_filter_gives_us_no_picture_of_the_shops() -> None:
    async with rigged() as shopify:
        shopify.shop.filterless = True
        broken = shopify.shop.file("broken.jpg")
        broken.status, broken.fails = "FAILED", "IMAGE_DOWNLOAD_FAILURE"
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        assert broken.id in shopify.shop.files
        assert shopify.shop.names(PRODUCT) == [*OLD, shopify.shop.ours[0].name]


async def test_two_deliveries_to_one_product_at_once_keep_both_pictures() -> None:
    async with rigged() as shopify:
        attempts = await asyncio.gather(
            *(
                shopify.send(photo, steps=rig.Steps(), job=f"job_{photo}", metadata=METADATA | {"position": "1"})
                for photo in ("coffee", "cat", "astronaut")
            )
        )
        assert {attempt.outcome for attempt in attempts} == {Outcome.DELIVERED}
        assert len(shopify.shop.names(PRODUCT)) == 6
        assert len(shopify.shop.ours) == 3


async def test_what_a_shop_dropped_in_silence_is_not_delivered() -> None:
    async with rigged() as shopify:
        shopify.shop.drops = True
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 200)
        assert attempt.error == "verify: Shopify took the change, but the product does not show it"
        shopify.shop.drops = False
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        assert len(shopify.shop.ours) == 1


async def test_a_redelivery_asks_and_changes_nothing() -> None:
    async with rigged() as shopify:
        await shopify.send(metafield={})
        before, product = shopify.shop.names(PRODUCT), shopify.shop.products[PRODUCT]
        product.metafields["wirephoto.job"] = "job_later"
        shopify.shop.changes.clear()
        assert (await shopify.send(metafield={})).outcome is Outcome.DELIVERED
        assert shopify.shop.changes == []
        assert shopify.shop.names(PRODUCT) == before
        assert product.metafields == {"wirephoto.job": "job_later"}


async def test_a_redelivery_puts_back_what_was_taken_off_the_product() -> None:
    async with rigged() as shopify:
        await shopify.send(mode="set_main")
        (ours,) = shopify.shop.ours
        shopify.shop.products[PRODUCT].media.remove(ours.id)
        assert (await shopify.send(mode="set_main")).outcome is Outcome.DELIVERED
        assert shopify.shop.products[PRODUCT].media[0] == ours.id
        assert shopify.shop.ours == [ours]


async def test_a_redelivery_uploads_again_what_was_deleted_at_the_shop() -> None:
    async with rigged() as shopify:
        await shopify.send()
        (ours,) = shopify.shop.ours
        shopify.shop.products[PRODUCT].media.remove(ours.id)
        del shopify.shop.files[ours.id]
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        (again,) = shopify.shop.ours
        assert shopify.shop.names(PRODUCT)[-1] == again.name
        assert again.id != ours.id


async def test_a_picture_is_waited_for_until_it_is_processed() -> None:
    async with rigged() as shopify:
        shopify.shop.looks = 5
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        assert sum(shopify.naps.seconds) > 5


async def test_a_picture_that_is_still_being_processed_is_left_for_the_next_try() -> None:
    async with rigged() as shopify:
        shopify.shop.looks = 18
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.error) == (
            Outcome.RETRY,
            "processing: Shopify is still processing the picture",
        )
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        assert len(shopify.shop.ours) == 1


async def test_a_picture_that_shopify_cannot_process_is_given_up_and_told() -> None:
    async with rigged() as shopify:
        shopify.shop.fails = ["IMAGE_PROCESSING_FAILURE"]
        attempt = await shopify.send()
        assert attempt.outcome is Outcome.ABORT
        assert "IMAGE_PROCESSING_FAILURE" in (attempt.error or "")
        assert shopify.shop.names(PRODUCT) == OLD


async def test_a_picture_that_shopify_could_not_fetch_is_uploaded_anew_under_its_name() -> None:
    async with rigged() as shopify:
        shopify.shop.fails = ["IMAGE_DOWNLOAD_FAILURE"]
        assert (await shopify.send()).outcome is Outcome.RETRY
        assert shopify.shop.ours == []
        assert (await shopify.send()).outcome is Outcome.DELIVERED
        assert len(shopify.shop.ours) == 1


async def test_a_gallery_of_more_than_one_page_is_read_to_its_end() -> None:
    shop = ShopifyShop()
    shop.most_media = 300
    async with rigged(shop) as shopify:
        shop.product(7, *(f"old-{number}.jpg" for number in range(260)))
        attempt = await shopify.send(mode="replace", metadata={"product_id": "7"})
        assert attempt.outcome is Outcome.DELIVERED
        assert shop.names("gid://shopify/Product/7") == [shop.ours[0].name]


async def test_a_product_and_its_variant_may_be_named_by_their_global_ids() -> None:
    shop = ShopifyShop()
    async with rigged(shop) as shopify:
        variant = shop.variant(5, PRODUCT)
        attempt = await shopify.send(metadata={"product_id": PRODUCT, "variant_id": variant})
        assert attempt.outcome is Outcome.DELIVERED
        assert shop.variants[variant][1] == [shop.ours[0].id]


async def test_of_a_jobs_results_only_those_go_to_the_shop_that_are_wanted() -> None:
    outputs = [rig.output("cat", name="mask"), rig.output("coffee")]
    async with rigged() as shopify:
        metadata = METADATA | {"position": "2"}
        attempt = await shopify.send(outputs=outputs, metadata=metadata, config_outputs=["image"])
        assert attempt.outcome is Outcome.DELIVERED
        (ours,) = shopify.shop.ours
        assert ours.body == rig.photo("coffee")
        assert shopify.shop.names(PRODUCT)[1] == ours.name
        # Its name does not depend on what else is wanted.
        assert (await shopify.send(outputs=outputs, metadata=metadata)).outcome is Outcome.DELIVERED
        assert [file.body for file in shopify.shop.ours] == [rig.photo("coffee"), rig.photo("cat")]
        attempt = await shopify.send(outputs=outputs, config_outputs=["picture"])
        assert (attempt.outcome, attempt.error) == (Outcome.ABORT, "start: the job has no result named picture")
