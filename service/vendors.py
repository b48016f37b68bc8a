"""The vendors this service is contracted with: the handler, the account, the pace, by name."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from handlers.vendors.contract import Account, Vendor, VendorError
from schemas.catalogue import Operation
from schemas.job import ErrorClass, Job
from service.pacing.health import Call, Health
from service.pacing.turns import Turns
from service.vendor_settings import Unconfirmed


@dataclass(frozen=True)
class Contracted:
    vendor: Vendor
    account: Account
    turns: Turns  # the account's own
    unconfirmed: Unconfirmed
    health: Health = field(default_factory=Health)

    @property
    def name(self) -> str:
        return self.vendor.name

    def operation_of(self, job: Job) -> Operation:
        """Accept has checked that it exists."""
        return self.vendor.operations[job.operation.partition("/")[2]]

    @contextmanager
    def heard(self, call: Call, now: Callable[[], int]) -> Iterator[None]:
        """Around a call of the vendor: what comes of it tells of the vendor's health."""
        try:
            yield
        except VendorError as error:
            if error.error_class is ErrorClass.RATE_LIMIT:
                self.turns.refused(error.retry_after)
            self.health.failed(call, error.error_class, error.code, now())
            raise
        else:
            self.health.answered(call)

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
