"""The way of a job's pictures onto their products: the same at every shop, with what differs left to its `Visit`.

Look before anything is uploaded, upload, and in the product's turn put in place, show and write down. Deliveries may
come late: a try whose shop was away is made again after a later job's. Then what the log has last keeps its place, and
the late one does what takes nothing away from it.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from handlers.destinations.contract import Check, Destination, Message, NoSteps, Pictures, Steps, Turn
from handlers.destinations.gallery import Ours
from handlers.destinations.shops import Placed, placed
from handlers.destinations.tries import (
    Denied,
    Progress,
    Trouble,
    checked,
    confirmed,
    in_the_clear,
    tried,
    turn_of,
)
from handlers.http import Http
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target
from schemas.shop import Mode, ShopConfig

DEADLINE = 120.0

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Named:
    """A product and the variants that are to show a picture, by the shop's own names, each however it was written."""

    product: str
    variants: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Visit(ABC):
    """One try, or one test, at one shop. What can't be is Impossible, what the shop says no to is Trouble."""

    config: ShopConfig
    progress: Progress

    # Why plain http will not do.
    unsafe: ClassVar[str] = "the shop's address must begin with https, for the token goes there"
    # A variant may show what its product does not.
    apart: ClassVar[bool] = True

    @property
    @abstractmethod
    def address(self) -> str:
        """The shop, however it was written."""

    @abstractmethod
    def fits(self, picture: Placed) -> None:
        """Raises Impossible for what the shop would not take; asks nobody."""

    @abstractmethod
    async def found(self, product: str, variants: Sequence[str]) -> Named:
        """They are there. Raises Impossible; before anything is asked, where these can't be names."""

    @abstractmethod
    async def uploaded(self, picture: Placed) -> str:
        """The shop's name of the picture, once however often it is tried."""

    @abstractmethod
    async def arrange(self, product: str, ours: Sequence[Ours], mode: Mode) -> None:
        """The product was seen to show them as the mode says."""

    @abstractmethod
    async def show(self, product: str, variant: str, picture: str) -> None:
        """The variant was seen to show the picture."""

    @property
    @abstractmethod
    def remembers(self) -> bool:
        """Whether the product is to keep a job's id."""

    @abstractmethod
    async def remember(self, product: str, job: str) -> None: ...

    @abstractmethod
    async def lacking(self) -> str | None:
        """What our credentials lack, asked cheaply. Raises Denied where they are not taken at all."""

    @abstractmethod
    async def checks(self, metadata: Mapping[str, str], found: list[Check]) -> None:
        """Adds one thing after the other, until one can't be looked at: then raises, under its step."""

    def is_safe(self) -> None:
        if in_the_clear(self.config.shop):
            raise Trouble(Outcome.REFUSED, self.unsafe)

    def at(self, step: str) -> None:
        self.progress.step = step


@dataclass(eq=False)
class Shop(Destination):
    """`http` must judge every address; `now` is the service's clock in milliseconds; `sleep` takes seconds."""

    http: Http
    now: Callable[[], int]
    sleep: Sleep
    pictures: Pictures
    turn: Turn

    deadline = DEADLINE

    @abstractmethod
    def _visit(self, target: Target, steps: Steps, progress: Progress) -> Visit: ...

    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:
        visit = self._begun(target, steps)

        async def work() -> str | None:
            pictures = placed(message, target)
            for picture in pictures:
                visit.fits(picture)
            visit.is_safe()
            put = _Putting(visit, steps, self.turn, [])
            try:
                for product, group in _by_product(pictures).items():
                    await put.onto(product, group)
            except Denied as denied:
                raise await confirmed(denied, visit.progress, visit.lacking) from None
            return "; ".join(put.overtaken) or None

        return await tried(work, visit.progress, self.now, self.deadline)

    async def check(self, target: Target, metadata: Mapping[str, str], seconds: float) -> Sequence[Check]:
        """Asks only; see `contract.Checkable`."""
        visit = self._begun(target, NoSteps())

        async def look(found: list[Check]) -> None:
            visit.at("address")
            visit.is_safe()
            await visit.checks(metadata, found)

        return await checked(look, visit.progress, self.now, seconds)

    def _begun(self, target: Target, steps: Steps) -> Visit:
        assert target.shop is not None, "a shop's target has its config"
        progress = Progress()
        progress.hide(target.shop.secrets.values())
        return self._visit(target, steps, progress)


# What becomes of a mode where a later job's pictures are there: none of them may lose its place. None: nothing is done.
_LATE: Mapping[Mode, Mode | None] = {Mode.APPEND: Mode.APPEND, Mode.SET_MAIN: Mode.APPEND, Mode.REPLACE: None}


@dataclass(frozen=True, slots=True)
class _Due:
    """What later jobs leave to this one: how it goes onto the product, and the variants that are to show it.

    `late`: the product shows a later job's pictures. `kept`: what these keep, in words.
    """

    late: bool
    mode: Mode | None
    variants: Mapping[str, str]
    kept: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Putting:
    """One try. `overtaken`: what later jobs' pictures have kept, in words."""

    visit: Visit
    steps: Steps
    turn: Turn
    overtaken: list[str]

    async def onto(self, product: str, group: Sequence[Placed]) -> None:
        """The pictures are on the product and seen there, as far as later jobs leave it to them; else Trouble."""
        visit, shown = self.visit, _by_variant(group)
        # Looked at before anything is uploaded, so that a product which is gone leaves nothing behind.
        visit.at("product")
        named = await visit.found(product, list(shown))
        turn = turn_of(visit.address, named.product)
        due = await self._due(turn, product, named)
        # What nobody would see is not uploaded: who is late stays late.
        if due.mode is not None or due.variants:
            ids = {picture.step: await visit.uploaded(picture) for picture in group}
            async with self.turn(turn):
                due = await self._due(turn, product, named)
                if due.mode is not None:
                    await self._arrange(turn, named.product, [(ids[one.step], one.position) for one in group], due.mode)
                for written, variant in due.variants.items():
                    await visit.show(named.product, variant, ids[shown[written].step])
                    await self.steps.arrived(_place(turn, variant))
                if not due.late:
                    await self._remember(named.product, group[-1])
        self.overtaken.extend(due.kept)

    async def _due(self, turn: str, product: str, named: Named) -> _Due:
        wanted = self.visit.config.mode
        late = await self.steps.overtaken(_place(turn))
        mode = _LATE[wanted] if late else wanted
        kept = []
        if mode is not wanted:
            how = "and this one is not put there" if mode is None else "as its main one, and this one comes last"
            kept.append(f"product {product[:60]} shows a later job's picture, {how}")
        variants = {}
        for written, variant in named.variants.items():
            if await self.steps.overtaken(_place(turn, variant)):
                kept.append(f"variant {written[:60]} shows a later job's picture")
            elif mode is not None or self.visit.apart:
                variants[written] = variant
        return _Due(late, mode, variants, kept)

    async def _arrange(self, turn: str, product: str, ours: Sequence[Ours], mode: Mode) -> None:
        if self.visit.config.mode is not Mode.APPEND:
            # It has no meaning for the other modes, nor for what one of them has become.
            ours = [(name, None) for name, _ in ours]
        await self.visit.arrange(product, ours, mode)
        await self.steps.arrived(_place(turn))

    async def _remember(self, product: str, last: Placed) -> None:
        step = f"{last.step}.remember"
        if not self.visit.remembers or self.steps.done(step):
            # Written once: a redelivery must not take the word of a later job away.
            return
        await self.visit.remember(product, last.job)
        await self.steps.save(step, last.job)


def _place(turn: str, variant: str = "") -> str:
    """A product, or one of its variants, at its shop: short, whatever the address."""
    return hashlib.sha256(f"{turn}\n{variant}".encode()).hexdigest()[:32]


def _by_product(pictures: Iterable[Placed]) -> dict[str, list[Placed]]:
    """A job's pictures by the product they go onto, in the job's order."""
    groups: dict[str, list[Placed]] = {}
    for picture in pictures:
        groups.setdefault(picture.product, []).append(picture)
    return groups


def _by_variant(pictures: Iterable[Placed]) -> dict[str, Placed]:
    """A variant shows one picture: the first of the job that names it."""
    shown: dict[str, Placed] = {}
    for picture in pictures:
        if picture.variant is not None:
            shown.setdefault(picture.variant, picture)
    return shown
