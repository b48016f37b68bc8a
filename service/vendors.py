"""The vendors this service is contracted with: the handler, the account, the pace, by name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from handlers.vendors.contract import Account, Vendor
from schemas.catalogue import Operation
from schemas.job import Job
from service.config import Unconfirmed
from service.pacing.plan import PollPlan


@dataclass(frozen=True)
class Contracted:
    vendor: Vendor
    account: Account
    plan: PollPlan
    unconfirmed: Unconfirmed

    @property
    def name(self) -> str:
        return self.vendor.name

    def operation_of(self, job: Job) -> Operation:
        """Accept has checked that it exists."""
        return self.vendor.operations[job.operation.partition("/")[2]]

    @property
    def max_concurrent(self) -> int:
        return self.vendor.pace.max_concurrent


class Vendors:
    """`known` have a place in the catalogue; `contracted` have credentials too."""

    def __init__(self, known: Iterable[Vendor], contracted: Iterable[Contracted]) -> None:
        self._known = {vendor.name: vendor for vendor in known}
        self._contracted = {entry.name: entry for entry in contracted}

    def get(self, name: str) -> Contracted | None:
        return self._contracted.get(name)

    def __iter__(self) -> Iterator[Contracted]:
        return iter(self._contracted.values())

    def operation(self, operation_id: str) -> Operation | None:
        vendor, _, name = operation_id.partition("/")
        known = self._known.get(vendor)
        return None if known is None else known.operations.get(name)

    def operations(self) -> list[Operation]:
        return [operation for vendor in self._known.values() for operation in vendor.operations.values()]
