"""Requests to vendors, counted before they are sent: a restart neither overruns a window nor sits one out."""

from collections.abc import Sequence

from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


async def start(tx: Tx, vendor: str, now: int, forget_before: int) -> int:
    await tx.run(_SQL["forget"], {"vendor": vendor, "before": forget_before})
    row = await tx.one(_SQL["start"], {"vendor": vendor, "now": now})
    assert row is not None
    return int(row["id"])


async def finish(tx: Tx, request: int, now: int) -> None:
    await tx.run(_SQL["finish"], {"request": request, "now": now})


async def since(reader: Reader, vendor: str, at: int) -> Sequence[tuple[int, int | None]]:
    """Start and end of each request that was under way at `at` or later."""
    rows = await reader.all(_SQL["since"], {"vendor": vendor, "since": at})
    return [(row["started_at"], row["finished_at"]) for row in rows]


async def forget(tx: Tx, before: int, limit: int) -> int:
    """Delete requests, of any vendor, that were started before `before`; how many."""
    return await tx.run(_SQL["forget_all"], {"before": before, "limit": limit})
