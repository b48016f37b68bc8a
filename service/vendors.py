"""The vendors this service is contracted with: the handler, the account, the pace, by name."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from handlers.vendors.contract import Account, Vendor
from schemas.catalogue import Operation
from schemas.job import Job
from service.pacing.doors import Door
from service.pacing.health import Health
from service.pacing.purse import Purse
from service.pacing.turns import Turns
from service.vendor_memory import account_id
from service.vendor_settings import Unconfirmed


@dataclass(frozen=True)
class Contracted:
    vendor: Vendor
    account: Account
    turns: Turns  # the account's own
    unconfirmed: Unconfirmed
    health: Health = field(default_factory=Health)
    purse: Purse = field(default_factory=lambda: Purse(None))
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)  # what `health` has changed is written down in order

    @property
    def name(self) -> str:
        return self.vendor.name

    def operation_of(self, job: Job) -> Operation:
        """Accept has checked that it exists."""
        return self.vendor.operations[job.operation.partition("/")[2]]

    @cached_property
    def account_id(self) -> str:
        """As the store knows the account."""
        return account_id(self.account.secrets)

    @cached_property
    def door(self) -> Door:
        return Door(self.health)

    @property
    def next_probe_at(self) -> int | None:
        """When it is tried next whether the account is good again; None while nothing is paused."""
        times = [trouble.probe_at for trouble in self.health.pausing if trouble.probe_at is not None]
        return min(times, default=None)

    @property
    def max_concurrent(self) -> int:
        return self.vendor.pace.max_concurrent


class Vendors:
    """`known` have a place in the catalogue; `contracted` have credentials too."""

    def __init__(self, known: Iterable[Vendor], contracted: Iterable[Contracted]) -> None:
        self._known = {vendor.name: vendor for vendor in known}
        self._contracted = {entry.name: entry for entry in contracted}

    @property
    def names(self) -> Sequence[str]:
        return list(self._known)

    def get(self, name: str) -> Contracted | None:
        return self._contracted.get(name)

    def known(self, name: str) -> Vendor | None:
        return self._known.get(name)

    def __iter__(self) -> Iterator[Contracted]:
        return iter(self._contracted.values())

    def operation(self, operation_id: str) -> Operation | None:
        vendor, _, name = operation_id.partition("/")
        known = self._known.get(vendor)
        return None if known is None else known.operations.get(name)

    def operations(self) -> list[Operation]:
        return [operation for vendor in self._known.values() for operation in vendor.operations.values()]
