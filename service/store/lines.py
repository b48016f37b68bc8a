"""Lines: the deliveries of an endpoint that is sent one at a time, in the order of its events.

Only the head of a line is in a node's hands or due; all others wait, nobody's and not due, until the unit that ends
the head promotes the next. So the order outlives restarts and holds for any number of nodes: it is in the rows.

Who adds to a line and who ends its head must not miss each other, or a delivery would wait for ever: both hold the
endpoint's lock (after the project's, before any delivery's, in ascending order). Should a fault of ours leave a line
without its head all the same, `mend` finds it.
"""

from collections.abc import Sequence

from schemas.delivery import Owed
from schemas.endpoint import STREAM, Endpoint, EndpointState
from service.store import endpoints, sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


def owed(row: Row) -> Owed:
    """A delivery that was just taken in hand."""
    return Owed(
        row["id"], row["endpoint_id"], row["event_id"], row["attempts"], row["round_from"], row["replay"] is not None
    )


async def led(tx: Tx, ordered: Sequence[Endpoint]) -> set[int]:
    """Which of these have a head, by row; none of their lines changes before the unit's end."""
    found = set()
    for endpoint in sorted(entry.row for entry in ordered):
        await endpoints.locked(tx, endpoint)
        if await tx.one(_SQL["head"], {"endpoint": endpoint}) is not None:
            found.add(endpoint)
    return found


async def promote(tx: Tx, endpoint: int, node: int) -> Owed | None:
    """Where a line has lost its head, its first is now this node's: hand it over after the commit."""
    row = await tx.one(_SQL["promote"], {"endpoint": endpoint, "node": node, "due_at": None})
    return None if row is None else owed(row)


async def lead(tx: Tx, endpoint: int, now: int) -> bool:
    """Where a line has no head, its first is due: the scan finds it. False where that changed nothing."""
    return await tx.one(_SQL["promote"], {"endpoint": endpoint, "node": None, "due_at": now}) is not None


async def form(tx: Tx, endpoint: int, now: int) -> None:
    """From now on one at a time: what nodes have in hand or is due is put in line, but for the first."""
    await tx.run(_SQL["form"], {"endpoint": endpoint})
    # The first was nobody's, or was settled while we waited for its lock.
    await lead(tx, endpoint, now)


async def scatter(tx: Tx, endpoint: int, now: int) -> int:
    """From now on all at once: what waited in line is due. How many did."""
    await tx.run(_SQL["dismiss"], {"endpoint": endpoint})
    return await tx.run(_SQL["scatter"], {"endpoint": endpoint, "due_at": now})


async def next_line(reader: Reader, after: int) -> int | None:
    """The next endpoint, by row, with deliveries that wait in line."""
    row = await reader.one(_SQL["next_line"], {"after": after})
    return None if row is None else row["endpoint_id"]


async def mend(tx: Tx, endpoint: int, now: int) -> bool:
    """Give a line its head back; False where nothing was amiss."""
    current = await endpoints.locked(tx, endpoint)
    if current is None or current.state is not EndpointState.ENABLED:
        return False
    if current.kind == STREAM:
        return False
    if current.terms.ordered:
        return await lead(tx, endpoint, now)
    return await scatter(tx, endpoint, now) > 0
