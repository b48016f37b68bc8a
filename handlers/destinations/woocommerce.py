"""The WooCommerce destination: a result's bytes become a picture in WordPress's library, and that one of the product.

Its slug there is the key: a try that comes back finds its picture by it. The list of a product's images is replaced
with each write, and its order is theirs, so it is read, changed and written back in turn, and read once more.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from handlers.destinations.contract import Check, Pictures, Steps
from handlers.destinations.gallery import Ours, arranged
from handlers.destinations.putting import Named, Shop, Sleep, Visit
from handlers.destinations.shops import Impossible, Placed
from handlers.destinations.tries import Progress, Trouble, dig, saying
from handlers.destinations.woocommerce_calls import UNFINISHED, Missing, Site, address, number
from handlers.destinations.woocommerce_check import checks, lacking
from schemas.delivery import Outcome
from schemas.endpoint import Target
from schemas.shop import Mode, WooCommerceConfig

# How large a picture may be is each site's own affair; AVIF is taken from WordPress 6.5 on.
TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"})
_SETTLING = (0.5, 1.0, 2.0)
_KNOWN = "id,slug,source_url,missing_image_sizes"


class WooCommerce(Shop):
    kind = "woocommerce"

    def _visit(self, target: Target, steps: Steps, progress: Progress) -> Visit:
        config = target.shop
        assert isinstance(config, WooCommerceConfig), "its kind has this config"
        site = Site(self.http, config, progress, self.now)
        return _Visit(config, progress, site, target, steps, self.sleep, self.pictures)


@dataclass(frozen=True, slots=True)
class _Visit(Visit):
    config: WooCommerceConfig
    site: Site
    target: Target
    steps: Steps
    sleep: Sleep
    pictures: Pictures

    unsafe = "the shop's address must begin with https: WordPress takes application passwords over nothing else"

    @property
    def address(self) -> str:
        return address(self.config)

    def fits(self, picture: Placed) -> None:
        if picture.content_type not in TYPES:
            raise Impossible(f"WordPress takes no {picture.content_type}; let the operation give JPEG, PNG or WEBP")

    async def lacking(self) -> str | None:
        return await lacking(self.site)

    async def checks(self, metadata: Mapping[str, str], found: list[Check]) -> None:
        await checks(self.site, self.config, metadata, found)

    async def found(self, product: str, variants: Sequence[str]) -> Named:
        path = f"wc/v3/products/{number(product, 'product')}"
        named = Named(path, {name: f"{path}/variations/{number(name, 'variation')}" for name in variants})
        await self._gallery(path)
        self.at("variant")
        for variation in named.variants.values():
            await self._shown(variation)
        return named

    # -- the library ---------------------------------------------------------------------------------------------------

    async def uploaded(self, picture: Placed) -> str:
        """The id of the picture in WordPress's library."""
        step = f"{picture.step}.upload"
        kept = self.steps.done(step)
        self.at("look-up")
        media = await self._media(kept) if kept else None
        if media is None:
            media = await self._found(picture)
        if media is None:
            self.at("upload")
            return await self._created(picture)
        name = str(dig(media, "id"))
        if name != kept:
            await self.steps.save(step, name)
        if dig(media, "missing_image_sizes"):
            # An earlier try's upload, that ended before WordPress was done with it.
            self.at("processing")
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

    async def arrange(self, product: str, ours: Sequence[Ours], mode: Mode) -> None:
        self.at("attach")
        gallery = await self._gallery(product)
        wanted = arranged(gallery, ours, mode)
        if wanted == gallery:
            return
        await self.site.write(product, "PUT", images=[{"id": int(name)} for name in wanted])
        self.at("verify")
        for wait in (*_SETTLING, None):
            gallery = await self._gallery(product)
            if arranged(gallery, ours, mode) == gallery:
                return
            if wait is not None:
                await self.sleep(wait)
        raise Trouble(Outcome.RETRY, "WooCommerce took the change, but the product does not show it")

    async def _shown(self, variation: str) -> str | None:
        name = dig(await self.site.read(variation, _fields="id,image"), "image", "id")
        return str(name) if name else None

    async def show(self, product: str, variant: str, picture: str) -> None:  # noqa: ARG002 - it has a path of its own
        self.at("variant")
        if await self._shown(variant) == picture:
            return
        await self.site.write(variant, "PUT", image={"id": int(picture)})
        if await self._shown(variant) != picture:
            raise Trouble(Outcome.RETRY, "WooCommerce took the change, but the variation does not show the picture")

    @property
    def remembers(self) -> bool:
        return self.config.meta_key is not None

    async def remember(self, product: str, job: str) -> None:
        self.at("meta")
        await self.site.write(product, "PUT", meta_data=[{"key": self.config.meta_key, "value": job}])


def _is_ours(media: Mapping[str, Any], picture: Placed) -> bool:
    """A search finds more than the very name; WordPress adds to a file's name for its size or against doubles."""
    file = urlsplit(str(media.get("source_url"))).path.rpartition("/")[2]
    return isinstance(media.get("id"), int) and (media.get("slug") == picture.name or file.startswith(picture.name))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
