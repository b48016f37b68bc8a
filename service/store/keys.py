"""API keys: they belong to a project; only a hash is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class Key:
    row: int
    id: str
    role: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: a key, its project, and whether that is the operator's own (the first)."""

    key: str
    project: int
    role: str
    hash: str
    first_project: bool


def _key(row: Row) -> Key:
    return Key(row["id"], row["public_id"], row["role"], row["name"], row["created_at"])


async def add(tx: Tx, project: int, public_id: str, role: str, name: str, key_hash: str, now: int) -> None:
    values = {"public_id": public_id, "project": project, "role": role, "name": name, "hash": key_hash, "now": now}
    await tx.one(_SQL["add"], values)


async def by_hash(reader: Reader, key_hash: str) -> Principal | None:
    row = await reader.one(_SQL["by_hash"], {"hash": key_hash})
    if row is None:
        return None
    return Principal(row["public_id"], row["project_id"], row["role"], row["hash"], bool(row["first_project"]))


async def exists(reader: Reader, key_hash: str) -> bool:
    """Whether this key was ever made, revoked ones included."""
    return await reader.one(_SQL["exists"], {"hash": key_hash}) is not None


async def of(reader: Reader, who: Principal) -> Key:
    """The key that is asking, even if it has been revoked since."""
    row = await reader.one(_SQL["get"], {"project": who.project, "public_id": who.key})
    assert row is not None, f"{who.key} is missing"
    return _key(row)


async def listed(reader: Reader, project: int, after: int, limit: int) -> Sequence[Key]:
    """Oldest first."""
    rows = await reader.all(_SQL["list"], {"project": project, "after": after, "limit": limit})
    return [_key(row) for row in rows]


async def revoke(tx: Tx, project: int, public_id: str, now: int) -> bool:
    return await tx.run(_SQL["revoke"], {"project": project, "public_id": public_id, "now": now}) == 1


async def other_admins(reader: Reader, project: int, public_id: str) -> int:
    """How many admin keys are left without this one: a project must not lock itself out."""
    row = await reader.one(_SQL["other_admins"], {"project": project, "public_id": public_id})
    assert row is not None
    return int(row["count"])
