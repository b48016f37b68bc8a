"""Which vendors there are, and with which of them this installation has an account."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pydantic import SecretStr

from handlers.http import Http, origin
from handlers.vendors import picwish, vanceai
from handlers.vendors.contract import Account, Pace, Vendor
from service.clock import Clock
from service.config import Settings, VendorSettings
from service.pacing.plan import PollPlan
from service.pacing.turns import Turns
from service.pacing.windows import Windows
from service.security.egress import Guard
from service.store.database import Database
from service.vendors import Contracted, Vendors


@dataclass(frozen=True)
class Known:
    """One row per vendor: how to make it, at which pace, and which setting is its credential."""

    name: str
    make: Callable[[Pace], Vendor]
    pace: Pace
    credential: str

    def settings(self, settings: Settings) -> VendorSettings:
        own: VendorSettings = getattr(settings, self.name)
        return own


KNOWN = (
    Known("vanceai", vanceai.VanceAI, vanceai.PACE, "api_token"),
    Known("picwish", picwish.PicWish, picwish.PACE, "api_key"),
)


def http(stack: AsyncExitStack, settings: Settings, guard: Guard | None, trusted: frozenset[str] = frozenset()) -> Http:
    """A client under one policy, closed with the stack. `guard` None: addresses that the operator gave."""
    client = Http(
        judge=guard.socket if guard else None,
        judge_url=guard.judge_url if guard else None,
        trusted_origins=trusted,
        ca_file=settings.ca_file,
        # Each caller bounds its own concurrency; a shared bound would let one bad receiver hold up all others.
        limit=0,
    )
    stack.push_async_callback(client.close)
    return client


async def open_all(settings: Settings, db: Database, clock: Clock, stack: AsyncExitStack) -> Vendors:
    """Every vendor has its place in the catalogue; those with a credential get an account."""
    vendors, contracted = [], []
    for known in KNOWN:
        own = known.settings(settings)
        vendor = known.make(own.paced(known.pace))
        vendors.append(vendor)
        secret: SecretStr | None = getattr(own, known.credential)
        if secret is None:
            continue
        turns = Turns(db, clock, known.name, Windows(vendor.pace.windows))
        await turns.load()
        account = Account(
            vendor=known.name,
            base_url=own.base_url,
            http=http(stack, settings, None),
            # Links that the vendor gives: public addresses, and the vendor's own host.
            public_http=http(stack, settings, Guard(()), frozenset({origin(own.base_url)})),
            turn=turns,
            secrets={known.credential: secret.get_secret_value()},
        )
        contracted.append(Contracted(vendor, account, PollPlan(vendor.pace), turns, own.unconfirmed))
    return Vendors(vendors, contracted)
