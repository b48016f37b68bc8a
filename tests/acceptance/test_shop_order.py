"""Of two jobs for one product the later one's picture is what it shows, whichever delivery comes last."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.shop_rig import finished, settled, shop_endpoint
from tests.destinations.faults import Fault
from tests.destinations.woocommerce_products import Product
from tests.destinations.woocommerce_shop import PASSWORD, USER, WooCommerceShop
from tests.harness import PATIENCE, Stand
from tests.store.rows import run

pytestmark = pytest.mark.anyio

PRODUCT = 8411


@dataclass
class Shop:
    """Of a job with the alternative text A the first try failed, and B's picture is on the product already."""

    it: Stand
    site: WooCommerceShop
    endpoint: dict[str, Any]
    jobs: dict[str, str]

    async def finished(self, name: str, photo: Path, **metadata: str) -> None:
        """Its picture has this alternative text."""
        job = await finished(self.it.client, photo, {"product_id": str(PRODUCT), "alt": name, **metadata})
        self.jobs[name] = job["id"]

    async def retried(self) -> dict[str, Any]:
        """A's delivery after the next try that its schedule has."""
        core = self.it.wirephoto.core
        await core.db.write(run, "UPDATE deliveries SET due_at = 1 WHERE due_at IS NOT NULL", {})
        core.wake_deliveries()
        first, _ = await settled(self.it.client, self.endpoint, "delivered", "delivered")
        return first

    async def attempts(self, delivery: dict[str, Any], count: int) -> dict[str, Any]:
        """A delivery once it has had so many."""
        path = f"/v1/deliveries/{delivery['id']}"
        async with asyncio.timeout(PATIENCE):
            while True:
                status, told = await self.it.client.call("GET", path)
                assert status == 200
                if told["attempt_count"] == count and told["state"] == "delivered":
                    found: dict[str, Any] = told
                    return found

    async def redelivered(self, delivery: dict[str, Any]) -> None:
        status, _ = await self.it.client.call("POST", f"/v1/deliveries/{delivery['id']}/redeliver")
        assert status == 202

    @property
    def shown(self) -> str:
        """Whose pictures the product shows, in their order; `-` is one of the shop's own."""
        by_file = {media.file: media.title for media in self.site.ours}
        return "".join(by_file.get(file, "-") for file in self.site.names(PRODUCT))

    @property
    def product(self) -> Product:
        return self.site.shop.products[PRODUCT]

    def of_variation(self, variation: int) -> str | None:
        shown = self.product.variations[variation]
        return None if shown is None else self.site.media[shown].title


@asynccontextmanager
async def opened(it: Stand, **config: Any) -> AsyncIterator[Shop]:
    site = WooCommerceShop()
    site.shop.products[PRODUCT] = Product([site.picture("front")], variations={5: None, 6: None})
    async with site.open() as url:
        way_in = {"shop": url, "username": USER, "application_password": PASSWORD, "meta_key": "job"}
        endpoint = await shop_endpoint(
            it.client, kind="woocommerce", config={**way_in, **config}, retry_schedule=[3600, 3600, 3600]
        )
        yield Shop(it, site, endpoint, {})
    assert site.violations == []


@asynccontextmanager
async def late(it: Stand, photo: Path, a: Mapping[str, str], b: Mapping[str, str], mode: str) -> AsyncIterator[Shop]:
    """A's first try has failed, B is delivered."""
    async with opened(it, mode=mode) as shop:
        shop.site.faults.restart(call_1=Fault.BEFORE)
        await shop.finished("A", photo, **a)
        (waiting,) = await settled(it.client, shop.endpoint, "pending")
        async with asyncio.timeout(PATIENCE):
            while not waiting["attempts"]:
                (waiting,) = await settled(it.client, shop.endpoint, "pending")
        await shop.finished("B", photo, **b)
        await settled(it.client, shop.endpoint, "pending", "delivered")
        yield shop


def told(delivery: dict[str, Any]) -> tuple[str, str | None]:
    last = delivery["attempts"][-1]
    return last["outcome"], last["error"]


async def test_an_older_jobs_picture_never_replaces_a_newer_jobs(it: Stand, photo: Path) -> None:
    async with late(it, photo, {}, {}, "replace") as shop:
        assert shop.shown == "B"
        delivery = await shop.retried()
        assert shop.shown == "B"
        assert [media.title for media in shop.site.ours] == ["B"], "what nobody would see is not uploaded"
        why = f"product {PRODUCT} shows a later job's picture, and this one is not put there"
        assert told(delivery) == ("superseded", why)
        assert shop.product.meta == {"job": shop.jobs["B"]}
        # It has its place in the ledger as delivered.
        assert (delivery["undelivered"], delivery["delivered_at"]) == (None, delivery["finished_at"])
        _, stats = await it.client.call("GET", f"/v1/endpoints/{shop.endpoint['id']}/stats")
        assert stats["attempts"]["by_outcome"] == {"retry": 1, "delivered": 1, "superseded": 1}


async def test_an_older_jobs_picture_comes_after_a_newer_jobs_that_is_the_main_one(it: Stand, photo: Path) -> None:
    # A position is of no meaning for this mode, though a job's metadata names one.
    async with late(it, photo, {"position": "1"}, {}, "set_main") as shop:
        delivery = await shop.retried()
        assert shop.shown == "B-A"
        why = f"product {PRODUCT} shows a later job's picture, as its main one, and this one comes last"
        assert told(delivery) == ("superseded", why)
        assert shop.product.meta == {"job": shop.jobs["B"]}


async def test_an_older_jobs_picture_is_appended_all_the_same(it: Stand, photo: Path) -> None:
    async with late(it, photo, {"position": "1"}, {}, "append") as shop:
        assert told(await shop.retried()) == ("delivered", None)
        assert shop.shown == "A-B"


@pytest.mark.parametrize("mode", ["append", "replace", "set_main"])
async def test_each_variant_shows_the_last_picture_that_was_for_it(it: Stand, photo: Path, mode: str) -> None:
    async with late(it, photo, {"variant_id": "5"}, {"variant_id": "6"}, mode) as shop:
        await shop.retried()
        assert (shop.of_variation(5), shop.of_variation(6)) == ("A", "B")
    async with late(it, photo, {"variant_id": "5"}, {"variant_id": "5"}, mode) as shop:
        delivery = await shop.retried()
        assert shop.of_variation(5) == "B"
        assert told(delivery)[0] == "superseded"
        assert "variant 5 shows a later job's picture" in (told(delivery)[1] or "")


async def test_a_newer_jobs_picture_that_comes_while_an_older_one_is_uploaded_keeps_its_place(
    it: Stand, photo: Path
) -> None:
    async with opened(it, mode="replace") as shop:
        hold = shop.site.faults.hold("POST /wp-json/wp/v2/media")
        await shop.finished("A", photo)
        await hold.reached.wait()
        await shop.finished("B", photo)
        await settled(it.client, shop.endpoint, "pending", "delivered")
        hold.opened.set()
        first, _ = await settled(it.client, shop.endpoint, "delivered", "delivered")
        assert (shop.shown, told(first)[0]) == ("B", "superseded")


async def test_what_somebody_asks_for_by_hand_takes_the_place_of_what_there_is(it: Stand, photo: Path) -> None:
    async with late(it, photo, {"variant_id": "5"}, {"variant_id": "5"}, "replace") as shop:
        delivery = await shop.retried()
        await shop.redelivered(delivery)
        delivery = await shop.attempts(delivery, 3)
        assert (shop.shown, shop.of_variation(5), told(delivery)[0]) == ("A", "A", "delivered")


async def test_what_waits_for_its_next_try_and_is_asked_for_by_hand_is_chosen_too(it: Stand, photo: Path) -> None:
    async with late(it, photo, {}, {}, "replace") as shop:
        waiting, _ = await settled(it.client, shop.endpoint, "pending", "delivered")
        await shop.redelivered(waiting)
        delivery = await shop.attempts(waiting, 2)
        assert (shop.shown, told(delivery)) == ("A", ("delivered", None))


async def test_a_choice_does_not_reach_beyond_the_jobs_that_come_later(it: Stand, photo: Path) -> None:
    """Somebody wanted A; it failed, C was made meanwhile, and A's retry comes after C's delivery."""
    async with late(it, photo, {}, {}, "replace") as shop:
        waiting, _ = await settled(it.client, shop.endpoint, "pending", "delivered")
        shop.site.faults.restart(call_1=Fault.BEFORE)
        await shop.redelivered(waiting)
        async with asyncio.timeout(PATIENCE):
            while len((await settled(it.client, shop.endpoint, "pending", "delivered"))[0]["attempts"]) < 2:
                pass
        await shop.finished("C", photo)
        await settled(it.client, shop.endpoint, "pending", "delivered", "delivered")
        core = it.wirephoto.core
        await core.db.write(run, "UPDATE deliveries SET due_at = 1 WHERE due_at IS NOT NULL", {})
        core.wake_deliveries()
        first, *_ = await settled(it.client, shop.endpoint, "delivered", "delivered", "delivered")
        assert (shop.shown, told(first)[0]) == ("C", "superseded")


async def test_a_replay_of_everything_ends_with_what_the_log_has_last(it: Stand, photo: Path) -> None:
    async with late(it, photo, {}, {}, "replace") as shop:
        first = await shop.retried()
        await shop.redelivered(first)
        await shop.attempts(first, 3)
        assert shop.shown == "A"
        wanted = {"since": "2020-01-01T00:00:00Z", "only": "all"}
        status, _ = await it.client.call("POST", f"/v1/endpoints/{shop.endpoint['id']}/replay", json=wanted)
        assert status == 202
        assert told(await shop.attempts(first, 4))[0] == "superseded"
        (_, second) = await settled(it.client, shop.endpoint, "delivered", "delivered")
        await shop.attempts(second, 2)
        assert shop.shown == "B"
