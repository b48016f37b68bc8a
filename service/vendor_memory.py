"""What a vendor's handler has the store remember for its account: durable, and encrypted at rest."""

import hashlib
from collections.abc import Mapping

from service.clock import Clock
from service.security.vault import Vault, WrongKey
from service.store import vendor_memory
from service.store.database import Database


def account_id(secrets: Mapping[str, str]) -> str:
    """Tells accounts apart without telling a key: other credentials are another account."""
    joined = "\n".join(f"{name}={secrets[name]}" for name in sorted(secrets))
    return hashlib.sha256(joined.encode()).hexdigest()[:32]


class StoredMemory:
    """`Memory` of `handlers.vendors.contract`, for one account."""

    def __init__(self, db: Database, vault: Vault, clock: Clock, vendor: str, account: str) -> None:
        self._db = db
        self._vault = vault
        self._clock = clock
        self._vendor = vendor
        self._account = account

    async def recall(self, name: str) -> str | None:
        sealed = await self._db.read(vendor_memory.recall, self._vendor, self._account, name)
        if sealed is None:
            return None
        try:
            return self._vault.open(self._owner(name), sealed)
        except WrongKey:
            # Sealed by a key that is gone: what is kept here can always be had anew.
            return None

    async def keep(self, name: str, value: str | None) -> None:
        sealed = None if value is None else self._vault.seal(self._owner(name), value)
        await self._db.write(vendor_memory.keep, self._vendor, self._account, name, sealed)

    async def next_number(self, name: str) -> int:
        return await self._db.write(
            vendor_memory.next_number, self._vendor, self._account, name, self._clock.now() // 1000
        )

    def _owner(self, name: str) -> str:
        return f"{self._vendor} {self._account} {name}"


class ShortMemory:
    """For a single look at a vendor: remembers nothing beyond it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    async def recall(self, name: str) -> str | None:
        return self._kept.get(name)

    async def keep(self, name: str, value: str | None) -> None:
        if value is None:
            self._kept.pop(name, None)
        else:
            self._kept[name] = value

    async def next_number(self, name: str) -> int:
        self._numbers[name] = max(self._numbers.get(name, 0) + 1, self._clock.now() // 1000)
        return self._numbers[name]
