"""The test of a shop is made while somebody waits: soon, and within the bound of all that goes on at shops."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.web import endpoints as web
from tests.acceptance.shop_rig import PRODUCT, Pass, finished, paper_shop, settled, shop_endpoint
from tests.acceptance.test_api_tenants import tenant
from tests.destinations.woocommerce_shop import PASSWORD, USER, WooCommerceShop
from tests.harness import Client, Stand

pytestmark = pytest.mark.anyio


async def asked(it: Stand, endpoint: dict[str, Any], client: Client | None = None) -> tuple[int, Any]:
    path = f"/v1/endpoints/{endpoint['id']}/test"
    status, told = await (client or it.client).call("POST", path, json={"metadata": PRODUCT})
    return status, told


async def test_tests_have_half_of_the_room_of_shops_and_deliveries_the_rest(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    gate = shop.between = Pass("check")
    it.wirephoto.site.deliver.room.most = 32  # of which eight are shops'
    endpoint, others = await shop_endpoint(it.client), (await tenant(it)).client
    tests = [asyncio.create_task(asked(it, endpoint)) for _ in range(6)]
    await gate.holds(2)
    # A picture is put up beside them, and another project's shop is looked at.
    await finished(it.client, photo)
    await settled(it.client, endpoint, "delivered")
    assert gate.held == 2
    theirs = await shop_endpoint(others)
    tests.append(asyncio.create_task(asked(it, theirs, others)))
    await gate.holds(3)
    gate.opened.set()
    assert [status for status, _ in await asyncio.gather(*tests)] == [200] * 7


async def test_a_test_waits_for_shops_that_hang_and_has_the_first_room_there_is(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    gate = shop.between = Pass("upload")
    it.wirephoto.site.deliver.room.most = 4  # of which one is shops'
    endpoint = await shop_endpoint(it.client)
    for _ in range(2):
        await finished(it.client, photo)
    await gate.holds(1)
    test = asyncio.create_task(asked(it, endpoint))
    for _ in range(5):
        await it.client.call("GET", "/healthz")
    assert shop.checked == []
    gate.opened.set()
    assert (await test)[0] == 200
    await settled(it.client, endpoint, "delivered", "delivered")


async def test_a_test_that_finds_no_room_says_that_nothing_was_looked_at(
    it: Stand, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = paper_shop(it)
    gate = shop.between = Pass("upload")
    it.wirephoto.site.deliver.room.most = 4
    endpoint = await shop_endpoint(it.client)
    await finished(it.client, photo)
    await gate.holds(1)
    monkeypatch.setattr(web, "ROOM_SECONDS", 0.05)
    for _ in range(2):
        status, problem = await asked(it, endpoint)
        assert (status, problem["type"]) == (503, "urn:wirephoto:problem:shops_busy")
        assert "nothing was looked at" in problem["detail"]
    assert shop.checked == []
    # Who has given up takes no room.
    gate.opened.set()
    await settled(it.client, endpoint, "delivered")
    assert (await asked(it, endpoint))[0] == 200


async def test_a_shop_that_is_silent_is_waited_for_as_long_as_a_person_waits(
    it: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert web.ROOM_SECONDS + web.LOOK_SECONDS <= 30
    monkeypatch.setattr(web, "LOOK_SECONDS", 0.3)
    site = WooCommerceShop()
    async with site.open() as url:
        config = {"shop": url, "username": USER, "application_password": PASSWORD}
        endpoint = await shop_endpoint(it.client, kind="woocommerce", config=config)
        site.silent_from = 2
        status, told = await asked(it, endpoint)
    assert (status, told["delivered"]) == (200, False)
    *looked, last = told["checks"]
    assert [(check["name"], check["ok"]) for check in looked] == [("credentials", True), ("permissions", True)]
    assert last["name"] == "woocommerce"
    assert last["detail"] == "woocommerce: not done within 0.3 seconds; nothing after that was looked at"
    assert site.violations == []
