"""The ed25519 keys of projects, for who asks for `v1a` signatures.

The newest signs, and until the end of their overlap those from before it. All that are here are published; the private
half of what no longer signs is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`id` is the key's name for receivers."""

    id: str
    public_key: str


@dataclass(frozen=True, slots=True)
class SigningKey(PublicKey):
    """The private half is encrypted, and bound to the key's name. `until`: of one from before, in milliseconds."""

    sealed_private_key: str
    until: int | None = None


def _key(row: Row) -> SigningKey:
    return SigningKey(row["public_id"], row["public_key"], row["private_key"], row["signs_until"])


async def add(tx: Tx, project: int, key: SigningKey, now: int) -> None:
    """Under the project's lock, and no other is its newest."""
    values = {"public_id": key.id, "public_key": key.public_key, "private_key": key.sealed_private_key}
    await tx.run(_SQL["add"], {"project": project, "now": now, **values})


async def newest(reader: Reader, project: int) -> SigningKey | None:
    row = await reader.one(_SQL["newest"], {"project": project})
    return None if row is None else _key(row)


async def that_sign(reader: Reader, project: int, now: int) -> Sequence[SigningKey]:
    """The newest first."""
    return [_key(row) for row in await reader.all(_SQL["that_sign"], {"project": project, "now": now})]


async def published(reader: Reader) -> Sequence[PublicKey]:
    """Of every project, oldest first."""
    return [PublicKey(row["public_id"], row["public_key"]) for row in await reader.all(_SQL["published"], {})]


async def projects_without(reader: Reader) -> Sequence[int]:
    """Projects that have none yet, by row."""
    return [row["id"] for row in await reader.all(_SQL["projects_without"], {})]


async def retire(tx: Tx, project: int, until: int) -> None:
    """The newest signs until then and no longer; the next one may be added."""
    await tx.run(_SQL["retire"], {"project": project, "until": until})


async def remove_all(tx: Tx, project: int) -> None:
    await tx.run(_SQL["remove_all"], {"project": project})


async def thin_out(tx: Tx, project: int, most: int, now: int) -> None:
    """Of those that no longer sign, forget what is older than the newest `most` of all."""
    await tx.run(_SQL["thin_out"], {"project": project, "most": most, "now": now})


async def forget(tx: Tx, now: int, before: int, limit: int) -> int:
    """Drop the private halves of keys that sign no more, and publish no longer those that have not since `before`.

    How many there were of both.
    """
    dropped = await tx.run(_SQL["drop_private_halves"], {"now": now, "limit": limit})
    return dropped + await tx.run(_SQL["forget"], {"before": before, "limit": limit})
