"""Our WooCommerce client and a real WordPress: its media, its users and its look-ups.

WooCommerce is no package of Debian's. What is asked of wc/v3 is answered by the stand-in, in front of WordPress, which
asks WordPress itself whether a picture is there; all the rest goes through to it, byte for byte.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from handlers.destinations.woocommerce import WooCommerce
from schemas.delivery import Outcome
from tests.destinations import shops_rig as rig
from tests.destinations.faults import Fault, Faults, serving
from tests.destinations.woocommerce_products import Product, Products
from tests.destinations.woocommerce_rig import METADATA, PRODUCT, Client, client
from tests.integrations.wordpress_site import Site, site

pytestmark = pytest.mark.anyio

# What belongs to one connection only.
_HOP = frozenset({"connection", "transfer-encoding", "content-length", "host", "keep-alive"})


@pytest.fixture(scope="module")
def wordpress() -> Iterator[Site]:
    with site() as opened:
        yield opened


def _authorized(site: Site) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth("ada", site.passwords["ada"])}


class Shop:
    """WordPress with the stand-in's products before it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.faults = Faults()
        self.violations: list[str] = []
        self.shop = Products(self.source, self.violations)
        self._headers = _authorized(site)

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that WordPress answers itself, None for a 404."""
        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.request(method, f"{self.site.url}/wp-json/wp/v2/{path}", **options) as answer,
        ):
            assert answer.status in (200, 404), await answer.text()
            return None if answer.status == 404 else await answer.json()

    async def source(self, name: int) -> str | None:
        media = await self.ask("GET", f"media/{name}")
        return None if media is None or media["media_type"] != "image" else str(media["source_url"])

    async def ours(self) -> list[dict[str, Any]]:
        """All that we uploaded in this test; no other test's."""
        listed = await self.ask("GET", "media", params={"context": "edit", "per_page": "100", "search": "wirephoto-"})
        return [media for media in listed if media["id"] not in self.before]

    async def body(self, media: Mapping[str, Any]) -> bytes:
        async with aiohttp.ClientSession() as session, session.get(media["source_url"]) as answer:
            assert answer.status == 200
            return await answer.read()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Client]:
        self.before: set[int] = set()
        self.before = {media["id"] for media in await self.ours()}
        app = self.faults.application()
        self.shop.routes(app)
        app.router.add_route("*", "/{rest:.*}", self._through)
        async with serving(app) as url, client(url) as opened:
            opened.way_in = {"username": "ada", "application_password": self.site.passwords["ada"]}
            yield opened
        assert self.violations == []

    async def _through(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                f"{self.site.url}{request.raw_path}",
                headers=headers,
                data=await request.read() or None,
                skip_auto_headers=("Content-Type", "User-Agent"),
            ) as answer,
        ):
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


@asynccontextmanager
async def opened(wordpress: Site) -> AsyncIterator[tuple[Client, Shop]]:
    shop = Shop(wordpress)
    shop.shop.products[PRODUCT] = Product(variations={5: None})
    async with shop.open() as woocommerce:
        yield woocommerce, shop


async def test_a_picture_is_in_wordpress_byte_for_byte_with_its_alt_text_title_and_slug(wordpress: Site) -> None:
    async with opened(wordpress) as (woocommerce, shop):
        attempt = await woocommerce.send("coffee", metadata=METADATA | {"variant_id": "5"}, job="job_bytes")
        assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.DELIVERED, 200, None)
        (media,) = await shop.ours()
        assert await shop.body(media) == rig.photo("coffee")
        assert (media["alt_text"], media["title"]["raw"]) == (METADATA["alt"], METADATA["alt"])
        assert media["slug"].startswith("wirephoto-")
        assert media["source_url"].endswith(f"/{media['slug']}.jpg")
        assert media["missing_image_sizes"] == []
        product = shop.shop.products[PRODUCT]
        assert (product.images, product.variations) == ([media["id"]], {5: media["id"]})


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.LOST])
async def test_killed_at_any_call_and_tried_again_wordpress_has_exactly_one_picture(
    wordpress: Site, fault: Fault
) -> None:
    cut, cuts_something = 0, True
    while cuts_something:
        cut += 1
        async with opened(wordpress) as (woocommerce, shop):
            shop.faults.restart(**{f"call_{cut}": fault})
            job = f"job_{fault.name}_{cut}"
            first = await woocommerce.send("cat", job=job, mode="set_main")
            cuts_something = len(shop.faults.calls) >= cut
            if first.outcome is not Outcome.DELIVERED:
                assert first.outcome is Outcome.RETRY, (cut, first)
                shop.faults.restart()
                second = await woocommerce.send("cat", job=job, mode="set_main")
                assert second.outcome is Outcome.DELIVERED, (cut, second)
            (media,) = await shop.ours()
            assert shop.shop.products[PRODUCT].images == [media["id"]]
    assert cut > 6


async def test_an_upload_is_found_by_its_slug_and_where_that_was_changed_by_its_file(wordpress: Site) -> None:
    async with opened(wordpress) as (woocommerce, shop):
        assert (await woocommerce.send(job="job_found")).outcome is Outcome.DELIVERED
        assert (await woocommerce.send(job="job_found", steps=rig.Steps())).outcome is Outcome.DELIVERED
        (media,) = await shop.ours()
        renamed = {"slug": "a-cup", "title": "A cup of coffee"}
        assert (await shop.ask("POST", f"media/{media['id']}", json=renamed))["slug"] == "a-cup"
        assert (await woocommerce.send(job="job_found", steps=rig.Steps())).outcome is Outcome.DELIVERED
        (same,) = await shop.ours()
        assert same["id"] == media["id"]


async def test_what_was_deleted_in_wordpress_is_uploaded_again(wordpress: Site) -> None:
    async with opened(wordpress) as (woocommerce, shop):
        await woocommerce.send(job="job_deleted")
        (media,) = await shop.ours()
        await shop.ask("DELETE", f"media/{media['id']}", params={"force": "true"})
        shop.shop.products[PRODUCT].images.clear()
        assert (await woocommerce.send(job="job_deleted")).outcome is Outcome.DELIVERED
        (again,) = await shop.ours()
        assert again["id"] != media["id"]
        assert shop.shop.products[PRODUCT].images == [again["id"]]


async def test_an_upload_that_wordpress_did_not_finish_is_finished(wordpress: Site) -> None:
    async with opened(wordpress) as (woocommerce, shop):
        await woocommerce.send(job="job_sizes")
        (media,) = await shop.ours()
        wordpress.lose_sizes(str(media["id"]))
        (media,) = await shop.ours()
        assert "thumbnail" in media["missing_image_sizes"]
        assert (await woocommerce.send(job="job_sizes")).outcome is Outcome.DELIVERED
        (media,) = await shop.ours()
        assert media["missing_image_sizes"] == []


async def test_what_is_no_picture_is_refused_with_a_500_and_given_up(wordpress: Site) -> None:
    class Words(rig.Pictures):
        @asynccontextmanager
        async def __call__(self, *_: Any) -> AsyncIterator[Path | None]:
            yield Path(__file__)

    async with opened(wordpress) as (woocommerce, shop):
        http = rig.http()
        woocommerce.destination = WooCommerce(http, rig.now, rig.Naps(), Words(), rig.Turns())
        attempt = await woocommerce.send(job="job_words")
        await http.close()
        assert (attempt.outcome, attempt.status) == (Outcome.ABORT, 500)
        assert "rest_upload_sideload_error" in (attempt.error or "")
        assert await shop.ours() == []


async def test_wordpress_takes_no_bytes_whose_digest_is_another(wordpress: Site) -> None:
    headers = {
        "Content-Type": "image/jpeg",
        "Content-Disposition": 'attachment; filename="wirephoto-md5.jpg"',
        "Content-MD5": hashlib.md5(b"another").hexdigest(),
    }
    async with aiohttp.ClientSession(headers=_authorized(wordpress)) as session:
        address = f"{wordpress.url}/wp-json/wp/v2/media"
        async with session.post(address, data=rig.photo("cat"), headers=headers) as answer:
            assert answer.status == 412
            assert (await answer.json())["code"] == "rest_upload_hash_mismatch"


async def test_a_password_or_a_user_that_is_none_is_refused_and_nothing_is_uploaded(wordpress: Site) -> None:
    async with opened(wordpress) as (woocommerce, shop):
        ways_in: list[dict[str, Any]] = [
            {"application_password": "aaaa bbbb cccc dddd eeee ffff"},
            {"username": "nobody"},
        ]
        for way_in in ways_in:
            # The stand-in before it lets everybody in; WordPress does not.
            attempt = await woocommerce.send(job="job_refused", **way_in)
            assert (attempt.outcome, attempt.status) == (Outcome.REFUSED, 401)
            # WordPress without its plugins does not say whether it is the user or the password.
            assert "the username or the application password is wrong" in (attempt.error or "")
            (check,) = await woocommerce.check(**way_in)
            assert (check.name, check.ok) == ("credentials", False)
            assert "offers no application passwords" not in check.detail
        assert await shop.ours() == []


async def test_a_user_who_may_not_upload_is_refused_and_it_is_said_what_is_missing(wordpress: Site) -> None:
    async with opened(wordpress) as (woocommerce, shop):
        reader: dict[str, Any] = {"username": "reader", "application_password": wordpress.passwords["reader"]}
        attempt = await woocommerce.send(job="job_reader", **reader)
        assert attempt.outcome is Outcome.REFUSED
        assert "upload_files" in (attempt.error or "")
        assert [check.name for check in await woocommerce.check(**reader) if not check.ok] == ["permissions"]
        assert await shop.ours() == []


async def test_a_test_of_the_endpoint_finds_all_well_and_changes_nothing(wordpress: Site) -> None:
    async with opened(wordpress) as (woocommerce, shop):
        found = await woocommerce.check(METADATA | {"variant_id": "5"})
        assert [(check.name, check.ok) for check in found] == [
            *(("credentials", True), ("permissions", True), ("woocommerce", True)),
            *(("product", True), ("variant", True)),
        ]
        assert (shop.shop.writes, await shop.ours()) == (0, [])


async def test_where_wordpress_takes_no_application_passwords_the_test_says_why() -> None:
    with site("production") as plain:
        async with client(plain.url) as woocommerce:
            woocommerce.way_in = {"username": "ada", "application_password": plain.passwords["ada"]}
            (check,) = await woocommerce.check()
            assert (check.name, check.ok) == ("credentials", False)
            assert "offers no application passwords: WordPress does so over https only" in check.detail
