"""What is wrong with accounts at vendors, as the operator was told: a restart neither forgets it nor tells it twice."""

from collections.abc import Sequence

from schemas.job import ErrorClass
from schemas.trouble import Kind, Trouble
from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


async def of_account(reader: Reader, vendor: str, account: str) -> Sequence[Trouble]:
    rows = await reader.all(_SQL["of_account"], {"vendor": vendor, "account": account})
    return [
        Trouble(
            kind=Kind(row["kind"]),
            since=row["since"],
            call=row["call"],
            error_class=ErrorClass(row["error_class"]),
            code=row["code"],
            probe_at=row["probe_at"],
            probes=row["probes"],
            credits=row["credits"],
        )
        for row in rows
    ]


async def begin(tx: Tx, vendor: str, account: str, trouble: Trouble) -> bool:
    """False where the account has trouble of this kind already."""
    values = {
        "vendor": vendor,
        "account": account,
        "kind": trouble.kind,
        "since": trouble.since,
        "call": trouble.call,
        "error_class": trouble.error_class,
        "code": trouble.code,
        "probe_at": trouble.probe_at,
        "probes": trouble.probes,
        "credits": trouble.credits,
    }
    return await tx.run(_SQL["begin"], values) == 1


async def end(tx: Tx, vendor: str, account: str, kind: Kind) -> bool:
    """False where there was none."""
    return await tx.run(_SQL["end"], {"vendor": vendor, "account": account, "kind": kind}) == 1


async def any_of_others(reader: Reader, vendor: str, account: str) -> bool:
    """Whether another account at this vendor, of credentials that are no longer used, has trouble."""
    row = await reader.one(_SQL["of_others"], {"vendor": vendor, "account": account})
    assert row is not None
    return int(row["count"]) > 0


async def end_of_others(tx: Tx, vendor: str, account: str) -> bool:
    """As `any_of_others`, and now it has none."""
    return await tx.run(_SQL["end_of_others"], {"vendor": vendor, "account": account}) > 0


async def probing(tx: Tx, vendor: str, account: str, trouble: Trouble, probe_at: int | None) -> bool:
    """Put off the next probe, before this one is made; False where it is no longer ours to make."""
    values = {
        "vendor": vendor,
        "account": account,
        "kind": trouble.kind,
        "probe_at": trouble.probe_at,
        "next_at": probe_at,
        "probes": trouble.probes + 1,
    }
    return await tx.run(_SQL["probing"], values) == 1


async def hasten(tx: Tx, vendor: str, account: str, now: int) -> Sequence[Trouble]:
    """Whatever is to be probed is due now; all troubles, as they stand then."""
    await tx.run(_SQL["hasten"], {"vendor": vendor, "account": account, "now": now})
    return await of_account(tx, vendor, account)
