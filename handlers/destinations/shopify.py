"""The Shopify destination: a result's bytes become a file of the shop, and the file a picture of the product.

`shopify_files.py` brings the bytes there; here the file is given to the product (fileUpdate with a reference), put in
its place (productReorderMedia) and shown by the variant, and all of it is read back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.destinations import shopify_queries as queries
from handlers.destinations.contract import Check, Destination, Message, Pictures, Steps, Turn
from handlers.destinations.gallery import Ours, arranged, moves
from handlers.destinations.shopify_calls import Admin, Tokens, address, gid
from handlers.destinations.shopify_check import checks, confirmed
from handlers.destinations.shopify_files import WAITS, Files, Sleep
from handlers.destinations.shops import Impossible, Placed, placed
from handlers.destinations.tries import (
    Denied,
    Progress,
    Trouble,
    by_product,
    by_variant,
    checked,
    dig,
    in_the_clear,
    tried,
    turn_of,
)
from handlers.http import Http
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target
from schemas.shop import ShopifyConfig

DEADLINE = 120.0
# Shopify's limits of product pictures.
MOST_BYTES = 20_000_000
LONGEST_SIDE = 4472
MOST_PIXELS = LONGEST_SIDE * LONGEST_SIDE
LONGEST_ALT = 512
TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
_SETTLING = WAITS[:4]
_BATCH = 25


class Shopify(Destination):
    """`http` must judge every address; `now` is the service's clock in milliseconds; `sleep` takes seconds."""

    kind = "shopify"
    deadline = DEADLINE

    def __init__(self, http: Http, now: Callable[[], int], sleep: Sleep, pictures: Pictures, turn: Turn) -> None:
        self._http = http
        self._now = now
        self._sleep = sleep
        self._pictures = pictures
        self._turn = turn
        self._tokens = Tokens(http, now)

    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:
        config, admin = self._opened(target)

        async def work() -> None:
            pictures = placed(message, target)
            for picture in pictures:
                _fits(picture)
            _is_safe(config)
            files = Files(self._http, admin, target, steps, self._sleep, self._pictures)
            put = _Putting(admin, config, steps, files, self._sleep)
            try:
                for product, group in by_product(pictures):
                    await put.onto(product, group, self._turn)
            except Denied as denied:
                raise await confirmed(admin, denied) from None

        return await tried(work, admin.progress, self._now, self.deadline)

    async def check(self, target: Target, metadata: Mapping[str, str]) -> Sequence[Check]:
        """Asks only: the shop, the token's scopes, the product and the variant that the metadata names."""
        config, admin = self._opened(target)

        async def look(found: list[Check]) -> None:
            admin.progress.step = "address"
            _is_safe(config)
            await checks(admin, config, metadata, found)

        return await checked(look, admin.progress, self._now, self.deadline)

    def _opened(self, target: Target) -> tuple[ShopifyConfig, Admin]:
        config = target.shop
        assert isinstance(config, ShopifyConfig), "its kind has this config"
        progress = Progress()
        progress.hide(config.secrets.values())
        return config, Admin(self._http, config, self._tokens, progress, self._now)


@dataclass(frozen=True, slots=True)
class _Putting:
    """One try of one delivery."""

    admin: Admin
    config: ShopifyConfig
    steps: Steps
    files: Files
    sleep: Sleep

    async def onto(self, product: str, group: Sequence[Placed], turn: Turn) -> None:
        """The pictures are on the product, seen there, or Trouble is raised."""
        owner = gid("Product", product)
        variants = {gid("ProductVariant", name): picture for name, picture in by_variant(group).items()}
        # Looked at before anything is uploaded, so that a product which is gone leaves no file behind.
        self._at("product")
        await self._gallery(owner)
        self._at("variant")
        for variant in variants:
            await self._shown(owner, variant)
        ids = {picture.step: await self.files.uploaded(picture) for picture in group}
        async with turn(turn_of(address(self.config), owner)):
            await self._arrange(owner, [(ids[picture.step], picture.position) for picture in group])
            for variant, picture in variants.items():
                await self._show(owner, variant, ids[picture.step])
            await self._remember(owner, group[-1])

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

    async def _arrange(self, product: str, ours: Sequence[Ours]) -> None:
        def wanted(gallery: Mapping[str, bool]) -> list[str]:
            never = {name for name, picture in gallery.items() if not picture}
            return arranged(list(gallery), ours, self.config.mode, never)

        self._at("attach")
        gallery = await self._gallery(product)
        await self._refer("referencesToAdd", product, [name for name in wanted(gallery) if name not in gallery])
        self._at("detach")
        await self._refer("referencesToRemove", product, [name for name in gallery if name not in wanted(gallery)])
        self._at("verify")
        gallery = await self._settled(product, lambda gallery: sorted(wanted(gallery)) == sorted(gallery))
        self._at("order")
        steps = moves(list(gallery), wanted(gallery))
        if steps:
            given = [{"id": name, "newPosition": str(place)} for name, place in steps]
            payload = await self.admin.change(
                queries.REORDER, "productReorderMedia", errors="mediaUserErrors", id=product, moves=given
            )
            await self._finished(dig(payload, "job"))
            self._at("verify")
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

    async def _show(self, product: str, variant: str, file: str) -> None:
        self._at("variant")
        shown = await self._shown(product, variant)
        if file in shown:
            return
        if shown:
            # A variant shows one.
            given = [{"variantId": variant, "mediaIds": shown}]
            await self.admin.change(queries.HIDE, "productVariantDetachMedia", productId=product, variantMedia=given)
        given = [{"variantId": variant, "mediaIds": [file]}]
        await self.admin.change(queries.SHOW, "productVariantAppendMedia", productId=product, variantMedia=given)
        if file not in await self._shown(product, variant):
            raise Trouble(Outcome.RETRY, "Shopify took the change, but the variant does not show the picture")

    async def _remember(self, product: str, last: Placed) -> None:
        metafield, step = self.config.metafield, f"{last.step}.metafield"
        if metafield is None or self.steps.done(step):
            # Written once: a redelivery must not take the word of a later job away.
            return
        self._at("metafield")
        given = {
            "ownerId": product,
            "namespace": metafield.namespace,
            "key": metafield.key,
            "type": "single_line_text_field",
            "value": last.job,
        }
        await self.admin.change(queries.REMEMBER, "metafieldsSet", metafields=[given])
        await self.steps.save(step, last.job)

    def _at(self, step: str) -> None:
        self.admin.progress.step = step


def _is_safe(config: ShopifyConfig) -> None:
    if in_the_clear(config.shop):
        raise Trouble(Outcome.REFUSED, "the shop's address must begin with https, for the token goes there")


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
