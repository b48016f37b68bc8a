"""Vendure as a destination: a picture becomes an asset by the Admin API, and then one of the product's.

An asset's tag is our name for the picture: a try that comes back finds its asset by it. A product's list of assets is
written whole, and what is unknown in it is dropped without a word; so it is read, changed, written and read again. What
Vendure has for an alternative text is the asset's name.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from handlers.destinations import vendure_queries as queries
from handlers.destinations.contract import Check, Pictures, Steps
from handlers.destinations.gallery import Ours, arranged
from handlers.destinations.putting import Named, Shop, Visit
from handlers.destinations.shops import Impossible, Placed
from handlers.destinations.tries import Progress, Trouble, dig
from handlers.destinations.vendure_calls import Admin, Gallery
from handlers.destinations.vendure_check import checks, lacking
from schemas.delivery import Outcome
from schemas.endpoint import Target
from schemas.shop import Mode, VendureConfig

# Of an asset's name, as MySQL's column has it.
LONGEST_NAME = 255


class Vendure(Shop):
    kind = "vendure"

    def _visit(self, target: Target, steps: Steps, progress: Progress) -> Visit:
        config = target.shop
        assert isinstance(config, VendureConfig), "its kind has this config"
        admin = Admin(self.http, config, progress, self.now)
        return _Visit(config, progress, admin, target, steps, self.pictures)


@dataclass(frozen=True, slots=True)
class _Visit(Visit):
    config: VendureConfig
    admin: Admin
    target: Target
    steps: Steps
    pictures: Pictures

    unsafe = "the shop's address must begin with https, for the key goes there"

    @property
    def address(self) -> str:
        return self.config.shop

    def fits(self, picture: Placed) -> None:
        most = self.config.max_upload_bytes
        if not picture.content_type.startswith("image/"):
            raise Impossible(f"a product's pictures are pictures, not {picture.content_type}")
        if picture.bytes > most:
            raise Impossible(f"the shop takes {most} bytes at most, and the picture has {picture.bytes}")
        if picture.alt is not None and len(picture.alt) > LONGEST_NAME:
            raise Impossible(f"Vendure takes {LONGEST_NAME} characters of alt text at most, not {len(picture.alt)}")

    async def lacking(self) -> str | None:
        return await lacking(self.admin)

    async def checks(self, metadata: Mapping[str, str], found: list[Check]) -> None:
        await checks(self.admin, self.config, metadata, found)

    async def found(self, product: str, variants: Sequence[str]) -> Named:
        # By the ids of the answers: Vendure takes 08411 for 8411.
        there = await self.admin.product(product)
        self.at("variant")
        shown = {name: (await self.admin.variant(there.owner, name)).owner for name in variants}
        return Named(there.owner, shown)

    # --- the asset ---------------------------------------------------------------------------------------------------

    async def uploaded(self, picture: Placed) -> str:
        """The id of the picture's asset."""
        step = f"{picture.step}.upload"
        kept = self.steps.done(step)
        self.at("look-up")
        if kept is not None and dig(await self.admin.ask(queries.ASSET, id=kept), "asset") is not None:
            return kept
        found = await self._found(picture) or await self._created(picture)
        await self.steps.save(step, found)
        return found

    async def _found(self, picture: Placed) -> str | None:
        """The asset of an earlier try, by its tag: Vendure writes both down or none."""
        items = dig(await self.admin.ask(queries.ASSETS, tag=picture.name), "assets", "items")
        return next((str(dig(item, "id")) for item in items or ()), None)

    async def _created(self, picture: Placed) -> str:
        self.at("upload")
        given: dict[str, Any] = {"tags": [picture.name]}
        if picture.alt is not None:
            given["translations"] = [{"languageCode": await self.admin.language(), "name": picture.alt}]
        async with self.pictures(self.target, picture.asset) as path:
            if path is None:
                raise Impossible("the result is no longer kept")
            return await self.admin.upload(path, picture.filename, picture.content_type, given)

    # --- the product and its variants --------------------------------------------------------------------------------

    async def arrange(self, product: str, ours: Sequence[Ours], mode: Mode) -> None:
        def wanted(there: Gallery) -> Gallery:
            assets = tuple(arranged(there.assets, ours, mode))
            keeps = mode is Mode.APPEND and there.featured is not None
            return replace(there, assets=assets, featured=there.featured if keeps else assets[0])

        await self._written("attach", queries.ARRANGE, product, partial(self.admin.product, product), wanted)

    async def show(self, product: str, variant: str, picture: str) -> None:
        """Whatever the product does."""

        def wanted(there: Gallery) -> Gallery:
            assets = tuple(arranged(there.assets, [(picture, None)], self.config.mode))
            return replace(there, assets=assets, featured=picture)

        look = partial(self.admin.variant, product, variant)
        await self._written("variant", queries.ARRANGE_VARIANT, variant, look, wanted)

    async def _written(
        self,
        step: str,
        document: str,
        owner: str,
        look: Callable[[], Awaitable[Gallery]],
        wanted: Callable[[Gallery], Gallery],
    ) -> None:
        self.at(step)
        there = await look()
        right = wanted(there)
        if right == there:
            return
        await self.admin.ask(document, id=owner, assets=list(right.assets), featured=right.featured)
        self.at(f"{step}: verify")
        seen = await look()
        if wanted(seen) != seen:
            # An asset that was deleted meanwhile: the next try misses it, and uploads it again.
            raise Trouble(Outcome.RETRY, "Vendure took the change, but the picture is not seen there")

    @property
    def remembers(self) -> bool:
        return self.config.custom_field is not None

    async def remember(self, product: str, job: str) -> None:
        self.at("custom_field")
        await self.admin.ask(queries.REMEMBER % self.config.custom_field, id=product, job=job)
