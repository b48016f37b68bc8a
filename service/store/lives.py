"""How long tasks live, by operation: what the pacer has learned, for the next start."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class Learned:
    weights: str
    seen: int


async def of_vendor(reader: Reader, vendor: str) -> Mapping[str, Learned]:
    rows = await reader.all(_SQL["of_vendor"], {"vendor": vendor})
    return {row["operation"]: Learned(row["weights"], row["seen"]) for row in rows}


async def keep(tx: Tx, vendor: str, operation: str, learned: Learned, now: int) -> None:
    values = {"vendor": vendor, "operation": operation, "weights": learned.weights, "seen": learned.seen, "now": now}
    await tx.run(_SQL["keep"], values)
