"""The ed25519 keys of projects, for who asks for `v1a` signatures. The newest signs; all are published."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`id` is the key's name for receivers; the private half is encrypted, and bound to it."""

    id: str
    public_key: str
    sealed_private_key: str


def _key(row: Row) -> SigningKey:
    return SigningKey(row["public_id"], row["public_key"], row["private_key"])


async def add(tx: Tx, project: int, key: SigningKey, now: int) -> None:
    """Under the project's lock: there is to be one."""
    values = {"public_id": key.id, "public_key": key.public_key, "private_key": key.sealed_private_key}
    await tx.run(_SQL["add"], {"project": project, "now": now, **values})


async def newest(reader: Reader, project: int) -> SigningKey | None:
    row = await reader.one(_SQL["newest"], {"project": project})
    return None if row is None else _key(row)


async def all_of_them(reader: Reader) -> Sequence[SigningKey]:
    """Of every project, oldest first."""
    return [_key(row) for row in await reader.all(_SQL["all"], {})]


async def projects_without(reader: Reader) -> Sequence[int]:
    """Projects that have none yet, by row."""
    return [row["id"] for row in await reader.all(_SQL["projects_without"], {})]
