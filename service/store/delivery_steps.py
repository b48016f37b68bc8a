"""What is already done of a delivery: remote ids, kept so that a retry resumes. They go with their delivery.

And which event's pictures each place at a shop shows last, so that an older one leaves it alone.
"""

from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


async def of(reader: Reader, delivery: int, node: int) -> dict[str, str] | None:
    """Its steps by name; None where it is no longer this node's to try."""
    if await reader.one(_SQL["in_hand"], {"delivery": delivery, "node": node}) is None:
        return None
    rows = await reader.all(_SQL["of_delivery"], {"delivery": delivery})
    return {row["step"]: row["value"] for row in rows}


async def save(tx: Tx, delivery: int, node: int, step: str, value: str) -> bool:
    """False, and nothing is written, where the delivery is no longer this node's to try."""
    return await tx.run(_SQL["save"], {"delivery": delivery, "node": node, "step": step, "value": value}) == 1


async def overtaken(reader: Reader, delivery: int, place: str) -> bool:
    """Whether the place shows a later event's pictures, and nobody has wanted this very delivery since."""
    return await reader.one(_SQL["overtaken"], {"delivery": delivery, "place": place}) is not None


async def arrived(tx: Tx, delivery: int, node: int, place: str) -> bool:
    """The place shows what this delivery's event has for it; a later one's stays written down. False as for `save`."""
    return await tx.run(_SQL["arrived"], {"delivery": delivery, "node": node, "place": place}) == 1
