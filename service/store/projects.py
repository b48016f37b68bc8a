"""Projects: the walls between tenants, each with its own counter of events."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class Project:
    row: int
    id: str
    name: str
    created_at: int


def _project(row: Row) -> Project:
    return Project(row["id"], row["public_id"], row["name"], row["created_at"])


async def add(tx: Tx, public_id: str, name: str, sealed_webhook_secret: str, now: int) -> Project:
    values = {"public_id": public_id, "name": name, "webhook_secret": sealed_webhook_secret, "now": now}
    row = await tx.one(_SQL["add"], values)
    assert row is not None
    return Project(int(row["id"]), public_id, name, now)


async def listed(reader: Reader, after: int, limit: int) -> Sequence[Project]:
    """Oldest first."""
    return [_project(row) for row in await reader.all(_SQL["list"], {"after": after, "limit": limit})]


async def get(reader: Reader, project: int) -> Project:
    row = await reader.one(_SQL["get"], {"project": project})
    assert row is not None
    return _project(row)


async def first(reader: Reader) -> int | None:
    """The operator's own project: the only one that may look at vendors' accounts and other projects."""
    row = await reader.one(_SQL["first"], {})
    return None if row is None else int(row["id"])


async def sealed_webhook_secret(reader: Reader, project: int) -> tuple[str, str]:
    """The project's id and its encrypted secret for per-job webhooks."""
    row = await reader.one(_SQL["get"], {"project": project})
    assert row is not None
    return str(row["public_id"]), str(row["webhook_secret"])


async def change_webhook_secret(tx: Tx, project: int, sealed: str) -> None:
    await tx.run(_SQL["change_webhook_secret"], {"project": project, "sealed": sealed})


async def last_sequence(reader: Reader, project: int) -> int:
    """The number of the newest event that a reader of this view can see; 0 where there is none yet."""
    row = await reader.one(_SQL["last_sequence"], {"project": project})
    assert row is not None
    return int(row["last_sequence"])


async def lock(tx: Tx, project: int) -> None:
    """Nobody writes an event of this project before this unit's end, so nobody owes anything by how endpoints were."""
    await tx.one(_SQL["lock"], {"project": project})


async def next_sequence(tx: Tx, project: int) -> int:
    row = await tx.one(_SQL["next_sequence"], {"project": project})
    assert row is not None
    return int(row["last_sequence"])
