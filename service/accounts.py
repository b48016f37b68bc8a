"""Which vendors there are, and with which of them this installation has an account."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from handlers.http import Http, origin
from handlers.vendors import ailabtools, perfectcorp, picwish, vanceai
from handlers.vendors.contract import Account, Pace, TellsCredits, Vendor
from service.clock import Clock
from service.config import Settings, section
from service.metrics import Metrics
from service.pacing.host import Host
from service.pacing.purse import Purse
from service.pacing.turns import Turns
from service.security.egress import Guard
from service.security.vault import Vault
from service.store.database import Database
from service.vendor_memory import StoredMemory, account_id
from service.vendor_settings import VendorSettings
from service.vendors import Contracted, Vendors

log = structlog.get_logger()


@dataclass(frozen=True)
class Known:
    """One row per vendor that this version can work with: how to make it, and at which pace.

    `make` takes a pace, and by name what else the vendor's settings know (`VendorSettings.options`).
    """

    name: str
    make: Callable[..., Vendor]
    pace: Pace

    def made(self, own: VendorSettings) -> Vendor:
        """As its settings want it."""
        return self.make(own.paced(self.pace), **own.options())


KNOWN = (
    Known("vanceai", vanceai.VanceAI, vanceai.PACE),
    Known("perfectcorp", perfectcorp.PerfectCorp, perfectcorp.PACE),
    Known("ailabtools", ailabtools.AILabTools, ailabtools.PACE),
    Known("picwish", picwish.PicWish, picwish.PACE),
)


def http(
    stack: AsyncExitStack,
    settings: Settings,
    guard: Guard | None,
    trusted: frozenset[str] = frozenset(),
    kind: type[Http] = Http,
) -> Http:
    """A client under one policy, closed with the stack. `guard` None: addresses that the operator gave."""
    client = kind(
        judge=guard.socket if guard else None,
        judge_url=guard.judge_url if guard else None,
        trusted_origins=trusted,
        ca_file=settings.ca_file,
        # Each caller bounds its own concurrency; a shared bound would let one bad receiver hold up all others.
        limit=0,
    )
    stack.push_async_callback(client.close)
    return client


def fast_http() -> type[Http]:
    """The client for many small requests; without the extra `speed` it is the one for all."""
    try:
        from handlers.fast import FastHttp
    except ModuleNotFoundError:
        return Http
    return FastHttp


async def open_all(
    settings: Settings, db: Database, vault: Vault, clock: Clock, stack: AsyncExitStack, metrics: Metrics
) -> Vendors:
    """Every vendor has its place in the catalogue; those with a credential get an account."""
    vendors, contracted = [], []
    hosts: dict[str, Host] = {}
    for known in KNOWN:
        own = section(settings, known.name)
        vendor = known.made(own)
        vendors.append(vendor)
        secrets = own.secrets()
        if not secrets:
            continue
        address, account_name = origin(own.base_url), account_id(secrets)
        if address not in hosts:
            hosts[address] = Host(db, clock, address)
            stack.push_async_callback(hosts[address].close)
        turns = Turns(hosts[address], known.name, account_name, vendor.pace, metrics.vendor_requests)
        account = Account(
            vendor=known.name,
            base_url=own.base_url,
            http=http(stack, settings, None),
            # Links that the vendor gives: public addresses, and the vendor's own host.
            public_http=http(stack, settings, Guard(()), frozenset({origin(own.base_url)})),
            turn=turns,
            memory=StoredMemory(db, vault, clock, known.name, account_name),
            now=clock.now,
            secrets=secrets,
        )
        purse = Purse(own.credits_low if isinstance(vendor, TellsCredits) else None)
        if own.credits_low is not None and not isinstance(vendor, TellsCredits):
            log.warning(
                "vendor.credits_untold", vendor=known.name, says="CREDITS_LOW has no effect: it tells no balance"
            )
        contracted.append(Contracted(vendor, account, turns, own.unconfirmed, purse=purse))
    for entry in contracted:
        # When all have joined: what one may send depends on what the others at the host have sent.
        await entry.turns.load()
    for host in hosts.values():
        host.open()
    return Vendors(vendors, contracted)
