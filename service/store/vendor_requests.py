"""Requests to vendors, counted before they are sent: a restart neither overruns a window nor sits one out."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class Request:
    """One counted request. Times by the wall clock; `account` None: counted for the host alone."""

    host: str | None
    account: str | None
    started_at: int
    finished_at: int | None

    def counts_for(self, account: str) -> bool:
        """A release before 0.3.0 wrote down neither host nor account: then it may have been this one."""
        return self.account == account or self.host is None

    def counts_at(self, host: str) -> bool:
        return self.host in (host, None)


async def start(tx: Tx, vendor: str, host: str, account: str | None, now: int, forget_before: int) -> int:
    await tx.run(_SQL["forget"], {"vendor": vendor, "before": forget_before})
    row = await tx.one(_SQL["start"], {"vendor": vendor, "host": host, "account": account, "now": now})
    assert row is not None
    return int(row["id"])


async def finish(tx: Tx, request: int, now: int) -> None:
    await tx.run(_SQL["finish"], {"request": request, "now": now})


async def since(reader: Reader, vendor: str, host: str, at: int) -> Sequence[Request]:
    """Every request of this vendor's accounts, or at this host, that was under way at `at` or later."""
    rows = await reader.all(_SQL["since"], {"vendor": vendor, "host": host, "since": at})
    return [Request(row["host"], row["account"], row["started_at"], row["finished_at"]) for row in rows]


async def forget(tx: Tx, before: int, limit: int) -> int:
    """Delete requests, of any vendor, that were started before `before`; how many."""
    return await tx.run(_SQL["forget_all"], {"before": before, "limit": limit})
