"""The whole way: a job in the sandbox, the running service, and a real Vendure whose product has the picture."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.helpers import CUTOUT
from tests.acceptance.shop_rig import finished, settled
from tests.harness import Stand, stand
from tests.integrations.vendure_rig import Shop, downloaded, vendure

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with vendure(tmp_path_factory.mktemp("vendure")) as running:
        yield running


async def connected(it: Stand, shop: Shop, key: str, **config: Any) -> dict[str, Any]:
    given = {"shop": shop.admin_api, "api_key": key, **config}
    status, made = await it.client.call("POST", "/v1/endpoints", json={"kind": "vendure", "config": given})
    assert status == 201, made
    endpoint: dict[str, Any] = made
    return endpoint


async def bytes_of(it: Stand, output: dict[str, Any]) -> bytes:
    status, body = await it.client.call("GET", output["url"], key="")
    assert status == 200
    held: bytes = body
    return held


async def test_a_finished_photo_is_on_the_product_byte_for_byte(tmp_path: Path, photo: Path, shop: Shop) -> None:
    product = shop.product()
    async with stand(tmp_path) as it:
        endpoint = await connected(it, shop, shop.key(), mode="set_main", custom_field="wirephotoJob")
        metadata = {"product_id": product, "alt": "A cat"}
        status, told = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/test", json={"metadata": metadata})
        assert (status, told["delivered"]) == (200, True), told
        assert shop.gallery(product) == []
        job = await finished(it.client, photo, metadata)
        (delivery,) = await settled(it.client, endpoint, "delivered")
        assert [(entry["status"], entry["error"]) for entry in delivery["attempts"]] == [(200, None)]
        seen = await asyncio.to_thread(shop.seen, product)
        assert downloaded(seen["featuredAsset"]) == await bytes_of(it, job["outputs"][0])
        assert (seen["featuredAsset"]["name"], seen["customFields"]["wirephotoJob"]) == ("A cat", job["id"])
        # Once more: the same picture, not another one.
        await it.client.call("POST", f"/v1/deliveries/{delivery['id']}/redeliver")
        async with asyncio.timeout(20):
            while (await settled(it.client, endpoint, "delivered"))[0]["attempt_count"] < 2:
                pass
        assert len(shop.gallery(product)) == 1


async def test_both_pictures_of_a_job_replace_what_was_there(tmp_path: Path, photos: Path, shop: Shop) -> None:
    old = shop.picture(photos / "cat.jpg")
    product = shop.product(old)
    async with stand(tmp_path) as it:
        endpoint = await connected(it, shop, shop.key(), mode="replace")
        status, job = await it.client.submit(
            CUTOUT, photos / "astronaut.jpg", headers={"Prefer": "wait=20"}, metadata={"product_id": product}
        )
        assert (status, len(job["outputs"])) == (200, 2), job
        await settled(it.client, endpoint, "delivered")
        seen = await asyncio.to_thread(shop.seen, product)
        shown = [downloaded(asset) for asset in seen["assets"]]
        assert shown == [await bytes_of(it, output) for output in job["outputs"]]
        assert seen["featuredAsset"]["id"] == seen["assets"][0]["id"]


async def test_the_recipe_in_the_readme_cleans_a_products_main_photo(tmp_path: Path, photos: Path, shop: Shop) -> None:
    dirty = shop.picture(photos / "cat.jpg")
    product, key = shop.product(dirty), shop.key()
    async with stand(tmp_path) as it:
        endpoint = await connected(it, shop, key, mode="set_main", outputs=["image"])
        query = f"{{ product(id: {product}) {{ name featuredAsset {{ source }} }} }}"
        headers = {"vendure-api-key": key}
        async with it.client.http.post(shop.admin_api, json={"query": query}, headers=headers) as answer:
            source = (await answer.json())["data"]["product"]["featuredAsset"]["source"]
        job: dict[str, Any] = {
            "params": {"bg_color": "FFFFFF", "format": "jpg"},
            "inputs": {"image": {"url": source}},
            "metadata": {"product_id": product, "alt": "Lamp"},
        }
        status, done = await it.client.submit("picwish/segmentation", headers={"Prefer": "wait=20"}, **job)
        assert (status, done["state"]) == (200, "succeeded"), done
        await settled(it.client, endpoint, "delivered")
        seen = await asyncio.to_thread(shop.seen, product)
        assert downloaded(seen["featuredAsset"]) == await bytes_of(it, done["outputs"][0])
        assert [asset["id"] for asset in seen["assets"]] == [seen["featuredAsset"]["id"], dirty]


async def test_a_key_that_was_deleted_holds_everything_until_there_is_another(
    tmp_path: Path, photo: Path, shop: Shop
) -> None:
    product = shop.product()
    async with stand(tmp_path) as it:
        endpoint = await connected(it, shop, shop.key())
        shop.forget_keys()
        await finished(it.client, photo, {"product_id": product})
        await settled(it.client, endpoint, "held")
        await finished(it.client, photo, {"product_id": product})
        await settled(it.client, endpoint, "held", "held")
        path = f"/v1/endpoints/{endpoint['id']}"
        _, disabled = await it.client.call("GET", path)
        assert (disabled["state"], disabled["disabled_reason"]) == ("disabled", "credentials_refused")
        await it.client.call("PATCH", path, json={"config": {"api_key": shop.key()}})
        await it.client.call("POST", f"{path}/enable")
        await settled(it.client, endpoint, "delivered", "delivered")
        assert len(set(shop.gallery(product))) == 2


async def test_a_service_that_is_restarted_while_it_uploads_puts_up_one_picture(
    tmp_path: Path, photo: Path, shop: Shop
) -> None:
    product, known = shop.product(), set(shop.made_by_us())
    async with stand(tmp_path) as it:
        endpoint = await connected(it, shop, shop.key())
        await finished(it.client, photo, {"product_id": product})
        # As soon as anything of it is there; nobody waits for the attempt.
        async with asyncio.timeout(20):
            while not set(await asyncio.to_thread(shop.made_by_us)) - known:
                pass
        await it.wirephoto.site.deliver.stop(0)
    async with stand(tmp_path) as it:
        await settled(it.client, endpoint, "delivered")
        assert set(shop.gallery(product)) == set(shop.made_by_us()) - known
        assert len(shop.gallery(product)) == 1
