"""The Shopify destination: a result's bytes become a file of the shop, and the file a picture of the product.

`shopify_files.py` brings the bytes there; here the file is given to the product (fileUpdate with a reference), put in
its place (productReorderMedia) and shown by the variant, and all of it is read back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.destinations import shopify_queries as queries
from handlers.destinations.contract import Check, Steps
from handlers.destinations.gallery import Ours, arranged, moves
from handlers.destinations.putting import Named, Shop, Sleep, Visit
from handlers.destinations.shopify_calls import MEDIA_LIMIT, Admin, Tokens, UserError, address, gid
from handlers.destinations.shopify_check import checks, lacking
from handlers.destinations.shopify_files import WAITS, Files
from handlers.destinations.shops import Impossible, Placed
from handlers.destinations.tries import Progress, Trouble, dig
from schemas.delivery import Outcome
from schemas.endpoint import Target
from schemas.shop import Mode, ShopifyConfig

# Shopify's limits of product pictures.
MOST_BYTES = 20_000_000
LONGEST_SIDE = 4472
MOST_PIXELS = LONGEST_SIDE * LONGEST_SIDE
LONGEST_ALT = 512
# Pictures, videos and models of one product.
MOST_MEDIA = 250
TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
_SETTLING = WAITS[:4]
_BATCH = 25


@dataclass(eq=False)
class Shopify(Shop):
    kind = "shopify"

    def __post_init__(self) -> None:
        self._tokens = Tokens(self.http, self.now)

    def _visit(self, target: Target, steps: Steps, progress: Progress) -> Visit:
        config = target.shop
        assert isinstance(config, ShopifyConfig), "its kind has this config"
        admin = Admin(self.http, config, self._tokens, progress, self.now)
        files = Files(self.http, admin, target, steps, self.sleep, self.pictures)
        return _Visit(config, progress, admin, files, self.sleep)


@dataclass(frozen=True, slots=True)
class _Visit(Visit):
    config: ShopifyConfig
    admin: Admin
    files: Files
    sleep: Sleep

    apart = False

    @property
    def address(self) -> str:
        return address(self.config)

    def fits(self, picture: Placed) -> None:
        _fits(picture)

    async def uploaded(self, picture: Placed) -> str:
        return await self.files.uploaded(picture)

    async def lacking(self) -> str | None:
        return await lacking(self.admin)

    async def checks(self, metadata: Mapping[str, str], found: list[Check]) -> None:
        await checks(self.admin, self.config, metadata, found)

    async def found(self, product: str, variants: Sequence[str]) -> Named:
        owner = gid("Product", product)
        named = Named(owner, {name: gid("ProductVariant", name) for name in variants})
        await self._gallery(owner)
        self.at("variant")
        for variant in named.variants.values():
            await self._shown(owner, variant)
        return named

    async def _gallery(self, product: str) -> dict[str, bool]:
        """The product's media in their order, and whether each is a picture."""
        found: dict[str, bool] = {}
        after = None
        while True:
            asked = dig(await self.admin.ask(queries.PRODUCT, id=product, after=after), "product")
            if asked is None:
                raise Impossible(f"the shop has no product {product}: check what the job's metadata names")
            media = dig(asked, "media")
            for node in dig(media, "nodes") or ():
                found[str(dig(node, "id"))] = dig(node, "mediaContentType") == "IMAGE"
            if dig(media, "pageInfo", "hasNextPage") is not True:
                return found
            after = dig(media, "pageInfo", "endCursor")

    async def arrange(self, product: str, ours: Sequence[Ours], mode: Mode) -> None:
        def wanted(gallery: Mapping[str, bool]) -> list[str]:
            never = {name for name, picture in gallery.items() if not picture}
            return arranged(list(gallery), ours, mode, never)

        self.at("attach")
        gallery = await self._gallery(product)
        new = [name for name in wanted(gallery) if name not in gallery]
        going = [name for name in gallery if name not in wanted(gallery)]
        over = len(gallery) + len(new) - MOST_MEDIA
        if over > 0 and going:
            # What goes anyway, as few as it needs and the last: whatever ends this try, the others still stand there.
            await self._refer("referencesToRemove", product, going[-over:])
            gallery = await self._settled(product, lambda gallery: not gallery.keys() & set(going[-over:]))
        try:
            await self._refer("referencesToAdd", product, new)
        except UserError as error:
            if error.code != MEDIA_LIMIT:
                raise
            why = f"{error}: the product has {len(gallery)} pictures and other media; take some off it"
            raise Trouble(error.outcome, why, error.answer) from None
        self.at("detach")
        await self._refer("referencesToRemove", product, [name for name in gallery if name not in wanted(gallery)])
        self.at("verify")
        gallery = await self._settled(product, lambda gallery: sorted(wanted(gallery)) == sorted(gallery))
        self.at("order")
        steps = moves(list(gallery), wanted(gallery))
        if steps:
            given = [{"id": name, "newPosition": str(place)} for name, place in steps]
            payload = await self.admin.change(
                queries.REORDER, "productReorderMedia", errors="mediaUserErrors", id=product, moves=given
            )
            await self._finished(dig(payload, "job"))
            self.at("verify")
            await self._settled(product, lambda gallery: wanted(gallery) == list(gallery))

    async def _refer(self, how: str, product: str, files: Sequence[str]) -> None:
        for start in range(0, len(files), _BATCH):
            given = [{"id": file, how: [product]} for file in files[start : start + _BATCH]]
            await self.admin.change(queries.UPDATE, "fileUpdate", files=given)

    async def _settled(self, product: str, right: Callable[[Mapping[str, bool]], bool]) -> dict[str, bool]:
        """The gallery as it is read back, once it is right."""
        for wait in (*_SETTLING, None):
            gallery = await self._gallery(product)
            if right(gallery):
                return gallery
            if wait is not None:
                await self.sleep(wait)
        raise Trouble(Outcome.RETRY, "Shopify took the change, but the product does not show it")

    async def _finished(self, job: Any) -> None:
        for wait in WAITS:
            if job is None or dig(job, "done") is True:
                return
            await self.sleep(wait)
            job = dig(await self.admin.ask(queries.JOB, id=dig(job, "id")), "job")
        raise Trouble(Outcome.RETRY, "Shopify is still ordering the product's pictures")

    async def _shown(self, product: str, variant: str) -> list[str]:
        """The pictures of the variant."""
        asked = dig(await self.admin.ask(queries.VARIANT, id=variant), "productVariant")
        if dig(asked, "product", "id") != product:
            raise Impossible(f"{product} has no variant {variant}: check what the job's metadata names")
        return [str(dig(node, "id")) for node in dig(asked, "media", "nodes") or ()]

    async def show(self, product: str, variant: str, picture: str) -> None:
        self.at("variant")
        shown = await self._shown(product, variant)
        if picture in shown:
            return
        if shown:
            # A variant shows one.
            given = [{"variantId": variant, "mediaIds": shown}]
            await self.admin.change(queries.HIDE, "productVariantDetachMedia", productId=product, variantMedia=given)
        given = [{"variantId": variant, "mediaIds": [picture]}]
        await self.admin.change(queries.SHOW, "productVariantAppendMedia", productId=product, variantMedia=given)
        if picture not in await self._shown(product, variant):
            raise Trouble(Outcome.RETRY, "Shopify took the change, but the variant does not show the picture")

    @property
    def remembers(self) -> bool:
        return self.config.metafield is not None

    async def remember(self, product: str, job: str) -> None:
        self.at("metafield")
        assert self.config.metafield is not None
        given = {
            "ownerId": product,
            "namespace": self.config.metafield.namespace,
            "key": self.config.metafield.key,
            "type": "single_line_text_field",
            "value": job,
        }
        await self.admin.change(queries.REMEMBER, "metafieldsSet", metafields=[given])


def _fits(picture: Placed) -> None:
    """Raises Impossible for what Shopify would not take."""
    if picture.content_type not in TYPES:
        raise Impossible(f"Shopify takes no {picture.content_type}; let the operation give JPEG, PNG or WEBP")
    if picture.bytes > MOST_BYTES:
        raise Impossible(f"Shopify takes at most {MOST_BYTES // 10**6} MB, and the picture has {picture.bytes} bytes")
    if picture.width * picture.height > MOST_PIXELS:
        raise Impossible(
            f"Shopify takes at most {LONGEST_SIDE} × {LONGEST_SIDE} pixels, not {picture.width} × {picture.height}"
        )
    if picture.alt is not None and len(picture.alt) > LONGEST_ALT:
        raise Impossible(f"Shopify takes at most {LONGEST_ALT} characters of alt text, not {len(picture.alt)}")
