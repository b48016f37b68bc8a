"""The WooCommerce destination: a result's bytes become a picture in WordPress's library, and that one of the product.

Its slug there is the key: a try that comes back finds its picture by it. The list of a product's images is replaced
with each write, and its order is theirs, so it is read, changed and written back in turn, and read once more.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from handlers.destinations.contract import Check, Destination, Message, Pictures, Steps, Turn
from handlers.destinations.gallery import Ours, arranged
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
    saying,
    tried,
    turn_of,
)
from handlers.destinations.woocommerce_calls import UNFINISHED, Missing, Site, address, number
from handlers.destinations.woocommerce_check import checks, confirmed
from handlers.http import Http
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target
from schemas.shop import WooCommerceConfig

DEADLINE = 120.0
# How large a picture may be is each site's own affair; AVIF is taken from WordPress 6.5 on.
TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"})
_SETTLING = (0.5, 1.0, 2.0)
_KNOWN = "id,slug,source_url,missing_image_sizes"


class WooCommerce(Destination):
    """`http` must judge every address; `now` is the service's clock in milliseconds; `sleep` takes seconds."""

    kind = "woocommerce"
    deadline = DEADLINE

    def __init__(
        self,
        http: Http,
        now: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
        pictures: Pictures,
        turn: Turn,
    ) -> None:
        self._http = http
        self._now = now
        self._sleep = sleep
        self._pictures = pictures
        self._turn = turn

    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:
        config, site = self._opened(target)

        async def work() -> None:
            pictures = placed(message, target)
            for picture in pictures:
                _fits(picture)
            _is_safe(config)
            put = _Putting(site, config, target, steps, self._sleep, self._pictures)
            try:
                for product, group in by_product(pictures):
                    await put.onto(product, group, self._turn)
            except Denied as denied:
                raise await confirmed(site, denied) from None

        return await tried(work, site.progress, self._now, self.deadline)

    async def check(self, target: Target, metadata: Mapping[str, str]) -> Sequence[Check]:
        """Asks only: the user and what it may, WooCommerce, the product and the variation that the metadata names."""
        config, site = self._opened(target)

        async def look(found: list[Check]) -> None:
            site.progress.step = "address"
            _is_safe(config)
            await checks(site, config, metadata, found)

        return await checked(look, site.progress, self._now, self.deadline)

    def _opened(self, target: Target) -> tuple[WooCommerceConfig, Site]:
        config = target.shop
        assert isinstance(config, WooCommerceConfig), "its kind has this config"
        progress = Progress()
        progress.hide(config.secrets.values())
        return config, Site(self._http, config, progress, self._now)


@dataclass(frozen=True, slots=True)
class _Putting:
    """One try of one delivery."""

    site: Site
    config: WooCommerceConfig
    target: Target
    steps: Steps
    sleep: Callable[[float], Awaitable[None]]
    pictures: Pictures

    async def onto(self, product: str, group: Sequence[Placed], turn: Turn) -> None:
        """The pictures are on the product, seen there, or Trouble is raised."""
        path = f"wc/v3/products/{number(product, 'product')}"
        variations = {
            f"{path}/variations/{number(name, 'variation')}": picture for name, picture in by_variant(group).items()
        }
        # Looked at before anything is uploaded, so that a product which is gone leaves no picture behind.
        self._at("product")
        await self._gallery(path)
        self._at("variant")
        for variation in variations:
            await self._shown(variation)
        ids = {picture.step: await self._uploaded(picture) for picture in group}
        async with turn(turn_of(address(self.config), path)):
            await self._arrange(path, [(ids[picture.step], picture.position) for picture in group])
            for variation, picture in variations.items():
                await self._show(variation, ids[picture.step])
            await self._remember(path, group[-1])

    # -- the library ---------------------------------------------------------------------------------------------------

    async def _uploaded(self, picture: Placed) -> str:
        """The id of the picture in WordPress's library."""
        step = f"{picture.step}.upload"
        kept = self.steps.done(step)
        self._at("look-up")
        media = await self._media(kept) if kept else None
        if media is None:
            media = await self._found(picture)
        if media is None:
            self._at("upload")
            return await self._created(picture)
        name = str(dig(media, "id"))
        if name != kept:
            await self.steps.save(step, name)
        if dig(media, "missing_image_sizes"):
            # An earlier try's upload, that ended before WordPress was done with it.
            self._at("processing")
            await self.site.write(f"wp/v2/media/{name}/post-process", "POST", action="create-image-subsizes")
        return name

    async def _media(self, name: str) -> Any:
        try:
            return await self.site.read(f"wp/v2/media/{name}", context="edit", _fields=_KNOWN)
        except Missing:
            return None

    async def _found(self, picture: Placed) -> Any:
        """The picture of an earlier try, by its name: its slug, or its file's where WordPress has changed the slug."""
        for filters in ({"slug": picture.name}, {"search": picture.name}):
            listed = await self.site.read("wp/v2/media", context="edit", per_page="20", _fields=_KNOWN, **filters)
            ours = [entry for entry in listed if isinstance(entry, dict) and _is_ours(entry, picture)]
            if ours:
                return min(ours, key=lambda entry: int(entry["id"]))
        return None

    async def _created(self, picture: Placed) -> str:
        async with self.pictures(self.target, picture.asset) as path:
            if path is None:
                raise Impossible("the result is no longer kept")
            try:
                digest = await asyncio.to_thread(_md5, path)
                headers = {
                    "Content-Type": picture.content_type,
                    "Content-Disposition": f'attachment; filename="{picture.filename}"',
                    # WordPress refuses what came to it otherwise.
                    "Content-MD5": digest,
                }
                # Said at once: else a title inside of the picture would give it another slug.
                query = {"slug": picture.name, "title": picture.alt or picture.name, "alt_text": picture.alt or ""}
                answer = await self.site.upload(path, headers, **query)
            except OSError as error:
                raise Trouble(Outcome.RETRY, f"the picture can't be read here: {error.strerror}") from None
        if answer.status == 201:
            name = dig(saying(answer), "id")
            if not isinstance(name, int):
                raise Trouble(Outcome.RETRY, "WordPress does not say under which id it keeps the picture", answer)
            await self.steps.save(f"{picture.step}.upload", str(name))
            return str(name)
        unfinished = answer.headers.get(UNFINISHED, "")
        if unfinished.isascii() and unfinished.isdigit():
            await self.steps.save(f"{picture.step}.upload", unfinished)
            raise Trouble(
                Outcome.RETRY, "WordPress has the picture, but could not finish its smaller sizes in time", answer
            )
        raise self.site.trouble(answer)

    # -- the product ---------------------------------------------------------------------------------------------------

    async def _gallery(self, product: str) -> list[str]:
        """The ids of the product's images, in their order."""
        asked = await self.site.read(product, _fields="id,images")
        # Older ones show a placeholder where there is none, with id 0.
        return [str(name) for image in dig(asked, "images") or () if (name := dig(image, "id"))]

    async def _arrange(self, product: str, ours: Sequence[Ours]) -> None:
        self._at("attach")
        gallery = await self._gallery(product)
        wanted = arranged(gallery, ours, self.config.mode)
        if wanted == gallery:
            return
        await self.site.write(product, "PUT", images=[{"id": int(name)} for name in wanted])
        self._at("verify")
        for wait in (*_SETTLING, None):
            gallery = await self._gallery(product)
            if arranged(gallery, ours, self.config.mode) == gallery:
                return
            if wait is not None:
                await self.sleep(wait)
        raise Trouble(Outcome.RETRY, "WooCommerce took the change, but the product does not show it")

    async def _shown(self, variation: str) -> str | None:
        name = dig(await self.site.read(variation, _fields="id,image"), "image", "id")
        return str(name) if name else None

    async def _show(self, variation: str, picture: str) -> None:
        self._at("variant")
        if await self._shown(variation) == picture:
            return
        await self.site.write(variation, "PUT", image={"id": int(picture)})
        if await self._shown(variation) != picture:
            raise Trouble(Outcome.RETRY, "WooCommerce took the change, but the variation does not show the picture")

    async def _remember(self, product: str, last: Placed) -> None:
        key, step = self.config.meta_key, f"{last.step}.meta"
        if key is None or self.steps.done(step):
            # Written once: a redelivery must not take the word of a later job away.
            return
        self._at("meta")
        await self.site.write(product, "PUT", meta_data=[{"key": key, "value": last.job}])
        await self.steps.save(step, last.job)

    def _at(self, step: str) -> None:
        self.site.progress.step = step


def _is_ours(media: Mapping[str, Any], picture: Placed) -> bool:
    """A search finds more than the very name; WordPress adds to a file's name for its size or against doubles."""
    file = urlsplit(str(media.get("source_url"))).path.rpartition("/")[2]
    return isinstance(media.get("id"), int) and (media.get("slug") == picture.name or file.startswith(picture.name))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _is_safe(config: WooCommerceConfig) -> None:
    if in_the_clear(config.shop):
        why = "the shop's address must begin with https: WordPress takes application passwords over nothing else"
        raise Trouble(Outcome.REFUSED, why)


def _fits(picture: Placed) -> None:
    """Raises Impossible for what WordPress would not take."""
    if picture.content_type not in TYPES:
        raise Impossible(f"WordPress takes no {picture.content_type}; let the operation give JPEG, PNG or WEBP")
