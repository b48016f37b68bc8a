"""Events: the ordered, immutable log of each project. The signed bytes are made here, inside the unit."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas import ids
from schemas.event import Event, EventType, envelope
from service.store import projects, sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


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


async def of_job(reader: Reader, job: int) -> Sequence[Event]:
    return [_event(row) for row in await reader.all(_SQL["of_job"], {"job": job})]
