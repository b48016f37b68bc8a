"""What an account at a vendor remembers: its access token, sealed, and counters."""

from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


async def recall(reader: Reader, vendor: str, account: str, name: str) -> str | None:
    row = await reader.one(_SQL["recall"], {"vendor": vendor, "account": account, "name": name})
    return None if row is None else row["sealed"]


async def keep(tx: Tx, vendor: str, account: str, name: str, sealed: str | None) -> None:
    await tx.run(_SQL["keep"], {"vendor": vendor, "account": account, "name": name, "sealed": sealed})


async def next_number(tx: Tx, vendor: str, account: str, name: str, least: int) -> int:
    """More than the last one, and at least `least`."""
    row = await tx.one(_SQL["next_number"], {"vendor": vendor, "account": account, "name": name, "least": least})
    assert row is not None
    return int(row["number"])
