"""A WordPress with WooCommerce that is none: its media, its users and its products, from both REST API documents.

What WordPress passes over in silence, such as a filter that it does not know, is a `violation` here.
"""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.destinations.faults import Faults, serving
from tests.destinations.woocommerce_products import Products, no

USER, PASSWORD = "ada", "abcd EFGH 1234 ijkl MNOP 5678"
MANAGER = ("upload_files", "edit_products", "edit_published_products", "edit_others_products")
# What a file begins with, by its type.
_BEGINS = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/gif": b"GIF8", "image/webp": b"RIFF"}


@dataclass
class Media:
    id: int
    slug: str
    file: str
    title: str
    alt: str
    body: bytes
    missing: bool = False  # its smaller sizes


class WooCommerceShop:
    """Open to tests. `answers` are said instead of its own, once each."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.violations: list[str] = []
        self.media: dict[int, Media] = {}
        self.shop = Products(self._source, self.violations)
        self.may: tuple[str, ...] = MANAGER
        self.passwords = {PASSWORD.replace(" ", "")}
        self.takes_passwords = True  # https, or a local environment
        self.refuses_files = False
        self.out_of_memory = 0  # for how many uploads the smaller sizes are not made
        self.renames = False  # a plugin that gives each upload another slug
        self.silent = False
        self.silent_from = 1 << 30  # the number of the first call that gets no answer
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self._number = 40

    # -- what tests ask ------------------------------------------------------------------------------------------------

    def picture(self, name: str) -> int:
        """A picture of the shop's own, in its library."""
        return self._kept(name, f"{name}.jpg", name, "", b"").id

    @property
    def ours(self) -> list[Media]:
        return [media for media in self.media.values() if media.file.startswith("wirephoto-")]

    def names(self, product: int) -> list[str]:
        return [self.media[image].file for image in self.shop.products[product].images]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = self.faults.application()
        app.middlewares.append(self._door())
        app.router.add_get("/wp-json/", self._index)
        app.router.add_get("/wp-json/wp/v2/users/me", self._me)
        app.router.add_get("/wp-json/wp/v2/media", self._listed)
        app.router.add_post("/wp-json/wp/v2/media", self._upload)
        app.router.add_get(r"/wp-json/wp/v2/media/{id:\d+}", self._one)
        app.router.add_post(r"/wp-json/wp/v2/media/{id:\d+}/post-process", self._finish)
        self.shop.routes(app)
        app.router.add_route("*", "/{rest:.*}", self._elsewhere)
        async with serving(app) as url:
            yield url

    # -- the doors -----------------------------------------------------------------------------------------------------

    def _door(self) -> Any:
        @web.middleware
        async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self.silent or len(self.faults.calls) >= self.silent_from:
                await asyncio.Event().wait()
            if self.answers:
                status, said, headers = self.answers.pop(0)
                if isinstance(said, str):
                    return web.Response(status=status, text=said, content_type="text/html", headers=headers)
                return web.json_response(said, status=status, headers=headers)
            if request.path == "/wp-json/" and "Authorization" not in request.headers:
                return await handler(request)
            return self._unknown(request) or await handler(request)

        return door

    def _unknown(self, request: web.Request) -> web.Response | None:
        scheme, _, words = request.headers.get("Authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(words, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = password = ""
        if scheme != "Basic" or not self.takes_passwords:
            return no("rest_not_logged_in", "You are not currently logged in.", 401)
        if user != USER:
            return no("invalid_username", f"<strong>Error:</strong> The username {user} is not registered.", 401)
        if re.sub(r"[^a-zA-Z0-9]", "", password) not in self.passwords:
            return no("incorrect_password", "The provided password is an invalid application password.", 401)
        if "wc/v3" in request.path and "edit_products" not in self.may:
            return no("woocommerce_rest_cannot_view", "Sorry, you cannot view this resource.", 403)
        return None

    async def _elsewhere(self, request: web.Request) -> web.Response:
        self.violations.append(f"{request.method} {request.path}")
        return no("rest_no_route", "No route was found matching the URL and request method.", 404)

    async def _index(self, _: web.Request) -> web.Response:
        offered = {"application-passwords": {"endpoints": {}}} if self.takes_passwords else []
        return web.json_response({"authentication": offered})

    async def _me(self, request: web.Request) -> web.Response:
        self._known(request, "context", "_fields")
        return web.json_response({"id": 3, "name": "Ada", "capabilities": dict.fromkeys(self.may, True)})

    async def _listed(self, request: web.Request) -> web.Response:
        self._known(request, "context", "_fields", "per_page", "slug", "search")
        slug, words = request.query.get("slug"), request.query.get("search")
        found = [
            media
            for media in reversed(self.media.values())
            if (slug is None or media.slug == slug) and (words is None or words in f"{media.title} {media.file}")
        ]
        return web.json_response([self._told(media) for media in found[: int(request.query["per_page"])]])

    async def _one(self, request: web.Request) -> web.Response:
        self._known(request, "context", "_fields")
        media = self.media.get(int(request.match_info["id"]))
        if media is None:
            return no("rest_post_invalid_id", "Invalid post ID.", 404)
        return web.json_response(self._told(media))

    async def _finish(self, request: web.Request) -> web.Response:
        if await request.json() != {"action": "create-image-subsizes"}:
            self.violations.append("an unknown post-processing")
        media = self.media[int(request.match_info["id"])]
        media.missing = False
        return web.json_response(self._told(media))

    async def _upload(self, request: web.Request) -> web.Response:
        self._known(request, "slug", "title", "alt_text", method="POST")
        if "upload_files" not in self.may:
            return no("rest_cannot_create", "Sorry, you are not allowed to create posts as this user.", 403)
        body = await request.read()
        named = re.fullmatch(r'attachment; filename="([\w.-]+)"', request.headers.get("Content-Disposition", ""))
        if named is None:
            self.violations.append("an upload without its name")
            return no("rest_upload_invalid_disposition", "Invalid Content-Disposition supplied.", 400)
        if request.headers.get("Content-MD5", "") not in ("", hashlib.md5(body).hexdigest()):
            return no("rest_upload_hash_mismatch", "Content hash did not match expected.", 412)
        if self.refuses_files or not body.startswith(_BEGINS.get(request.content_type, b"\0")):
            return no("rest_upload_sideload_error", "Sorry, you are not allowed to upload this file type.", 500)
        slug = "renamed" if self.renames else request.query.get("slug") or named[1].rpartition(".")[0]
        query = request.query
        media = self._kept(slug, named[1], query.get("title") or slug, query.get("alt_text") or "", body)
        if self.out_of_memory:
            self.out_of_memory -= 1
            media.missing = True
            headers = {"X-WP-Upload-Attachment-ID": str(media.id)}
            return web.Response(status=500, text="<p>There has been a critical error.</p>", headers=headers)
        return web.json_response(self._told(media), status=201)

    # -- what they share -----------------------------------------------------------------------------------------------

    def _kept(self, slug: str, file: str, title: str, alt: str, body: bytes) -> Media:
        self._number += 1
        taken = {media.slug for media in self.media.values()}
        free = slug if slug not in taken else next(f"{slug}-{n}" for n in range(2, 99) if f"{slug}-{n}" not in taken)
        self.media[self._number] = Media(self._number, free, file, title, alt, body)
        return self.media[self._number]

    def _told(self, media: Media) -> dict[str, Any]:
        missing = ["thumbnail", "medium"] if media.missing else []
        source = f"https://lamps.example/wp-content/uploads/2026/11/{media.file}"
        return {"id": media.id, "slug": media.slug, "source_url": source, "missing_image_sizes": missing}

    async def _source(self, name: int) -> str | None:
        return str(self._told(self.media[name])["source_url"]) if name in self.media else None

    def _known(self, request: web.Request, *known: str, method: str = "GET") -> None:
        if request.method != method or set(request.query) - set(known):
            self.violations.append(f"{request.method} {request.path} with {sorted(request.query)}")
