"""Replays: ranges of the log that an endpoint is owed once more, and how far each has come."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas import ids
from schemas.delivery import DeliveryState
from schemas.event import EventType
from schemas.replay import Replay, ReplayState, Span, Which
from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class Logged:
    """An event of the log, and the delivery of it to one endpoint, where there is one. `payload` only where asked."""

    event: int
    sequence: int
    type: EventType
    about_job: bool
    payload: str | None
    delivery: int | None
    state: DeliveryState | None
    delivered_at: int | None


def _replay(row: Row) -> Replay:
    return Replay(
        row=row["id"],
        id=row["public_id"],
        endpoint=row["endpoint_id"],
        endpoint_id=row["endpoint_public_id"],
        span=Span(
            row["project_id"],
            row["since"],
            row["until"],
            Which(row["which"]),
            row["after_sequence"],
            row["last_sequence"],
        ),
        state=ReplayState(row["state"]),
        total=row["total"],
        owed=row["owed"],
        pending=row["pending"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )


async def add(tx: Tx, endpoint: int, span: Span, total: int, now: int) -> str:
    """Its public id. The endpoint has no other one running."""
    public_id = ids.new_id("rpl", now)
    values = {
        "public_id": public_id,
        "project": span.project,
        "endpoint": endpoint,
        "since": span.since,
        "until": span.until,
        "which": span.which,
        "total": total,
        "after": span.after,
        "last": span.last,
        "now": now,
    }
    await tx.one(_SQL["add"], values)
    return public_id


async def get(reader: Reader, project: int, public_id: str) -> Replay | None:
    row = await reader.one(_SQL["get"], {"project": project, "public_id": public_id})
    return None if row is None else _replay(row)


async def listed(reader: Reader, project: int, endpoint: str | None, before: int, limit: int) -> Sequence[Replay]:
    """Newest first."""
    values = {"project": project, "endpoint": endpoint, "before": before, "limit": limit}
    return [_replay(row) for row in await reader.all(_SQL["list" if endpoint is None else "list_of_endpoint"], values)]


async def running(reader: Reader) -> Sequence[Replay]:
    return [_replay(row) for row in await reader.all(_SQL["running"], {})]


async def running_for(reader: Reader, endpoint: int) -> str | None:
    """The id of the one that the endpoint has."""
    row = await reader.one(_SQL["running_for"], {"endpoint": endpoint})
    return None if row is None else str(row["public_id"])


async def unsettled(reader: Reader, endpoint: int, most: int) -> int:
    """How many deliveries to the endpoint any replay owes that are not settled yet; `most` where there are more."""
    row = await reader.one(_SQL["unsettled"], {"endpoint": endpoint, "most": most})
    assert row is not None
    return int(row["count"])


async def lock(tx: Tx, replay: int) -> int | None:
    """How far it has come, and nobody else takes it further before this unit's end. None where it has ended."""
    row = await tx.one(_SQL["lock"], {"replay": replay})
    return None if row is None else int(row["after_sequence"])


async def move(tx: Tx, replay: int, after: int, owed: int) -> None:
    await tx.run(_SQL["move"], {"replay": replay, "after": after, "owed": owed})


async def end(tx: Tx, replay: int, state: ReplayState, now: int) -> bool:
    """False where it had ended already."""
    return await tx.run(_SQL["end"], {"replay": replay, "state": state, "now": now}) == 1


async def bounds(reader: Reader, project: int, since: int, until: int) -> tuple[int, int] | None:
    """The least and the greatest sequence of what was logged between these times; None: nothing is kept of it."""
    row = await reader.one(_SQL["bounds"], {"project": project, "since": since, "until": until})
    return None if row is None or row["first"] is None else (int(row["first"]), int(row["last"]))


async def page(reader: Reader, span: Span, endpoint: int, limit: int, *, whole: bool) -> Sequence[Logged]:
    """`whole`: with the payload of each."""
    values = {
        "project": span.project,
        "endpoint": endpoint,
        "after": span.after,
        "last": span.last,
        "since": span.since,
        "until": span.until,
        "limit": limit,
        "whole": int(whole),
    }
    return [
        Logged(
            event=row["id"],
            sequence=row["sequence"],
            type=EventType(row["type"]),
            about_job=row["job_id"] is not None,
            payload=row["payload"],
            delivery=row["delivery_id"],
            state=None if row["state"] is None else DeliveryState(row["state"]),
            delivered_at=row["delivered_at"],
        )
        for row in await reader.all(_SQL["page"], values)
    ]


async def forget(tx: Tx, before: int, limit: int) -> int:
    """Delete what ended at `before` or earlier and no delivery names any more; how many."""
    return await tx.run(_SQL["forget"], {"before": before, "limit": limit})
