"""Single facts about this store, such as the fingerprint of the secret key that seals its secrets."""

from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)


async def get(reader: Reader, name: str) -> str | None:
    row = await reader.one(_SQL["get"], {"name": name})
    return None if row is None else str(row["value"])


async def locked(tx: Tx, name: str) -> str | None:
    """As `get`, and it stays so until this unit's end."""
    row = await tx.one(_SQL["locked"], {"name": name})
    return None if row is None else str(row["value"])


async def put(tx: Tx, name: str, value: str) -> None:
    await tx.run(_SQL["put"], {"name": name, "value": value})


async def settle(tx: Tx, name: str, value: str) -> str:
    """The fact as it stands from now on: `value`, unless another was first."""
    await tx.run(_SQL["put_first"], {"name": name, "value": value})
    settled = await get(tx, name)
    assert settled is not None
    return settled
