"""WooCommerce's products as its REST API v3 has them: the part of the stand-in that stands before a real WordPress too.

From WooCommerce's REST API document. A PUT replaces the list of images, and its order is theirs; a product that is not
there is 404 when it is read and 400 when it is written to.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
# The source of a picture in the library, None where there is no such picture.
Library = Callable[[int], Awaitable[str | None]]


@dataclass
class Product:
    images: list[int] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    variations: dict[int, int | None] = field(default_factory=dict)


def no(code: str, message: str, status: int, **headers: str) -> web.Response:
    """An error as WordPress has it."""
    body = {"code": code, "message": message, "data": {"status": status}}
    return web.json_response(body, status=status, headers=headers)


class Products:
    """Open to tests. `drops`: forgets new images; `goes`: a product is deleted as it is written to."""

    def __init__(self, library: Library, violations: list[str]) -> None:
        self.products: dict[int, Product] = {}
        self.drops = False
        self.goes = False
        self.active = True
        self.writes = 0
        self._library = library
        self._violations = violations

    def routes(self, app: web.Application) -> None:
        base = "/wp-json/wc/v3/products"
        app.router.add_get(base, self._listed)
        app.router.add_route("*", base + r"/{product:\d+}", self._product)
        app.router.add_route("*", base + r"/{product:\d+}/variations/{variation:\d+}", self._variation)

    async def _listed(self, request: web.Request) -> web.Response:
        if not self.active:
            return no("rest_no_route", "No route was found matching the URL and request method.", 404)
        self._known(request, "per_page", "_fields")
        names = list(self.products)[: int(request.query["per_page"])]
        return web.json_response([{"id": name} for name in names])

    async def _product(self, request: web.Request) -> web.Response:
        if not self.active:
            return no("rest_no_route", "No route was found matching the URL and request method.", 404)
        name = int(request.match_info["product"])
        if self.goes and request.method == "PUT":
            self.products.pop(name, None)
        product = self.products.get(name)
        if product is None:
            return no("woocommerce_rest_product_invalid_id", "Invalid ID.", 404 if request.method == "GET" else 400)
        if request.method == "GET":
            self._known(request, "_fields")
        else:
            fault = await self._change(product, await self._fields(request, "images", "meta_data"))
            if fault is not None:
                return fault
        sources = [(image, await self._library(image)) for image in product.images]
        images = [{"id": image, "src": source, "name": "", "alt": ""} for image, source in sources]
        meta = [{"id": 1, "key": key, "value": value} for key, value in product.meta.items()]
        return web.json_response({"id": name, "type": "variable", "images": images, "meta_data": meta})

    async def _change(self, product: Product, fields: Json) -> web.Response | None:
        if "images" in fields:
            wanted = [image.get("id") for image in fields["images"] if set(image) == {"id"}]
            if len(wanted) < len(fields["images"]) or not all(type(name) is int for name in wanted):
                self._violations.append(f"images {fields['images']}")
                return no("rest_invalid_param", "Invalid parameter(s): images", 400)
            for name in wanted:
                if await self._library(name) is None:
                    return no("woocommerce_product_invalid_image_id", f"#{name} is an invalid image ID.", 400)
            if len(set(wanted)) < len(wanted):
                self._violations.append("an image stands twice")
            product.images = [name for name in wanted if not self.drops or name in product.images]
        for entry in fields.get("meta_data", ()):
            if set(entry) != {"key", "value"}:
                self._violations.append(f"meta_data {entry}")
            product.meta[entry["key"]] = entry["value"]
        return None

    async def _variation(self, request: web.Request) -> web.Response:
        product = self.products.get(int(request.match_info["product"]))
        name = int(request.match_info["variation"])
        if product is None or name not in product.variations:
            status = 404 if request.method == "GET" else 400
            return no("woocommerce_rest_product_variation_invalid_id", "Invalid ID.", status)
        if request.method == "GET":
            self._known(request, "_fields")
        else:
            fields = await self._fields(request, "image")
            image = fields["image"]["id"]
            if await self._library(image) is None:
                return no("woocommerce_variation_invalid_image_id", f"#{image} is an invalid image ID.", 400)
            product.variations[name] = image
        image = product.variations[name]
        shown = None if image is None else {"id": image, "src": await self._library(image)}
        return web.json_response({"id": name, "image": shown})

    async def _fields(self, request: web.Request, *known: str) -> Json:
        self.writes += 1
        fields: Json = await request.json()
        if request.method != "PUT" or request.content_type != "application/json" or set(fields) - set(known):
            self._violations.append(f"{request.method} {request.path} with {sorted(fields)}")
        return fields

    def _known(self, request: web.Request, *known: str) -> None:
        if request.method != "GET" or set(request.query) - set(known):
            self._violations.append(f"{request.method} {request.path} with {sorted(request.query)}")
