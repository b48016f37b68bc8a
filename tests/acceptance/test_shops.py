"""A photograph in, and the finished picture is on the product: the running service before Shopify's and WooCommerce's
stand-ins, from the request to what the shop shows; and the test of an endpoint, which changes nothing there.
"""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.shop_rig import PRODUCT, finished, settled, shop_endpoint
from tests.destinations.faults import Fault
from tests.destinations.shopify_shop import CLIENT, ShopifyShop
from tests.destinations.woocommerce_products import Product
from tests.destinations.woocommerce_shop import PASSWORD, USER, WooCommerceShop
from tests.harness import Stand, stand

pytestmark = pytest.mark.anyio


@pytest.fixture
async def it(tmp_path: Path, everywhere: str) -> AsyncIterator[Stand]:  # noqa: ARG001 - it says which database
    async with stand(tmp_path, retry_schedule=[0.02] * 20) as running:
        yield running


async def _tested(it: Stand, endpoint: dict[str, Any]) -> dict[str, bool]:
    path = f"/v1/endpoints/{endpoint['id']}/test"
    status, told = await it.client.call("POST", path, json={"metadata": PRODUCT})
    assert status == 200, told
    assert told["delivered"] == all(check["ok"] for check in told["checks"])
    return {check["name"]: check["ok"] for check in told["checks"]}


async def test_a_finished_picture_is_the_main_one_of_its_product_at_shopify(it: Stand, photo: Path) -> None:
    shop = ShopifyShop()
    product = shop.product(8411, "front.jpg")
    async with shop.open() as url:
        config = {"shop": url, "client_id": CLIENT[0], "client_secret": CLIENT[1], "mode": "set_main"}
        endpoint = await shop_endpoint(it.client, kind="shopify", config=config)
        assert CLIENT[1] not in str(endpoint)
        assert await _tested(it, endpoint) == {"credentials": True, "scopes": True, "product": True}
        assert shop.changes == []
        # The file is made, and the answer is lost on its way.
        shop.faults.restart(call_5=Fault.LOST)
        job = await finished(it.client, photo)
        (delivery,) = await settled(it.client, endpoint, "delivered")
    assert [entry["outcome"] for entry in delivery["attempts"]] == ["retry", "delivered"]
    (ours,) = shop.ours
    assert shop.names(product) == [ours.name, "front.jpg"]
    assert hashlib.sha256(ours.body).hexdigest() == job["outputs"][0]["sha256"]
    assert shop.violations == []


async def test_a_finished_picture_is_the_only_one_of_its_product_at_woocommerce(it: Stand, photo: Path) -> None:
    site = WooCommerceShop()
    site.shop.products[8411] = Product([site.picture("front")])
    async with site.open() as url:
        config = {"shop": url, "username": USER, "application_password": PASSWORD, "mode": "replace", "meta_key": "job"}
        endpoint = await shop_endpoint(it.client, kind="woocommerce", config=config)
        assert PASSWORD not in str(endpoint)
        assert set((await _tested(it, endpoint)).values()) == {True}
        assert (site.ours, site.shop.writes) == ([], 0)
        site.faults.restart(call_4=Fault.LOST)
        job = await finished(it.client, photo)
        (delivery,) = await settled(it.client, endpoint, "delivered")
    assert [entry["outcome"] for entry in delivery["attempts"]] == ["retry", "delivered"]
    (ours,) = site.ours
    assert site.shop.products[8411].images == [ours.id]
    assert site.shop.products[8411].meta == {"job": job["id"]}
    assert hashlib.sha256(ours.body).hexdigest() == job["outputs"][0]["sha256"]
    assert site.violations == []


async def test_a_password_that_was_taken_back_disables_the_endpoint_and_keeps_what_it_is_owed(
    it: Stand, photo: Path
) -> None:
    site = WooCommerceShop()
    site.shop.products[8411] = Product()
    async with site.open() as url:
        config = {"shop": url, "username": USER, "application_password": PASSWORD}
        endpoint = await shop_endpoint(it.client, kind="woocommerce", config=config)
        site.passwords = {"another"}
        await finished(it.client, photo)
        await settled(it.client, endpoint, "held")
        path = f"/v1/endpoints/{endpoint['id']}"
        assert (await it.client.call("GET", path))[1]["disabled_reason"] == "credentials_refused"
        changed = {"config": {"application_password": "another"}}
        assert (await it.client.call("PATCH", path, json=changed))[0] == 200
        assert (await it.client.call("POST", f"{path}/enable"))[0] == 200
        await settled(it.client, endpoint, "delivered")
    assert len(site.names(8411)) == 1
