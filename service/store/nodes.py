"""Nodes: processes with an id and a heartbeat, and taking over what a dead one held."""

from schemas import ids
from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


async def add(tx: Tx, now: int, key_fingerprint: str | None = None) -> int:
    """`key_fingerprint`: of the secret key that it seals with."""
    values = {"public_id": ids.new_id("nod", now), "now": now, "key_fingerprint": key_fingerprint}
    row = await tx.one(_SQL["add"], values)
    assert row is not None
    return int(row["id"])


async def beat(tx: Tx, node: int, now: int) -> bool:
    """False where others have declared this node dead: it must stop, its rows are no longer its own."""
    return await tx.run(_SQL["beat"], {"node": node, "now": now}) == 1


async def last_beat(reader: Reader) -> int | None:
    """When the heart of a node that has not ended beat last; None where all have."""
    row = await reader.one(_SQL["last_beat"], {})
    return None if row is None or row["beat_at"] is None else int(row["beat_at"])


async def newest(reader: Reader) -> int:
    """The node that joined last, by row."""
    row = await reader.one(_SQL["newest"], {})
    assert row is not None, "who asks is one"
    return int(row["id"])


async def seals_otherwise(reader: Reader, key_fingerprint: str, after: int) -> bool:
    """Whether a node may seal with another key than this now, or one that joined after that node may have done so."""
    return await reader.one(_SQL["seals_otherwise"], {"key_fingerprint": key_fingerprint, "after": after}) is not None


async def end(tx: Tx, node: int, now: int) -> None:
    await _release(tx, node, now)


async def take_over(tx: Tx, node: int, now: int, silent_since: int) -> int:
    """Free what nodes held that have been silent since `silent_since`; how many nodes there were."""
    dead = await tx.all(_SQL["dead"], {"node": node, "before": silent_since})
    for row in dead:
        await _release(tx, row["id"], now)
    return len(dead)


async def take_over_all(tx: Tx, node: int, now: int) -> None:
    """Free whatever anybody else holds: for who is alone on this store. Also where a clock was set back meanwhile."""
    for row in await tx.all(_SQL["others"], {"node": node}):
        await _release(tx, row["id"], now)


async def forget(tx: Tx, node: int, before: int, limit: int) -> int:
    """Delete the rows of nodes that ended at `before` or earlier, never this one's own; how many."""
    return await tx.run(_SQL["forget"], {"node": node, "before": before, "limit": limit})


async def _release(tx: Tx, dead: int, now: int) -> None:
    values = {"dead": dead, "now": now}
    for statement in ("release_jobs", "release_submissions", "release_deliveries"):
        await tx.run(_SQL[statement], values)
    await tx.run(_SQL["end"], {"node": dead, "now": now})
