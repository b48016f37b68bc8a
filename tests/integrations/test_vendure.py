"""A real Vendure server: a finished picture is on the product, once, byte for byte, whatever happens on the way."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from handlers.destinations.contract import Message
from handlers.destinations.vendure import Vendure
from schemas.delivery import Attempt, Outcome
from schemas.shop import Mode, VendureConfig
from tests.conftest import PHOTOS
from tests.destinations import shops_rig
from tests.destinations.faults import Fault, Faults, serving
from tests.destinations.shops_rig import Naps, Pictures, Steps, Turns, now, photo
from tests.integrations.vendure_rig import MOST_BYTES, Shop, downloaded, vendure

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with vendure(tmp_path_factory.mktemp("vendure")) as running:
        yield running


@pytest.fixture(scope="module")
def key(shop: Shop) -> str:
    return shop.key()


class Desk:
    """Our destination at a shop, without the service."""

    def __init__(self, shop: Shop, key: str, **config: Any) -> None:
        self.http, self.pictures, self.turns = shops_rig.http(), Pictures(), Turns()
        self.vendure = Vendure(self.http, now, Naps(), self.pictures, self.turns)
        self.config = VendureConfig(**{"shop": shop.admin_api, "api_key": key, **config})

    async def send(self, event: Message, steps: Steps | None = None, **config: Any) -> Attempt:
        config_now = self.config.model_copy(update=config)
        return await self.vendure.send(event, shops_rig.target("vendure", config_now), steps or Steps())

    async def checks(self, **metadata: str) -> dict[str, tuple[bool, str]]:
        found = await self.vendure.check(shops_rig.target("vendure", self.config), metadata, 30.0)
        return {check.name: (check.ok, check.detail) for check in found}


@asynccontextmanager
async def desk(shop: Shop, key: str, **config: Any) -> AsyncIterator[Desk]:
    made = Desk(shop, key, **config)
    try:
        yield made
    finally:
        await made.http.close()


def message(metadata: Mapping[str, str], *photos: str, **more: Any) -> Message:
    """Of a job that no other test has had: its pictures would be found."""
    return shops_rig.message(metadata, *photos, **{"job": f"job_{secrets.token_hex(8)}", **more})


def delivered(attempt: Attempt) -> None:
    assert (attempt.outcome, attempt.error) == (Outcome.DELIVERED, None)


# --- where pictures go ------------------------------------------------------------------------------------------------


async def test_the_picture_is_the_products_main_one_byte_for_byte(shop: Shop, key: str) -> None:
    product = shop.product()
    async with desk(shop, key, custom_field="wirephotoJob") as it:
        event = message({"product_id": product, "alt": "A cup of coffee"}, job="job_of_coffee")
        delivered(await it.send(event))
    seen = shop.seen(product)
    assert downloaded(seen["featuredAsset"]) == photo("coffee")
    assert [asset["name"] for asset in seen["assets"]] == ["A cup of coffee"]
    assert seen["customFields"] == {"wirephotoJob": "job_of_coffee"}


async def test_each_mode_does_with_the_other_pictures_what_it_says(shop: Shop, key: str) -> None:
    old = [shop.picture(PHOTOS / "cat.jpg") for _ in range(2)]
    async with desk(shop, key) as it:
        for mode, position, order, main in (
            (Mode.APPEND, None, "oon", 0),
            (Mode.APPEND, "2", "ono", 0),
            (Mode.SET_MAIN, None, "noo", 0),
            (Mode.REPLACE, None, "n", 0),
        ):
            product = shop.product(*old)
            event = message({"product_id": product, **({"position": position} if position else {})})
            delivered(await it.send(event, mode=mode))
            gallery = shop.gallery(product)
            (new,) = set(gallery) - set(old)
            assert "".join("n" if asset == new else "o" for asset in gallery) == order
            assert shop.seen(product)["featuredAsset"]["id"] == gallery[main]
    # Taken off a product, not deleted: another one may show it.
    assert set(old) <= {asset["id"] for asset in shop("query { assets { items { id } } }")["assets"]["items"]}


async def test_a_jobs_pictures_stay_together_in_their_order(shop: Shop, key: str) -> None:
    old = shop.picture(PHOTOS / "cat.jpg")
    async with desk(shop, key) as it:
        for mode, others in ((Mode.REPLACE, []), (Mode.SET_MAIN, [old]), (Mode.APPEND, None)):
            product = shop.product(old)
            delivered(await it.send(message({"product_id": product}, "coffee", "astronaut"), mode=mode))
            gallery = shop.gallery(product)
            ours = gallery[1:] if others is None else gallery[:2]
            assert [a for a in gallery if a not in ours] == ([old] if others is None else others)
            by_id = {asset["id"]: asset for asset in shop.seen(product)["assets"]}
            assert [downloaded(by_id[asset]) for asset in ours] == [photo("coffee"), photo("astronaut")]


async def test_a_variant_shows_the_picture_too(shop: Shop, key: str) -> None:
    product = shop.product(shop.picture(PHOTOS / "cat.jpg"))
    variant = shop.variant(product)
    async with desk(shop, key) as it:
        delivered(await it.send(message({"product_id": product, "variant_id": variant})))
        foreign = await it.send(message({"product_id": shop.product(), "variant_id": variant}))
    new = shop.gallery(product)[-1]
    (shown,) = shop.seen(product)["variants"]
    assert (shown["featuredAsset"], shown["assets"]) == ({"id": new}, [{"id": new}])
    assert foreign.outcome is Outcome.ABORT
    assert "has no variant" in str(foreign.error)


async def test_two_pictures_for_one_product_at_once_are_both_there(shop: Shop, key: str) -> None:
    product = shop.product()
    async with desk(shop, key) as it:
        events = [message({"product_id": product}) for _ in range(4)]
        for attempt in await asyncio.gather(*(it.send(event) for event in events)):
            delivered(attempt)
    assert len(set(shop.gallery(product))) == 4


async def test_a_picture_that_comes_late_takes_no_later_ones_place(shop: Shop, key: str) -> None:
    old = shop.picture(PHOTOS / "cat.jpg")
    for mode, order in ((Mode.REPLACE, ["new"]), (Mode.SET_MAIN, ["new", "old", "late"]), (Mode.APPEND, None)):
        product = shop.product(old)
        variant, ledger = shop.variant(product), dict[str, int]()
        async with desk(shop, key, custom_field="wirephotoJob") as it:
            metadata = {"product_id": product, "variant_id": variant}
            newer = message({**metadata, "alt": "new"}, job=f"job_new_{mode}")
            delivered(await it.send(newer, Steps(2, ledger), mode=mode))
            # The same product, written in another way.
            late = message({"product_id": f"0{product}", "variant_id": f"0{variant}", "alt": "late"})
            attempt = await it.send(late, Steps(1, ledger), mode=mode)
        assert attempt.outcome is Outcome.SUPERSEDED
        assert f"variant 0{variant} shows a later job's picture" in str(attempt.error)
        seen = shop.seen(product)
        names = {asset["id"]: asset["name"] for asset in seen["assets"]} | {old: "old"}
        assert [names[asset["id"]] for asset in seen["assets"]] == (order or ["old", "new", "late"])
        assert names[seen["featuredAsset"]["id"]] == ("old" if mode is Mode.APPEND else "new")
        assert names[seen["variants"][0]["featuredAsset"]["id"]] == "new"
        assert seen["customFields"] == {"wirephotoJob": f"job_new_{mode}"}


# --- once, whatever happens -------------------------------------------------------------------------------------------


def proxied(faults: Faults, shop: Shop) -> web.Application:
    """A way to the real server on which calls are lost."""
    app = faults.application()

    async def through(request: web.Request) -> web.Response:
        kept = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, shop.url + request.path, data=await request.read(), headers=kept) as got,
        ):
            return web.Response(status=got.status, body=await got.read(), content_type="application/json")

    app.router.add_route("*", "/{tail:.*}", through)
    return app


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_try_that_ends_between_any_two_calls_leaves_one_picture_in_the_end(
    shop: Shop, key: str, fault: Fault
) -> None:
    faults = Faults()
    variant_of = shop.product(shop.picture(PHOTOS / "cat.jpg"))
    metadata = {"product_id": variant_of, "variant_id": shop.variant(variant_of), "alt": "Coffee"}
    async with serving(proxied(faults, shop)) as url:
        config = {"custom_field": "wirephotoJob", "mode": Mode.SET_MAIN}
        async with desk(replace(shop, url=url), key, **config) as it:
            known = set(shop.made_by_us())
            for cut in range(1, 99):
                faults.restart(**{f"call_{cut}": fault})
                event, steps = message(metadata, job=f"job_{fault.name}_{cut}"), Steps()
                first = await it.send(event, steps)
                went_through = len(faults.calls) < cut
                assert first.outcome is (Outcome.DELIVERED if went_through else Outcome.RETRY), first
                faults.plan.clear()
                delivered(await it.send(event, steps))
                (made,) = set(shop.made_by_us()) - known
                known.add(made)
                seen = shop.seen(variant_of)
                gallery = [asset["id"] for asset in seen["assets"]]
                assert gallery[0] == seen["featuredAsset"]["id"] == made
                assert (gallery.count(made), len(gallery)) == (1, cut + 1)
                assert seen["variants"][0]["featuredAsset"]["id"] == made
                assert seen["customFields"]["wirephotoJob"] == f"job_{fault.name}_{cut}"
                if went_through:
                    break
    assert cut > 10, "there were calls to cut"


async def test_what_is_gone_at_the_shop_is_repaired_when_it_is_delivered_once_more(shop: Shop, key: str) -> None:
    product, steps = shop.product(), Steps()
    event = message({"product_id": product})
    async with desk(shop, key) as it:
        delivered(await it.send(event, steps))
        (first,) = shop.gallery(product)
        delivered(await it.send(event, steps))
        assert shop.gallery(product) == [first]
        # Taken off the product: it is attached again.
        shop("mutation ($id: ID!) { updateProduct(input: { id: $id, assetIds: [] }) { id } }", id=product)
        delivered(await it.send(event, steps))
        assert shop.gallery(product) == [first]
        # Deleted: it is uploaded again.
        shop.delete_picture(first)
        delivered(await it.send(event, steps))
        (second,) = shop.gallery(product)
        assert second != first
        assert downloaded(shop.seen(product)["featuredAsset"]) == photo("coffee")


async def test_a_picture_that_vendure_drops_without_a_word_is_not_delivered(shop: Shop, key: str) -> None:
    """Our asset is deleted between the look at it and the product's new list."""
    product = shop.product(shop.picture(PHOTOS / "cat.jpg"))
    faults, event, steps = Faults(), message({"product_id": product}), Steps()
    app = proxied(faults, shop)

    @web.middleware
    async def deleting(request: web.Request, handler: Any) -> web.StreamResponse:
        if b"updateProduct(" in await request.read():
            for asset in steps.saved.values():
                await asyncio.to_thread(shop.delete_picture, asset)
        response: web.StreamResponse = await handler(request)
        return response

    app.middlewares.append(deleting)
    async with serving(app) as url, desk(replace(shop, url=url), key) as it:
        dropped = await it.send(event, steps)
        assert (dropped.outcome, "is not seen there" in str(dropped.error)) == (Outcome.RETRY, True)
    async with desk(shop, key) as it:
        delivered(await it.send(event, steps))
    assert len(shop.gallery(product)) == 2


# --- what Vendure says no to ------------------------------------------------------------------------------------------


async def test_what_can_not_be_done_is_said_before_a_byte_is_sent(shop: Shop, key: str) -> None:
    product, before = shop.product(), set(shop.made_by_us())
    huge = shops_rig.output("coffee", bytes=20_971_521)
    cases: list[tuple[Message, dict[str, Any], str]] = [
        (message({"product_id": "999999"}), {}, "no product '999999'"),
        (message({"product_id": "lamp"}), {}, "no product 'lamp'"),
        (message({"product_id": product, "variant_id": "999999"}), {}, "has no variant"),
        (message({"product_id": product, "alt": "a" * 256}), {}, "255 characters of alt text"),
        (message({"product_id": product}), {"custom_field": "nope"}, "nope"),
        (message({"product_id": product}, outputs=[huge]), {}, "takes 20971520 bytes at most"),
        (message({"product_id": product}, outputs=[shops_rig.output("cat", content_type="video/mp4")]), {}, "video"),
    ]
    async with desk(shop, key) as it:
        for event, config, says in cases:
            refused = await it.send(event, **config)
            assert (refused.outcome, says in str(refused.error)) == (Outcome.ABORT, True), refused
        it.pictures.gone.add("coffee")
        gone = await it.send(message({"product_id": product}))
        assert (gone.outcome, "no longer kept" in str(gone.error)) == (Outcome.ABORT, True)
    assert set(shop.made_by_us()) == before


async def test_a_picture_that_is_too_large_for_this_server_is_given_up(
    shop: Shop, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.jpg").write_bytes(photo("coffee") + b"\0" * MOST_BYTES)
    monkeypatch.setattr(shops_rig, "PHOTOS", tmp_path)
    async with desk(shop, key) as it:
        event = message({"product_id": shop.product()}, outputs=[{**_large(), "asset": "large"}])
        refused = await it.send(event)
    assert (refused.outcome, "uploadMaxFileSize" in str(refused.error)) == (Outcome.ABORT, True), refused


def _large() -> dict[str, Any]:
    return {
        "name": "image",
        "content_type": "image/jpeg",
        "bytes": MOST_BYTES + 1,
        "width": 600,
        "height": 400,
        "sha256": "0" * 64,
    }


async def test_a_key_that_opens_nothing_or_not_enough_is_refused_with_what_is_to_be_done(shop: Shop) -> None:
    product = shop.product()
    event = message({"product_id": product})
    for given, says in (
        ("nonsense", "tokenMethod"),
        (shop.key("ReadCatalog", "ReadAsset", "UpdateCatalog"), "CreateCatalog or CreateAsset"),
        (shop.key("ReadCatalog", "ReadAsset", "CreateAsset"), "UpdateCatalog or UpdateProduct"),
    ):
        async with desk(shop, given) as it:
            refused = await it.send(event)
            assert (refused.outcome, says in str(refused.error)) == (Outcome.REFUSED, True), refused
            assert given not in f"{refused.error}{refused.response_head}"
            checks = await it.checks(product_id=product)
            failed = [detail for ok, detail in checks.values() if not ok]
            assert any(says in detail for detail in failed), checks


async def test_a_channel_that_there_is_not_is_refused_though_vendure_takes_the_default_for_it(
    shop: Shop, key: str
) -> None:
    token = shop("query { activeChannel { token } }")["activeChannel"]["token"]
    product = shop.product()
    async with desk(shop, key, channel_token="no-such-channel") as it:
        refused = await it.send(message({"product_id": product}))
        assert (refused.outcome, "no channel" in str(refused.error)) == (Outcome.REFUSED, True)
        assert (await it.checks())["channel"][0] is False
    async with desk(shop, key, channel_token=token) as it:
        delivered(await it.send(message({"product_id": product})))
    # With a second channel Vendure says so itself.
    shop(
        'mutation { createChannel(input: { code: "de", token: "de-token", defaultLanguageCode: en,'
        " availableLanguageCodes: [en], pricesIncludeTax: true, currencyCode: EUR, defaultCurrencyCode: EUR,"
        ' defaultTaxZoneId: "1", defaultShippingZoneId: "1" }) { __typename } }'
    )
    async with desk(shop, key, channel_token="no-such-channel") as it:
        refused = await it.send(message({"product_id": product}))
        assert refused.outcome is Outcome.REFUSED, refused


async def test_a_test_looks_at_everything_and_changes_nothing(shop: Shop, key: str) -> None:
    product, before = shop.product(), set(shop.made_by_us())
    variant = shop.variant(product)
    async with desk(shop, key, custom_field="wirephotoJob") as it:
        checks = await it.checks(product_id=product, variant_id=variant)
        assert all(ok for ok, _ in checks.values()), checks
        assert list(checks) == ["credentials", "permissions", "custom_field", "product", "variant"]
        missing = await it.checks(product_id="999999")
        assert missing["product"] == (False, "the shop has no product '999999': check what the job's metadata names")
    async with desk(shop, key, custom_field="nope") as it:
        assert (await it.checks())["custom_field"][0] is False
    async with desk(replace(shop, url=f"{shop.url}/nowhere"), key) as it:
        ok, detail = (await it.checks())["credentials"]
        assert (ok, "config.shop" in detail) == (False, True)
    assert (shop.gallery(product), set(shop.made_by_us())) == ([], before)
