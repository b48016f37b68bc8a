"""What an account remembers: sealed, its own alone, and numbers that never come twice."""

import pytest

from service.clock import SystemClock
from service.security.vault import Vault
from service.vendor_memory import StoredMemory, account_id
from tests.clock import ManualClock
from tests.store.rows import Rows

pytestmark = pytest.mark.anyio

VAULT = Vault("k" * 40)
ONE, OTHER = account_id({"api_key": "one"}), account_id({"api_key": "other"})


async def test_a_token_is_sealed_and_only_its_account_recalls_it(made: Rows) -> None:
    def memory(account: str, vault: Vault = VAULT) -> StoredMemory:
        return StoredMemory(made.db, vault, SystemClock(), "perfectcorp", account)

    await memory(ONE).keep("token", "very secret")
    assert await memory(ONE).recall("token") == "very secret"
    assert await memory(OTHER).recall("token") is None
    assert await memory(ONE, Vault("other" * 10)).recall("token") is None, "a lost key costs a new token, no more"

    async def rows(reader: object) -> str:
        return str(await reader.all("SELECT * FROM vendor_memory", {}))  # type: ignore[attr-defined]

    assert "very secret" not in await made.db.read(rows)
    await memory(ONE).keep("token", None)
    assert await memory(ONE).recall("token") is None


async def test_a_number_never_comes_twice_not_even_after_a_restore(made: Rows) -> None:
    clock = ManualClock()

    def memory() -> StoredMemory:
        return StoredMemory(made.db, VAULT, clock, "perfectcorp", ONE)

    given = [await memory().next_number("request_id") for _ in range(3)]
    start = clock.now() // 1000
    assert given == [start, start + 1, start + 2]
    clock.leap(60_000)
    assert await memory().next_number("request_id") == start + 60, "a restored counter lies behind; the clock does not"
