"""Vendure as a destination: a picture becomes an asset by the Admin API, and then one of the product's.

An asset's tag is our name for the picture: a try that comes back finds its asset by it. A product's list of assets is
written whole, and what is unknown in it is dropped without a word; so it is read, changed, written and read again. What
Vendure has for an alternative text is the asset's name.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.destinations import vendure_queries as queries
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
    tried,
    turn_of,
)
from handlers.destinations.vendure_calls import Admin
from handlers.http import Http
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target
from schemas.shop import Mode, VendureConfig, filled

DEADLINE = 120.0
# Of an asset's name, as MySQL's column has it.
LONGEST_NAME = 255
UNKNOWN_KEY = (
    "the key is not taken: it must be an API key of this server, whose authOptions.tokenMethod must include 'api-key'"
)


@dataclass(frozen=True, slots=True)
class Gallery:
    """The assets of a product, or of a variant, in their order, and the one that stands for it."""

    assets: tuple[str, ...]
    featured: str | None

    @classmethod
    def of(cls, owner: Any) -> "Gallery":
        assets = tuple(str(dig(asset, "id")) for asset in dig(owner, "assets") or ())
        return cls(assets, dig(owner, "featuredAsset", "id"))


@dataclass(frozen=True, slots=True)
class _Product:
    gallery: Gallery
    language: str


class Vendure(Destination):
    """`http` must judge every address; `now` is the service's clock in milliseconds. Nothing is waited for there."""

    kind = "vendure"
    deadline = DEADLINE

    def __init__(
        self,
        http: Http,
        now: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],  # noqa: ARG002 - all shops are made alike
        pictures: Pictures,
        turn: Turn,
    ) -> None:
        self._http = http
        self._now = now
        self._pictures = pictures
        self._turn = turn

    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:
        config, admin = self._opened(target)

        async def work() -> None:
            pictures = placed(message, target)
            for picture in pictures:
                _fits(picture, config)
            _is_safe(config)
            put = _Putting(admin, config, target, steps, self._pictures)
            try:
                for product, group in by_product(pictures):
                    await put.onto(product, group, self._turn)
            except Denied as denied:
                raise await _confirmed(admin, denied) from None

        return await tried(work, admin.progress, self._now, self.deadline)

    async def check(self, target: Target, metadata: Mapping[str, str]) -> Sequence[Check]:
        """Asks only: the key, the channel, the role, the custom field, and the product that the metadata names."""
        config, admin = self._opened(target)

        async def look(found: list[Check]) -> None:
            admin.progress.step = "address"
            _is_safe(config)
            await _Looking(admin, config, metadata, found).all()

        return await checked(look, admin.progress, self._now, self.deadline)

    def _opened(self, target: Target) -> tuple[VendureConfig, Admin]:
        config = target.shop
        assert isinstance(config, VendureConfig), "its kind has this config"
        progress = Progress()
        progress.hide(config.secrets.values())
        return config, Admin(self._http, config, progress, self._now)


@dataclass(frozen=True, slots=True)
class _Putting:
    """One try of one delivery."""

    admin: Admin
    config: VendureConfig
    target: Target
    steps: Steps
    pictures: Pictures

    async def onto(self, product: str, group: Sequence[Placed], turn: Turn) -> None:
        """The pictures are on the product, seen there, or Trouble is raised."""
        variants = by_variant(group)
        # Looked at before anything is uploaded, so that a product which is gone leaves no asset behind.
        self._at("product")
        language = (await _product(self.admin, self.config, product)).language
        self._at("variant")
        for variant in variants:
            await _variant(self.admin, product, variant)
        ids = {picture.step: await self._uploaded(picture, language) for picture in group}
        async with turn(turn_of(self.config.shop, product)):
            await self._arrange(product, [(ids[picture.step], picture.position) for picture in group])
            for variant, picture in variants.items():
                await self._show(product, variant, ids[picture.step])
            await self._remember(product, group[-1])

    # --- the asset ---------------------------------------------------------------------------------------------------

    async def _uploaded(self, picture: Placed, language: str) -> str:
        """The id of the picture's asset."""
        step = f"{picture.step}.upload"
        kept = self.steps.done(step)
        self._at("look-up")
        if kept is not None and dig(await self.admin.ask(queries.ASSET, id=kept), "asset") is not None:
            return kept
        found = await self._found(picture) or await self._created(picture, language)
        await self.steps.save(step, found)
        return found

    async def _found(self, picture: Placed) -> str | None:
        """The asset of an earlier try, by its tag: Vendure writes both down or none."""
        items = dig(await self.admin.ask(queries.ASSETS, tag=picture.name), "assets", "items")
        return next((str(dig(item, "id")) for item in items or ()), None)

    async def _created(self, picture: Placed, language: str) -> str:
        self._at("upload")
        given: dict[str, Any] = {"tags": [picture.name]}
        if picture.alt is not None:
            given["translations"] = [{"languageCode": language, "name": picture.alt}]
        async with self.pictures(self.target, picture.asset) as path:
            if path is None:
                raise Impossible("the result is no longer kept")
            return await self.admin.upload(path, picture.filename, picture.content_type, given)

    # --- the product and its variants --------------------------------------------------------------------------------

    async def _arrange(self, product: str, ours: Sequence[Ours]) -> None:
        def wanted(there: Gallery) -> Gallery:
            assets = tuple(arranged(there.assets, ours, self.config.mode))
            keeps = self.config.mode is Mode.APPEND and there.featured is not None
            return Gallery(assets, there.featured if keeps else assets[0])

        async def look() -> Gallery:
            return (await _product(self.admin, self.config, product)).gallery

        await self._written("attach", queries.ARRANGE, product, look, wanted)

    async def _show(self, product: str, variant: str, asset: str) -> None:
        """The variant is to show it, whatever the product does."""

        def wanted(there: Gallery) -> Gallery:
            return Gallery(tuple(arranged(there.assets, [(asset, None)], self.config.mode)), asset)

        async def look() -> Gallery:
            return await _variant(self.admin, product, variant)

        await self._written("variant", queries.ARRANGE_VARIANT, variant, look, wanted)

    async def _written(
        self,
        step: str,
        document: str,
        owner: str,
        look: Callable[[], Awaitable[Gallery]],
        wanted: Callable[[Gallery], Gallery],
    ) -> None:
        self._at(step)
        there = await look()
        right = wanted(there)
        if right == there:
            return
        await self.admin.ask(document, id=owner, assets=list(right.assets), featured=right.featured)
        self._at(f"{step}: verify")
        seen = await look()
        if wanted(seen) != seen:
            # An asset that was deleted meanwhile: the next try misses it, and uploads it again.
            raise Trouble(Outcome.RETRY, "Vendure took the change, but the picture is not seen there")

    async def _remember(self, product: str, last: Placed) -> None:
        name, step = self.config.custom_field, f"{last.step}.custom_field"
        if name is None or self.steps.done(step):
            # Written once: a redelivery must not take the word of a later job away.
            return
        self._at("custom_field")
        await self.admin.ask(queries.REMEMBER % name, id=product, job=last.job)
        await self.steps.save(step, last.job)

    def _at(self, step: str) -> None:
        self.admin.progress.step = step


@dataclass(frozen=True, slots=True)
class _Looking:
    """One test; adds one thing after the other, until one can't be looked at: then raises, under its step."""

    admin: Admin
    config: VendureConfig
    metadata: Mapping[str, str]
    found: list[Check]

    async def all(self) -> None:
        values = {f"metadata.{name}": value for name, value in self.metadata.items()}
        await self._credentials()
        await self._permissions()
        if self.config.custom_field is not None:
            self._at("custom_field")
            await self.admin.ask(queries.FIELD % self.config.custom_field)
            self._add(f"Products have the field {self.config.custom_field}.")
        product = filled(self.config.product, values)
        if product is None:
            return
        self._at("product")
        gallery = (await _product(self.admin, self.config, product)).gallery
        self._add(f"Product {product} is there, with {len(gallery.assets)} pictures.")
        variant = filled(self.config.variant, values)
        if variant is None:
            return
        self._at("variant")
        await _variant(self.admin, product, variant)
        self._add(f"Variant {variant} is one of the product's.")

    async def _credentials(self) -> None:
        self._at("credentials")
        try:
            channel = await self.admin.ask(queries.CHANNEL)
        except Denied:
            raise Trouble(Outcome.REFUSED, UNKNOWN_KEY) from None
        self._add("The key is taken.")
        if self.config.channel_token is not None:
            self._at("channel")
            _is_channel(self.config, channel)
            self._add("The channel is there.")

    async def _permissions(self) -> None:
        self._at("permissions")
        missing = await _lacking(self.admin)
        said = f"The key's role lacks {' and '.join(missing)}." if missing else "The key's role may do what is needed."
        self.found.append(Check("permissions", not missing, said))

    def _at(self, step: str) -> None:
        self.admin.progress.step = step

    def _add(self, said: str) -> None:
        self.found.append(Check(self.admin.progress.step, ok=True, detail=said))


async def _product(admin: Admin, config: VendureConfig, product: str) -> _Product:
    field = "" if config.custom_field is None else f"customFields {{ {config.custom_field} }}"
    data = await admin.ask(queries.PRODUCT % field, id=product)
    _is_channel(config, data)
    if data.get("product") is None:
        raise Impossible(f"the shop has no product {product[:60]!r}: check what the job's metadata names")
    return _Product(Gallery.of(data.get("product")), str(dig(data, "activeChannel", "defaultLanguageCode")))


async def _variant(admin: Admin, product: str, variant: str) -> Gallery:
    found = dig(await admin.ask(queries.VARIANT, id=variant), "productVariant")
    if dig(found, "product", "id") != product:
        raise Impossible(
            f"product {product[:60]!r} has no variant {variant[:60]!r}: check what the job's metadata names"
        )
    return Gallery.of(found)


def _is_channel(config: VendureConfig, data: Mapping[str, Any]) -> None:
    """A server with one channel answers with that one, whatever was asked for."""
    if config.channel_token not in (None, dig(data, "activeChannel", "token")):
        raise Trouble(Outcome.REFUSED, "the shop has no channel with this channel_token")


async def _lacking(admin: Admin) -> list[str]:
    """The permissions that a delivery needs, and the key's role has not."""
    missing = []
    for permission, document in queries.PERMISSIONS.items():
        try:
            await admin.ask(document)
        except Denied:
            missing.append(permission)
    return missing


async def _confirmed(admin: Admin, denied: Denied) -> Trouble:
    """What a refusal comes to, after further and cheap questions: only both together disable an endpoint."""
    status = admin.progress.status
    try:
        await admin.ask(queries.CHANNEL)
        missing = await _lacking(admin)
    except Denied:
        return denied.confirmed(UNKNOWN_KEY)
    except Trouble:
        return denied
    finally:
        admin.progress.status = status
    return denied.confirmed(f"{denied}; the key's role lacks {' and '.join(missing)}") if missing else denied


def _is_safe(config: VendureConfig) -> None:
    if in_the_clear(config.shop):
        raise Trouble(Outcome.REFUSED, "the shop's address must begin with https, for the key goes there")


def _fits(picture: Placed, config: VendureConfig) -> None:
    """Raises Impossible for what Vendure would not take."""
    if not picture.content_type.startswith("image/"):
        raise Impossible(f"a product's pictures are pictures, not {picture.content_type}")
    if picture.bytes > config.max_upload_bytes:
        raise Impossible(f"the shop takes {config.max_upload_bytes} bytes at most, and the picture has {picture.bytes}")
    if picture.alt is not None and len(picture.alt) > LONGEST_NAME:
        raise Impossible(f"Vendure takes {LONGEST_NAME} characters of alt text at most, not {len(picture.alt)}")
