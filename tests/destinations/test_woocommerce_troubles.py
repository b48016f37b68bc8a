"""What WordPress's noes come to: tried again, slower, given up, or the endpoint disabled; and no secret is told."""

import base64
from typing import Any

import pytest

from handlers.destinations.woocommerce_calls import BY_CODE, BY_STATUS
from schemas.delivery import Outcome
from tests.destinations import shops_rig as rig
from tests.destinations.woocommerce_products import Product
from tests.destinations.woocommerce_rig import METADATA, Client, rigged
from tests.destinations.woocommerce_shop import PASSWORD, USER, WooCommerceShop

pytestmark = pytest.mark.anyio


def _code(code: str, status: int) -> tuple[int, Any, dict[str, str]]:
    return status, {"code": code, "message": "<b>No.</b>", "data": {"status": status}}, {}


@pytest.mark.parametrize("code", BY_CODE)
@pytest.mark.parametrize("status", [400, 500])
async def test_every_code_means_what_its_row_says_whatever_its_status(code: str, status: int) -> None:
    async with rigged() as (client, shop):
        shop.answers = [_code(code, status)]
        attempt = await client.send()
        # The credentials are fine when they are asked for a second time.
        assert (attempt.outcome, attempt.status) == (BY_CODE[code] or Outcome.RETRY, status)
        assert f"No. ({code})" in (attempt.error or "")
        assert code in (attempt.response_head or "")
        assert (await client.send()).outcome is Outcome.DELIVERED


@pytest.mark.parametrize("status", [*BY_STATUS, 302, 400, 418, 500, 502])
async def test_every_status_without_a_code_means_what_its_row_says(status: int) -> None:
    async with rigged() as (client, shop):
        shop.answers = [(status, "<html>No.</html>", {"Retry-After": "600"})]
        attempt = await client.send()
        expected = BY_STATUS.get(status, Outcome.RETRY) or Outcome.RETRY
        assert (attempt.outcome, attempt.status) == (expected, status)
        assert attempt.retry_after == (600 if expected is Outcome.SLOW_DOWN else None)


async def test_an_answer_that_is_no_json_is_tried_again_and_said_to_be_none() -> None:
    async with rigged() as (client, shop):
        shop.answers = [(200, '<b>Warning</b>: Undefined index {"id": 8411}', {})]
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 200)
        assert "no JSON" in (attempt.error or "")


async def test_a_file_that_wordpress_refuses_is_given_up_although_it_answers_500() -> None:
    async with rigged() as (client, shop):
        shop.refuses_files = True
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.ABORT, 500)
        assert "not allowed to upload this file type" in (attempt.error or "")


# -- credentials -------------------------------------------------------------------------------------------------------


async def test_a_password_that_is_refused_twice_disables_the_endpoint() -> None:
    async with rigged() as (client, shop):
        shop.passwords.clear()
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, 401)
        assert "incorrect_password" in (attempt.error or "")
        assert len(shop.faults.calls) == 2


async def test_a_password_that_is_refused_once_is_only_tried_again() -> None:
    async with rigged() as (client, shop):
        shop.answers = [_code("incorrect_password", 401)]
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 401)


@pytest.mark.parametrize("lacks", ["upload_files", "edit_products"])
async def test_a_user_who_may_not_disables_the_endpoint_and_it_is_said_what(lacks: str) -> None:
    async with rigged() as (client, shop):
        shop.may = tuple(name for name in shop.may if name != lacks)
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, 403)
        assert lacks in (attempt.error or "")


async def test_no_password_goes_over_plain_http_to_a_public_address() -> None:
    async with rigged() as (client, _):
        attempt = await client.send(shop="http://lamps.example")
        assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, None)
        assert "https" in (attempt.error or "")


async def test_an_attempt_tells_no_secret_whatever_the_site_repeats() -> None:
    async with rigged() as (client, shop):
        words = [PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()]
        shop.answers = [(400, {"code": "x", "message": " ".join(words)}, {})]
        attempt = await client.send()
        assert "[redacted]" in (attempt.response_head or "")
        assert [word for word in words if word in str(attempt)] == []


# -- what is given up before a byte is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "metadata", "why"),
    [
        ({"content_type": "image/tiff"}, METADATA, "image/tiff"),
        ({}, {"alt": "A cup"}, "names no product"),
        ({}, {"product_id": "lamp"}, "is no id of a product"),
        ({}, METADATA | {"variant_id": "../5"}, "is no id of a variation"),
        ({}, METADATA | {"position": "first"}, "position"),
    ],
)
async def test_what_can_not_be_is_given_up_before_a_byte_is_sent(
    changed: dict[str, Any], metadata: dict[str, str], why: str
) -> None:
    async with rigged() as (client, shop):
        attempt = await client.send(outputs=[rig.output("coffee", **changed)], metadata=metadata)
        assert (attempt.outcome, attempt.status) == (Outcome.ABORT, None)
        assert why in (attempt.error or "")
        assert shop.faults.calls == []


async def test_a_product_or_variation_that_is_not_there_is_given_up_and_leaves_no_picture() -> None:
    async with rigged() as (client, shop):
        shop.shop.products[9] = Product(variations={6: None})
        for metadata in ({"product_id": "404"}, METADATA | {"variant_id": "404"}, METADATA | {"variant_id": "6"}):
            attempt = await client.send(metadata=metadata)
            assert (attempt.outcome, attempt.status) == (Outcome.ABORT, 404)
            assert "check what the job's metadata names" in (attempt.error or "")
        assert shop.ours == []


async def test_a_product_that_is_deleted_while_we_upload_is_given_up() -> None:
    async with rigged() as (client, shop):
        shop.shop.goes = True
        attempt = await client.send()
        # Where it was written to, a product that is not there is a 400.
        assert (attempt.outcome, attempt.status) == (Outcome.ABORT, 400)
        assert (attempt.error or "").startswith("attach: Invalid ID.")


async def test_a_result_that_is_no_longer_kept_is_given_up() -> None:
    async with rigged() as (client, _):
        client.pictures.gone.add("coffee")
        attempt = await client.send()
        assert (attempt.outcome, attempt.error) == (Outcome.ABORT, "upload: the result is no longer kept")


async def test_a_site_that_never_answers_is_left_at_the_deadline() -> None:
    async with rigged() as (client, shop):
        client.destination.deadline = 0.2
        shop.silent = True
        attempt = await client.send()
        assert (attempt.outcome, attempt.status) == (Outcome.RETRY, None)
        assert (attempt.error or "").startswith("timeout: product: ")


# -- the test of an endpoint -------------------------------------------------------------------------------------------


async def _checked(client: Client, shop: WooCommerceShop, **options: Any) -> dict[str, bool]:
    found = {check.name: check.ok for check in await client.check(**options)}
    assert (shop.shop.writes, shop.ours) == (0, [])
    return found


async def test_a_test_looks_at_everything_and_changes_nothing() -> None:
    async with rigged() as (client, shop):
        base = {"credentials": True, "permissions": True, "woocommerce": True}
        assert await _checked(client, shop, metadata={}) == base
        found = await _checked(client, shop, metadata=METADATA | {"variant_id": "5"})
        assert found == base | {"product": True, "variant": True}
        found = await _checked(client, shop, metadata=METADATA | {"variant_id": "6"})
        assert found == base | {"product": True, "variant": False}
        assert await _checked(client, shop, metadata={"product_id": "404"}) == base | {"product": False}
        shop.may = ("edit_products",)
        assert await _checked(client, shop) == base | {"permissions": False, "product": True}
        shop.shop.active = False
        found = await _checked(client, shop)
        assert found == {"credentials": True, "permissions": False, "woocommerce": False}


async def test_a_test_says_where_wordpress_takes_no_application_passwords() -> None:
    async with rigged() as (client, shop):
        shop.passwords.clear()
        (check,) = await client.check()
        assert (check.name, check.ok) == ("credentials", False)
        assert "offers no application passwords" not in check.detail
        shop.takes_passwords = False
        (check,) = await client.check()
        assert "offers no application passwords: WordPress does so over https only" in check.detail
        (check,) = await client.check(shop="http://lamps.example")
        assert (check.name, check.ok) == ("address", False)


async def test_a_user_that_is_none_is_told_as_such() -> None:
    async with rigged() as (client, shop):
        attempt = await client.send(username=f"not-{USER}")
        assert attempt.outcome is Outcome.REFUSED
        assert "invalid_username" in (attempt.error or "")
        assert "<strong>" not in (attempt.error or "")
        assert shop.ours == []
