"""A shop is an endpoint: its config is judged whole, shown without its credentials, and changed by parts."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from handlers.destinations.contract import Check
from schemas.registration import Kind
from schemas.shop import SHOPS
from tests.acceptance.made import fields
from tests.acceptance.shop_rig import CONFIG, PRODUCT, deliveries, finished, paper_shop, settled, shop_endpoint
from tests.acceptance.test_api_tenants import tenant
from tests.harness import Stand, stand
from tests.stores import stolen

pytestmark = pytest.mark.anyio

SHOPIFY = {"shop": "https://lamps.myshopify.com", "access_token": "shpat_0123456789"}


def test_each_kind_of_shop_can_be_asked_for() -> None:
    assert set(get_args(Kind)) == {"webhook", "stream", *SHOPS}


async def test_a_shop_is_shown_without_its_credentials(it: Stand) -> None:
    made = await shop_endpoint(it.client, config={"alt": "{metadata.title}", "mode": "replace"})
    assert (made["kind"], made["url"], made["events"], made["max_in_flight"]) == ("vendure", None, ["job.succeeded"], 4)
    assert made["filter"] == {"data.metadata.product_id": {"exists": True}}
    assert made["credentials"] == ["api_key"]
    assert made["config"] == {
        "shop": CONFIG["shop"],
        "product": "{metadata.product_id}",
        "variant": "{metadata.variant_id}",
        "alt": "{metadata.title}",
        "position": "{metadata.position}",
        "mode": "replace",
        "outputs": [],
        "channel_token": None,
        "max_upload_bytes": 20_971_520,
        "custom_field": None,
    }
    looks = [await it.client.call("GET", path) for path in (f"/v1/endpoints/{made['id']}", "/v1/endpoints")]
    assert looks[0][1]["config"] == made["config"]
    assert CONFIG["api_key"] not in json.dumps([made, looks])
    # At rest it lies sealed.
    assert CONFIG["api_key"].encode() not in stolen(it.wirephoto.settings.data_dir)


async def test_all_faults_of_a_config_are_named_by_their_places(it: Stand) -> None:
    async def refused(body: dict[str, Any]) -> set[str]:
        status, problem = await it.client.call("POST", "/v1/endpoints", json=body)
        assert status == 422, problem
        return fields(problem)

    config = {"shop": "lamps", "product": "{sku}", "surprise": 1}
    assert await refused({"kind": "vendure", "config": config}) == {
        "config.shop",
        "config.product",
        "config.api_key",
        "config.surprise",
    }
    assert await refused({"kind": "vendure"}) == {"config"}
    assert await refused({"kind": "shopify", "config": {"shop": "https://lamps.myshopify.com"}}) == {"config"}
    assert await refused({"url": "https://shop.example/", "config": CONFIG}) == {"config"}
    assert await refused({"kind": "stream", "config": CONFIG}) == {"config"}
    # What has a meaning for events alone.
    own = {"url": "https://shop.example/", "events": ["job.*"], "format": "flat", "signatures": ["v1a"]}
    own_faults = {*own, "headers"}
    assert await refused({"kind": "shopify", "config": SHOPIFY, **own, "headers": {"X-A": "b"}}) == own_faults
    status, plain = await it.client.call("POST", "/v1/endpoints", json={"url": "https://shop.example/", "config": {}})
    assert (status, plain["config"], plain["credentials"]) == (201, {}, [])


async def test_a_shop_at_a_private_address_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    async with stand(tmp_path, allow_networks=[]) as it:
        inner = {"kind": "vendure", "config": {**CONFIG, "shop": "http://169.254.169.254/admin-api"}}
        status, problem = await it.client.call("POST", "/v1/endpoints", json=inner)
        assert (status, fields(problem)) == (422, {"config.shop"})
        made = await shop_endpoint(it.client, config={"shop": "https://lamps.example/admin-api"})
        patch = {"config": {"shop": inner["config"]["shop"]}}  # type: ignore[index]
        status, problem = await it.client.call("PATCH", f"/v1/endpoints/{made['id']}", json=patch)
        assert (status, fields(problem)) == (422, {"config.shop"})


async def test_a_patch_changes_the_names_it_gives_and_keeps_the_rest_with_the_credentials(
    it: Stand, photo: Path
) -> None:
    shop = paper_shop(it)
    made = await shop_endpoint(it.client, config={"channel_token": "de"})
    path = f"/v1/endpoints/{made['id']}"

    async def patched(config: dict[str, Any]) -> dict[str, Any]:
        status, changed = await it.client.call("PATCH", path, json={"config": config})
        assert status == 200, changed
        body: dict[str, Any] = changed
        return body

    changed = await patched({"mode": "set_main", "channel_token": None, "product": "{metadata.sku}"})
    assert changed["config"] == {
        **made["config"],
        "mode": "set_main",
        "channel_token": None,
        "product": "{metadata.sku}",
    }
    # The filter that nobody chose goes along; one that somebody chose stays.
    assert changed["filter"] == {"data.metadata.sku": {"exists": True}}
    await it.client.call("PATCH", path, json={"filter": {"data.vendor": "vanceai"}})
    back = await patched({"product": "{metadata.product_id}", "mode": None})
    assert (back["filter"], back["config"]["mode"]) == ({"data.vendor": "vanceai"}, "append")
    await finished(it.client, photo)
    await settled(it.client, made, "delivered")
    config = shop.seen[-1].shop
    assert config is not None
    assert config.secrets == {"api_key": CONFIG["api_key"]}
    assert (await patched({"api_key": "another"}))["credentials"] == ["api_key"]
    await finished(it.client, photo)
    await settled(it.client, made, "delivered", "delivered")
    config = shop.seen[-1].shop
    assert config is not None
    assert config.secrets == {"api_key": "another"}


async def test_credentials_are_never_taken_along_to_another_address(it: Stand, photo: Path) -> None:
    """Who may change an endpoint may not read its credentials: he must not have them sent to a server of his own."""
    shop = paper_shop(it)
    made = await shop_endpoint(it.client)
    path, elsewhere = f"/v1/endpoints/{made['id']}", "http://127.0.0.1:10/admin-api"
    for moved in ({"shop": elsewhere}, {"shop": elsewhere, "mode": "replace"}):
        status, problem = await it.client.call("PATCH", path, json={"config": moved})
        assert (status, fields(problem)) == (422, {"config.api_key"})
    assert (await it.client.call("GET", path))[1]["config"] == made["config"]
    same = {"shop": CONFIG["shop"], "mode": "replace"}
    assert (await it.client.call("PATCH", path, json={"config": same}))[0] == 200
    moved = {"shop": elsewhere, "api_key": "another"}
    assert (await it.client.call("PATCH", path, json={"config": moved}))[0] == 200
    await finished(it.client, photo)
    await settled(it.client, made, "delivered")
    config = shop.seen[-1].shop
    assert config is not None
    assert (config.shop, config.secrets) == (elsewhere, {"api_key": "another"})
    other = await shop_endpoint(it.client, kind="shopify", config=SHOPIFY)
    way_in = {"access_token": None, "client_id": "id", "client_secret": "secret"}
    body = {"config": {"shop": "https://vases.myshopify.com", **way_in}}
    assert (await it.client.call("PATCH", f"/v1/endpoints/{other['id']}", json=body))[0] == 200


async def test_a_patch_that_spoils_a_config_changes_nothing(it: Stand) -> None:
    made = await shop_endpoint(it.client)
    path = f"/v1/endpoints/{made['id']}"
    for body, faulty in (
        ({"config": {"api_key": None, "mode": "shuffle"}}, {"config.api_key", "config.mode"}),
        ({"config": {"surprise": 1}}, {"config.surprise"}),
        ({"config": None}, {"config"}),
        ({"config": []}, {"config"}),
        ({"url": "https://shop.example/"}, {"url"}),
        ({"events": ["job.failed"], "format": "flat", "signatures": ["v1a"]}, {"events", "format", "signatures"}),
        ({"headers": {"X-A": "b"}}, {"headers"}),
    ):
        status, problem = await it.client.call("PATCH", path, json=body)
        assert (status, fields(problem)) == (422, faulty), body
    status, same = await it.client.call("GET", path)
    assert same == {name: value for name, value in made.items() if name != "secret"}
    hook = await it.client.subscribe("https://shop.example/")
    status, problem = await it.client.call("PATCH", f"/v1/endpoints/{hook['id']}", json={"config": CONFIG})
    assert (status, fields(problem)) == (422, {"config"})
    assert (await it.client.call("PATCH", f"/v1/endpoints/{hook['id']}", json={"config": {}}))[0] == 200


async def test_a_job_that_names_no_product_is_not_owed_to_a_shop(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    every = await shop_endpoint(it.client, filter={})
    chosen = await shop_endpoint(it.client, config={"product": "{metadata.store.id}-{metadata.sku}"})
    assert set(chosen["filter"]) == {"data.metadata.store.id", "data.metadata.sku"}
    await finished(it.client, photo, {})
    await finished(it.client, photo, {"store.id": "7"})
    await finished(it.client, photo, {"store.id": "7", "sku": "a"})
    await settled(it.client, chosen, "delivered")
    (*_, first) = (await settled(it.client, every, "aborted", "aborted", "aborted"))[:1]
    assert "names no product" in first["attempts"][0]["error"]
    assert len(shop.gallery) == 1


async def test_a_test_looks_at_the_shop_and_changes_nothing(it: Stand) -> None:
    shop = paper_shop(it)
    made = await shop_endpoint(it.client)
    path = f"/v1/endpoints/{made['id']}/test"
    shop.checks = [Check("credentials", True, "the key is taken"), Check("product", False, "there is no product 8411")]
    status, told = await it.client.call("POST", path, json={"metadata": PRODUCT})
    assert status == 200
    assert (told["delivered"], told["event"], told["error"]) == (False, None, "there is no product 8411")
    assert told["checks"] == [
        {"name": "credentials", "ok": True, "detail": "the key is taken"},
        {"name": "product", "ok": False, "detail": "there is no product 8411"},
    ]
    shop.checks = shop.checks[:1]
    status, told = await it.client.call("POST", path)
    assert (status, told["delivered"], told["error"]) == (200, True, None)
    assert shop.checked == [PRODUCT, {}]
    assert (await it.client.call("POST", path, json={"metadata": {"product id": "8411"}}))[0] == 422
    assert shop.calls == []
    assert await deliveries(it.client, made) == []


async def test_another_projects_shop_can_be_neither_looked_at_nor_changed(it: Stand) -> None:
    made = await shop_endpoint(it.client)
    stranger = await tenant(it)
    path = f"/v1/endpoints/{made['id']}"
    assert (await stranger.client.call("PATCH", path, json={"config": CONFIG}))[0] == 404
    assert (await stranger.client.call("POST", f"{path}/test", json={"metadata": PRODUCT}))[0] == 404
