"""Callbacks: what vendors said, byte for byte, each stored once per submission."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.callback import Callback, Via
from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class StoredCallback:
    """`confirmation` is what the vendor itself answered when we asked about an unsigned webhook."""

    row: int
    submission: int
    callback: Callback
    received_at: int
    state: str | None
    confirmation: Callback | None


@dataclass(frozen=True, slots=True)
class Heard:
    via: Via
    received_at: int
    state: str | None


@dataclass(frozen=True, slots=True)
class Hint:
    row: int
    received_at: int


def _encode(body: bytes) -> tuple[str, str]:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"
    # PostgreSQL's TEXT cannot hold a NUL.
    return (base64.b64encode(body).decode(), "base64") if "\x00" in text else (text, "utf-8")


def _decode(body: str, encoding: str) -> bytes:
    return base64.b64decode(body) if encoding == "base64" else body.encode()


def _stored(row: Row) -> StoredCallback:
    confirmation = None
    if row["confirmation"] is not None:
        kept = json.loads(row["confirmation"])
        body = _decode(kept["body"], kept["encoding"])
        confirmation = Callback(Via.POLL, body, kept["content_type"], kept["status"])
    body = _decode(row["body"], row["encoding"])
    callback = Callback(Via(row["via"]), body, row["content_type"], row["status"])
    return StoredCallback(row["id"], row["submission_id"], callback, row["received_at"], row["state"], confirmation)


async def add(tx: Tx, submission: int, job: int, callback: Callback, now: int) -> int | None:
    """The new row, or None where these very words are already stored."""
    body, encoding = _encode(callback.body)
    row = await tx.one(
        _SQL["add"],
        {
            "submission": submission,
            "job": job,
            "via": callback.via,
            "body": body,
            "encoding": encoding,
            "content_type": callback.content_type,
            "status": callback.status,
            "digest": hashlib.sha256(callback.body).hexdigest(),
            "now": now,
        },
    )
    return None if row is None else int(row["id"])


async def count(reader: Reader, job: int) -> int:
    row = await reader.one(_SQL["count"], {"job": job})
    assert row is not None
    return int(row["count"])


async def of_job(reader: Reader, job: int) -> Sequence[StoredCallback]:
    return [_stored(row) for row in await reader.all(_SQL["of_job"], {"job": job})]


async def heard(reader: Reader, job: int) -> Sequence[Heard]:
    """What came on a job, and what became of it; without the words themselves."""
    return [
        Heard(Via(row["via"]), row["received_at"], row["state"])
        for row in await reader.all(_SQL["heard"], {"job": job})
    ]


async def completed_at(reader: Reader, job: int) -> int | None:
    """When the vendor's last word on a job came; None where the job ended without one."""
    row = await reader.one(_SQL["completed_at"], {"job": job})
    assert row is not None
    return None if row["at"] is None else int(row["at"])


async def hints(reader: Reader, submission: int) -> Sequence[Hint]:
    """Unsigned words on this submission that the vendor has not been asked about."""
    rows = await reader.all(_SQL["hints"], {"submission": submission})
    return [Hint(row["id"], row["received_at"]) for row in rows]


async def confirm(tx: Tx, callback: int, answer: Callback) -> None:
    body, encoding = _encode(answer.body)
    kept = {"body": body, "encoding": encoding, "content_type": answer.content_type, "status": answer.status}
    await tx.run(_SQL["confirm"], {"callback": callback, "confirmation": json.dumps(kept)})


async def to_conclude(reader: Reader, job: int) -> Sequence[StoredCallback]:
    return [_stored(row) for row in await reader.all(_SQL["to_conclude"], {"job": job})]


async def read(tx: Tx, callback: int, state: str, now: int) -> None:
    await tx.run(_SQL["read"], {"callback": callback, "state": state, "now": now})


async def read_hints(tx: Tx, submission: int, state: str, until: int, now: int) -> None:
    """Mark the hints that came on this submission up to `until` as read: one answer settles them together."""
    await tx.run(_SQL["read_hints"], {"submission": submission, "state": state, "until": until, "now": now})
