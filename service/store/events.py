"""Events: the ordered, immutable log of each project. The signed bytes are made here, inside the unit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from schemas import ids
from schemas.event import Event, EventType, envelope
from service.store import projects, sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)

_RECENT = 10_000


@dataclass(frozen=True, slots=True)
class Old:
    """An event that may go. `weight`: how many rows hang on it."""

    row: int
    job: int | None
    weight: int


def _event(row: Row) -> Event:
    return Event(
        row=row["id"],
        id=row["public_id"],
        project=row["project_id"],
        sequence=row["sequence"],
        type=EventType(row["type"]),
        payload=row["payload"],
        created_at=row["created_at"],
        job=row["job_id"],
    )


async def add(
    tx: Tx,
    project: int,
    event_type: EventType,
    data: Mapping[str, Any],
    now: int,
    *,
    job: int | None = None,
) -> Event:
    public_id = ids.new_id("evt", now)
    # Last before the insert: whoever holds the counter commits before the next number is given out.
    sequence = await projects.next_sequence(tx, project)
    body = envelope(public_id, event_type, now, sequence, data)
    payload = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    row = await tx.one(
        _SQL["add"],
        {
            "public_id": public_id,
            "project": project,
            "sequence": sequence,
            "type": event_type,
            "job": job,
            "payload": payload,
            "now": now,
        },
    )
    assert row is not None
    return Event(int(row["id"]), public_id, project, sequence, event_type, payload, now, job)


async def get(reader: Reader, project: int, public_id: str) -> Event | None:
    row = await reader.one(_SQL["get"], {"project": project, "public_id": public_id})
    return None if row is None else _event(row)


async def by_row(reader: Reader, event: int) -> Event:
    row = await reader.one(_SQL["by_row"], {"event": event})
    assert row is not None, f"event row {event} is missing"
    return _event(row)


async def after(reader: Reader, project: int, sequence: int, event_type: str | None, limit: int) -> Sequence[Event]:
    values = {"project": project, "after": sequence, "type": event_type, "limit": limit}
    return [_event(row) for row in await reader.all(_SQL["after"], values)]


async def recent(reader: Reader, project: int, types: Sequence[str], limit: int) -> Sequence[Event]:
    """Newest first, of the last ten thousand events: a type that is seldom is not searched for through a long log."""
    values = {"project": project, "types": f" {' '.join(types)} ", "most": _RECENT, "limit": limit}
    return [_event(row) for row in await reader.all(_SQL["recent"], values)]


async def of_job(reader: Reader, job: int) -> Sequence[Event]:
    return [_event(row) for row in await reader.all(_SQL["of_job"], {"job": job})]


async def oldest(reader: Reader, project: int) -> int:
    """The sequence number with which a project's log begins; everything before it is no longer kept."""
    row = await reader.one(_SQL["oldest"], {"project": project})
    assert row is not None, f"project row {project} is missing"
    return int(row["sequence"])


async def old_logs(reader: Reader, before: int, after: int, limit: int) -> Sequence[int]:
    """Projects, by row and from `after` on, whose log begins with an event of `before` or earlier."""
    rows = await reader.all(_SQL["old_logs"], {"before": before, "after": after, "limit": limit})
    return [row["id"] for row in rows]


async def front(reader: Reader, project: int, before: int, limit: int) -> Sequence[Old]:
    """The first events of a log, up to the first that must stay: a log is only ever cut off at its front."""
    rows = await reader.all(_SQL["front"], {"project": project, "before": before, "limit": limit})
    may_go = takewhile(lambda row: row["created_at"] <= before and not row["staying"], rows)
    return [Old(row["id"], row["job_id"], row["weight"]) for row in may_go]


async def lock(tx: Tx, event: int) -> None:
    """Until the unit ends nobody else owes this event to anybody."""
    await tx.one(_SQL["lock"], {"event": event})


async def remove(tx: Tx, event: int, before: int) -> bool:
    """False where it has deliveries, or must stay for another reason."""
    return await tx.run(_SQL["remove"], {"event": event, "before": before}) == 1
