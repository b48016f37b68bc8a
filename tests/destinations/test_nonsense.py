"""What answers with nonsense is a receiver that failed: its delivery is tried again by its schedule, not for ever."""

import json
from typing import Any

import pytest
from aiohttp import web

from handlers.destinations.shopify import Shopify
from handlers.destinations.vendure import Vendure
from handlers.destinations.woocommerce import WooCommerce
from schemas.delivery import Outcome
from schemas.shop import ShopConfig, ShopifyConfig, VendureConfig, WooCommerceConfig
from tests.destinations import shops_rig
from tests.destinations.faults import serving
from tests.destinations.shops_rig import Naps, Pictures, Steps, Turns, message, now

pytestmark = pytest.mark.anyio

ID = "gid://shopify/Product/8411"
COST = {"requestedQueryCost": 1e300, "throttleStatus": {"currentlyAvailable": 0, "restoreRate": 1e-300}}
SHOPS: dict[str, tuple[Any, ShopConfig, list[Any]]] = {
    "shopify": (
        Shopify,
        ShopifyConfig(shop="https://replaced.example", access_token="token"),
        [
            {"data": {"product": {"id": ID, "media": {"nodes": 7}}}},
            {"data": {"product": {"id": ID, "media": {"nodes": []}}, "files": {"nodes": 7}}},
            {
                "data": {
                    "product": {"id": ID, "media": {"nodes": []}},
                    "files": {"nodes": [{"id": "1", "image": {"url": "https://[/"}}]},
                }
            },
            {"errors": [{"message": "Throttled"}], "extensions": {"cost": COST}},
        ],
    ),
    "woocommerce": (
        WooCommerce,
        WooCommerceConfig(shop="https://replaced.example", username="user", application_password="password"),
        [7, {"images": 7}, {"images": [{"id": "main"}], "id": 5}, [{"id": 5, "source_url": "https://[/"}]],
    ),
    "vendure": (
        Vendure,
        VendureConfig(shop="https://replaced.example", api_key="key"),
        [
            {"data": {"product": {"id": "8411", "assets": 7}}},
            {"data": {"product": {"id": "8411", "assets": []}, "assets": {"items": 7}}},
        ],
    ),
}
ROWS = [(kind, number) for kind, (_, _, answers) in SHOPS.items() for number in range(len(answers))]


@pytest.mark.parametrize(("kind", "number"), ROWS)
async def test_nonsense_ends_a_try_and_no_more(kind: str, number: int) -> None:
    made, config, answers = SHOPS[kind]

    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps(answers[number]), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with serving(app) as url:
        http = shops_rig.http()
        try:
            shop = made(http, now, Naps(), Pictures(), Turns())
            target = shops_rig.target(kind, config.model_copy(update={"shop": url}))
            attempt = await shop.send(message({"product_id": "8411"}), target, Steps())
        finally:
            await http.close()
    assert attempt.outcome in (Outcome.RETRY, Outcome.SLOW_DOWN), attempt
