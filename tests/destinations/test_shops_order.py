"""A picture that comes late takes no later one's place: at the shop itself, call by call."""

from collections.abc import Mapping
from typing import Any

import pytest

from schemas.delivery import Outcome
from tests.destinations import shops_rig as rig
from tests.destinations.faults import Fault
from tests.destinations.shopify_rig import rigged as shopify
from tests.destinations.shopify_shop import ShopifyShop
from tests.destinations.woocommerce_rig import rigged as woocommerce

pytestmark = pytest.mark.anyio

PRODUCT = {"product_id": "8411"}
SHOWN = "gid://shopify/Product/8411"


class Jobs:
    """Two jobs of one endpoint, the second later in the log."""

    def __init__(self, sender: rig.Sender) -> None:
        self._sender = sender
        ledger: dict[str, int] = {}
        self._steps = {"A": rig.Steps(1, ledger), "B": rig.Steps(2, ledger)}

    async def send(self, job: str, metadata: Mapping[str, str] = PRODUCT, **config: Any) -> tuple[Outcome, str | None]:
        attempt = await self._sender.send(job=job, steps=self._steps[job], metadata={**metadata, "alt": job}, **config)
        return attempt.outcome, attempt.error


def shown(shop: ShopifyShop) -> str:
    """Whose pictures product 8411 shows at Shopify; `-` is one of the shop's own."""
    return "".join(shop.files[name].alt or "-" for name in shop.products[SHOWN].media)


@pytest.mark.parametrize(("mode", "expected"), [("replace", "B-"), ("set_main", "B---A"), ("append", "---BA")])
async def test_a_late_picture_takes_nothing_away_at_shopify(mode: str, expected: str) -> None:
    async with shopify() as it:
        jobs = Jobs(it)
        assert await jobs.send("B", mode=mode, metafield={}) == (Outcome.DELIVERED, None)
        outcome, why = await jobs.send("A", mode=mode, metafield={})
        assert (outcome, why is None) == (
            Outcome.DELIVERED if mode == "append" else Outcome.SUPERSEDED,
            mode == "append",
        )
        # The video that is no picture stays.
        assert shown(it.shop) == expected
        assert it.shop.products[SHOWN].metafields == {"wirephoto.job": "B"}
        # Once more, in this order: all stays as it is.
        it.shop.changes.clear()
        for job in "AB":
            await jobs.send(job, mode=mode, metafield={})
        assert it.shop.changes == []


async def test_what_would_be_thrown_out_at_once_is_not_uploaded() -> None:
    async with shopify() as it, woocommerce() as (client, site):
        for sender in (it, client):
            jobs = Jobs(sender)
            await jobs.send("B", mode="replace")
            assert (await jobs.send("A", mode="replace"))[0] is Outcome.SUPERSEDED
        assert [file.alt for file in it.shop.ours] == ["B"]
        assert [media.alt for media in site.ours] == ["B"]


async def test_at_shopify_a_variant_shows_what_its_product_has_and_so_nothing_that_was_replaced() -> None:
    shop = ShopifyShop()
    async with shopify(shop) as it:
        jobs, variants = Jobs(it), [shop.variant(number, SHOWN) for number in (5, 6)]
        await jobs.send("B", PRODUCT | {"variant_id": "6"}, mode="replace")
        assert (await jobs.send("A", PRODUCT | {"variant_id": "5"}, mode="replace"))[0] is Outcome.SUPERSEDED
        assert [[shop.files[name].alt for name in shop.variants[variant][1]] for variant in variants] == [[], ["B"]]
        await jobs.send("A", PRODUCT | {"variant_id": "5"}, mode="append")
        assert [[shop.files[name].alt for name in shop.variants[variant][1]] for variant in variants] == [["A"], ["B"]]


async def test_a_newer_picture_that_never_was_seen_there_takes_no_place() -> None:
    """It failed after its change, or before: then the older one is put up, and the newer one's next try follows."""
    for cut in range(1, 9):
        async with woocommerce() as (client, site):
            jobs = Jobs(client)
            site.faults.restart(**{f"call_{cut}": Fault.LOST})
            first, _ = await jobs.send("B", mode="replace")
            site.faults.restart()
            late, _ = await jobs.send("A", mode="replace")
            assert late is (Outcome.DELIVERED if first is Outcome.RETRY else Outcome.SUPERSEDED), cut
            await jobs.send("B", mode="replace")
            assert [site.media[name].alt for name in site.shop.products[8411].images] == ["B"], cut
    assert first is Outcome.DELIVERED


async def test_products_are_known_by_their_shop_and_not_by_how_it_is_written() -> None:
    async with woocommerce() as (client, site), woocommerce() as (other, elsewhere):
        jobs = Jobs(client)
        await jobs.send("B", mode="replace")
        written = {"shop": f"{client.url.upper()}/wp-json/"}
        assert (await jobs.send("A", {"product_id": "08411"}, mode="replace", **written))[0] is Outcome.SUPERSEDED
        # The endpoint was given another shop: there nothing is later.
        assert (await jobs.send("A", mode="replace", shop=other.url))[0] is Outcome.DELIVERED
        assert (len(site.ours), len(elsewhere.ours)) == (1, 1)
