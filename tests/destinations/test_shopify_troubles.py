"""What Shopify's noes come to: tried again, slower, given up, or the endpoint disabled; and no secret is told."""

import asyncio
from typing import Any

import pytest

from handlers.destinations.shopify_calls import BY_CODE, BY_STATUS, BY_USER_ERROR, Meanings
from schemas.delivery import Attempt, Outcome
from tests.destinations import shops_rig as rig
from tests.destinations.shopify_rig import METADATA, Rig, rigged
from tests.destinations.shopify_shop import CLIENT, TOKEN, ShopifyShop

pytestmark = pytest.mark.anyio

PRODUCT = "gid://shopify/Product/8411"
ROWS: list[tuple[Meanings, str | int]] = [
    (table, key) for table in (BY_STATUS, BY_CODE, BY_USER_ERROR) for key in table
]


def _said(table: Meanings, key: str | int) -> tuple[int, Any]:
    if table is BY_STATUS:
        return int(key), {"errors": "No."}
    if table is BY_CODE:
        return 200, {"errors": [{"message": "No.", "extensions": {"code": key}}]}
    # As the answer to the mutation that a try of a finished delivery begins with: it repairs the gallery.
    return 200, {"data": {"fileUpdate": {"files": None, "userErrors": [{"code": key, "field": [], "message": "No."}]}}}


@pytest.mark.parametrize(("table", "key"), ROWS, ids=lambda value: "" if isinstance(value, dict) else str(value))
async def test_every_row_of_the_tables_is_kept_to(table: Meanings, key: str | int) -> None:
    async with rigged() as shopify:
        await shopify.send()
        status, said = _said(table, key)
        if table is BY_USER_ERROR:
            shopify.shop.products[PRODUCT].media.pop()
            shopify.shop.instead["fileUpdate"] = said
        else:
            shopify.shop.answers = [(status, said)]
        attempt = await shopify.send()
        # The credentials are fine when they are asked for a second time.
        assert attempt.outcome is (table[key] or Outcome.RETRY)
        assert attempt.status == status
        assert "No." in (attempt.error or "")
        assert "No." in (attempt.response_head or "")
        assert (await shopify.send()).outcome is Outcome.DELIVERED


async def test_what_no_table_lists_is_tried_again() -> None:
    odd: list[tuple[int, Any]] = [
        (418, {}),
        (302, {}),
        (200, ["?"]),
        (200, {"data": None}),
        (200, {"errors": [{"message": "?", "extensions": {"code": "NEW"}}]}),
        (200, {"errors": "?"}),
        (500, "?"),
    ]
    async with rigged() as shopify:
        for answer in odd:
            shopify.shop.answers = [answer]
            attempt = await shopify.send()
            assert (attempt.outcome, attempt.status) == (Outcome.RETRY, answer[0])
            assert attempt.error


@pytest.mark.parametrize("status", [200, 429])
async def test_a_throttle_is_waited_for_as_long_as_its_bucket_needs(status: int) -> None:
    async with rigged() as shopify:
        shopify.shop.throttled_status, shopify.shop.available = status, -490.0
        attempt = await shopify.send()
        # 10 points are wanted, 100 a second come back.
        assert (attempt.outcome, attempt.status, attempt.retry_after) == (Outcome.SLOW_DOWN, status, 5.0)
        shopify.shop.available = 2000.0
        assert (await shopify.send()).outcome is Outcome.DELIVERED


# -- credentials -------------------------------------------------------------------------------------------------------


async def test_a_token_that_is_refused_twice_disables_the_endpoint() -> None:
    async with rigged() as shopify:
        shopify.shop.tokens.clear()
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, 401)
        assert len(shopify.shop.faults.calls) == 2
        assert shopify.shop.changes == []


async def test_a_token_that_is_refused_once_is_only_tried_again() -> None:
    async with rigged() as shopify:
        shopify.shop.answers = [(401, {"errors": "[API] Invalid API key or access token"})]
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 401)


async def test_a_token_without_its_scopes_disables_the_endpoint_and_says_which() -> None:
    async with rigged() as shopify:
        shopify.shop.scopes = ("read_products", "write_products")
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, 200)
        assert "write_files or write_images" in (attempt.error or "")


def _app(**other: Any) -> dict[str, Any]:
    return {"client_id": CLIENT[0], "client_secret": CLIENT[1], **other}


async def test_an_apps_token_is_asked_for_once_and_kept() -> None:
    async with rigged() as shopify:
        shopify.shop.tokens.clear()
        tries = [shopify.send(steps=rig.Steps(), job=f"job_{number}", **_app()) for number in range(4)]
        assert {attempt.outcome for attempt in await asyncio.gather(*tries)} == {Outcome.DELIVERED}
        assert len(shopify.shop.granted) == 1


async def test_an_apps_token_that_is_refused_is_had_anew_once() -> None:
    async with rigged() as shopify:
        await shopify.send(**_app())
        shopify.shop.tokens.clear()
        assert (await shopify.send(**_app())).outcome is Outcome.DELIVERED
        assert len(shopify.shop.granted) == 2
        shopify.shop.grants_nothing = True
        shopify.shop.tokens.clear()
        attempt = await shopify.send(**_app())
        assert attempt.outcome is Outcome.REFUSED
        assert len(shopify.shop.granted) <= 4


async def test_an_apps_secret_that_is_refused_disables_the_endpoint() -> None:
    async with rigged() as shopify:
        attempt = await shopify.send(**_app(client_secret="shpss_wrong"))
        assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, 400)
        assert "shpss_wrong" not in str(attempt)


async def test_no_token_goes_over_plain_http_to_a_public_address() -> None:
    async with rigged() as shopify:
        attempt = await shopify.send(shop="http://lamps.myshopify.com")
        assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, None)
        assert "https" in (attempt.error or "")


def _secrets_in(attempt: Attempt) -> set[str]:
    return {secret for secret in (TOKEN, CLIENT[1], "shpca_", "signed-") if secret in str(attempt)}


async def test_an_attempt_tells_no_secret_whatever_the_shop_repeats() -> None:
    repeated = {"errors": [{"message": f"no {TOKEN} at https://x.example/y?X-Goog-Signature=signed-1 \0"}]}
    async with rigged() as shopify:
        shopify.shop.answers = [(200, repeated)]
        attempt = await shopify.send()
        assert attempt.response_head is not None
        assert "[redacted]" in attempt.response_head
        assert "\0" not in str(attempt.error)
        assert _secrets_in(attempt) == set()


async def test_what_the_storage_says_is_not_told_for_it_repeats_the_signature() -> None:
    async with rigged() as shopify:
        shopify.shop.unsigned = True
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 403)
        assert attempt.response_head is None
        assert _secrets_in(attempt) == set()


# -- what is given up before a byte is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "metadata", "why"),
    [
        ({"content_type": "image/tiff"}, METADATA, "image/tiff"),
        ({"bytes": 20_000_001}, METADATA, "20 MB"),
        ({"width": 5000, "height": 4000}, METADATA, "4472"),
        ({}, METADATA | {"alt": "a" * 500}, "512"),
        ({}, {"alt": "A cup"}, "names no product"),
        ({}, {"product_id": "lamp"}, "is no id of a Product"),
        ({}, METADATA | {"variant_id": "x"}, "is no id of a ProductVariant"),
        ({}, METADATA | {"position": "0"}, "position"),
    ],
)
async def test_what_shopify_would_not_take_is_given_up_before_a_byte_is_sent(
    changed: dict[str, Any], metadata: dict[str, str], why: str
) -> None:
    async with rigged() as shopify:
        alt: dict[str, Any] = {"alt": "{metadata.alt}, {metadata.alt}"} if why == "512" else {}
        attempt = await shopify.send(outputs=[rig.output("coffee", **changed)], metadata=metadata, **alt)
        assert (attempt.outcome, attempt.status) == (Outcome.ABORT, None)
        assert why in (attempt.error or "")
        assert shopify.shop.faults.calls == []


async def test_a_product_or_variant_that_is_not_there_is_given_up_and_leaves_no_file() -> None:
    async with rigged() as shopify:
        shopify.shop.product(9)
        shopify.shop.variant(5, "gid://shopify/Product/9")
        for metadata in ({"product_id": "404"}, METADATA | {"variant_id": "404"}, METADATA | {"variant_id": "5"}):
            attempt = await shopify.send(metadata=metadata)
            assert attempt.outcome is Outcome.ABORT
            assert "check what the job's metadata names" in (attempt.error or "")
        assert shopify.shop.ours == []


async def test_a_result_that_is_no_longer_kept_is_given_up() -> None:
    async with rigged() as shopify:
        shopify.pictures.gone.add("coffee")
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.error) == (Outcome.ABORT, "upload: the result is no longer kept")


async def test_a_shop_that_never_answers_is_left_at_the_deadline() -> None:
    async with rigged() as shopify:
        shopify.destination.deadline = 0.2
        shopify.shop.silent = True
        attempt = await shopify.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, None)
        assert (attempt.error or "").startswith("timeout: product: ")


# -- the test of an endpoint -------------------------------------------------------------------------------------------


async def _checked(shopify: Rig, **options: Any) -> dict[str, bool]:
    found = {check.name: check.ok for check in await shopify.check(**options)}
    assert shopify.shop.changes == []
    return found


async def test_a_test_looks_at_everything_and_changes_nothing() -> None:
    shop = ShopifyShop()
    async with rigged(shop) as shopify:
        shop.variant(5, PRODUCT)
        all_well = {"credentials": True, "scopes": True, "product": True, "variant": True}
        assert await _checked(shopify, metadata=METADATA | {"variant_id": "5"}) == all_well
        assert await _checked(shopify, metadata={}) == {"credentials": True, "scopes": True}
        found = await _checked(shopify, metadata=METADATA | {"variant_id": "6"})
        assert found == all_well | {"variant": False}
        found = await _checked(shopify, metadata={"product_id": "404"})
        assert found == {"credentials": True, "scopes": True, "product": False}
        shop.scopes = ("read_products",)
        found = await _checked(shopify)
        assert found == {"credentials": True, "scopes": False, "product": True}
        shop.tokens.clear()
        assert await _checked(shopify) == {"credentials": False}
        assert await _checked(shopify, shop="http://lamps.myshopify.com") == {"address": False}
