"""A WooCommerce of your own: skipped unless WOO_URL is set, for it puts a photograph on a product there.

WOO_URL=https://shop.example WOO_USER=ada WOO_PASSWORD='abcd EFGH …' WOO_PRODUCT=8411 \\
  .venv/bin/python -m pytest tests/live/test_woocommerce.py

An address on this machine may be plain http. What it makes, it leaves there: a picture in the library, and on the
product as its last. Use a shop that is for tests.
"""

import os
import secrets

import pytest

from schemas.delivery import Outcome
from tests.destinations import shops_rig as rig
from tests.destinations.woocommerce_rig import client

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif("WOO_URL" not in os.environ, reason="WOO_URL names no shop"),
]


async def test_a_picture_is_put_on_a_product_once_however_often_it_is_delivered() -> None:
    metadata = {"product_id": os.environ["WOO_PRODUCT"], "alt": "A cup of coffee"}
    job = f"job_{secrets.token_hex(8)}"
    async with client(os.environ["WOO_URL"]) as woocommerce:
        woocommerce.way_in = {
            "username": os.environ["WOO_USER"],
            "application_password": os.environ["WOO_PASSWORD"],
        }
        found = await woocommerce.check(metadata)
        assert all(check.ok for check in found), found
        first = await woocommerce.send("coffee", job=job, metadata=metadata)
        assert (first.outcome, first.error) == (Outcome.DELIVERED, None)
        kept = dict(woocommerce.steps.saved)
        # Once more with its steps, and once as after a crash that lost them: the same picture.
        assert (await woocommerce.send("coffee", job=job, metadata=metadata)).outcome is Outcome.DELIVERED
        again = rig.Steps()
        lost = await woocommerce.send("coffee", job=job, metadata=metadata, steps=again)
        assert (lost.outcome, again.saved) == (Outcome.DELIVERED, kept)
