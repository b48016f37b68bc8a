"""Endpoints: subscribers' registrations. Secret and header values are sealed before they come here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from schemas.endpoint import Endpoint, EndpointState
from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class Changeable:
    """What a PATCH may change."""

    url: str
    events: tuple[str, ...]
    channels: tuple[str, ...]
    description: str
    header_names: tuple[str, ...]
    sealed_headers: str
    max_in_flight: int

    def values(self) -> dict[str, str | int]:
        return {
            "url": self.url,
            "events": json.dumps(self.events),
            "channels": json.dumps(self.channels),
            "description": self.description,
            "headers": json.dumps({"names": self.header_names, "sealed": self.sealed_headers}),
            "max_in_flight": self.max_in_flight,
        }


# Read again for each event, and always the same.
@lru_cache(maxsize=4096)
def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@lru_cache(maxsize=4096)
def _headers(text: str) -> tuple[tuple[str, ...], str]:
    """The names, and the sealed values."""
    headers = json.loads(text)
    return tuple(headers["names"]), headers["sealed"]


def _endpoint(row: Row) -> Endpoint:
    # A job's own webhook hears of that job and is never read again: it would only drive the others out.
    read = _headers if row["job_id"] is None else _headers.__wrapped__
    header_names, sealed_headers = read(row["headers"])
    return Endpoint(
        row=row["id"],
        id=row["public_id"],
        project=row["project_id"],
        job=row["job_id"],
        kind=row["kind"],
        url=row["url"],
        events=_names(row["events"]),
        channels=_names(row["channels"]),
        description=row["description"],
        header_names=header_names,
        sealed_headers=sealed_headers,
        sealed_secret=row["secret"],
        max_in_flight=row["max_in_flight"],
        state=EndpointState(row["state"]),
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def add(
    tx: Tx, project: int, public_id: str, kind: str, fields: Changeable, sealed_secret: str, now: int, job: int | None
) -> Endpoint:
    row = await tx.one(
        _SQL["add"],
        {
            "public_id": public_id,
            "project": project,
            "job": job,
            "kind": kind,
            "secret": sealed_secret,
            "now": now,
            **fields.values(),
        },
    )
    assert row is not None
    return _endpoint(row)


async def get(reader: Reader, project: int, public_id: str) -> Endpoint | None:
    row = await reader.one(_SQL["get"], {"project": project, "public_id": public_id})
    return None if row is None else _endpoint(row)


async def by_row(reader: Reader, endpoint: int) -> Endpoint | None:
    """None where it was deleted meanwhile."""
    row = await reader.one(_SQL["by_row"], {"endpoint": endpoint})
    return None if row is None else _endpoint(row)


async def locked(tx: Tx, endpoint: int) -> Endpoint | None:
    """As `by_row`, and it stays so until this unit's end."""
    row = await tx.one(_SQL["locked"], {"endpoint": endpoint})
    return None if row is None else _endpoint(row)


async def listed(reader: Reader, project: int, after: int, limit: int) -> Sequence[Endpoint]:
    """Oldest first."""
    rows = await reader.all(_SQL["list"], {"project": project, "after": after, "limit": limit})
    return [_endpoint(row) for row in rows]


async def count(reader: Reader, project: int) -> int:
    row = await reader.one(_SQL["count"], {"project": project})
    assert row is not None
    return int(row["count"])


async def of_event(reader: Reader, project: int, job: int | None) -> Sequence[Endpoint]:
    """All that may subscribe to an event: the project's, and the job's own webhook."""
    return [_endpoint(row) for row in await reader.all(_SQL["of_event"], {"project": project, "job": job})]


async def change(tx: Tx, endpoint: int, fields: Changeable, now: int) -> None:
    await tx.run(_SQL["change"], {"endpoint": endpoint, "now": now, **fields.values()})


async def disable(tx: Tx, endpoint: int, reason: str, now: int) -> Endpoint | None:
    """The endpoint as it is now, or None where it was disabled already."""
    row = await tx.one(_SQL["disable"], {"endpoint": endpoint, "reason": reason, "now": now})
    return None if row is None else _endpoint(row)


async def enable(tx: Tx, endpoint: int, now: int) -> bool:
    """False where it was enabled already."""
    return await tx.run(_SQL["enable"], {"endpoint": endpoint, "now": now}) == 1


async def delete(tx: Tx, endpoint: int, now: int) -> bool:
    return await tx.run(_SQL["delete"], {"endpoint": endpoint, "now": now}) == 1


async def forget(tx: Tx, before: int, limit: int) -> int:
    """Delete the rows of endpoints that were deleted at `before` or earlier and that no delivery names; how many."""
    return await tx.run(_SQL["forget"], {"before": before, "limit": limit})
