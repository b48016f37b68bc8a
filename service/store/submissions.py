"""Submissions: tries to hand a job to its vendor, and the tasks that came of them.

`sending`: the paid call is under way or its answer was lost; `running`: the task is known; `unanswered`: given up,
another submission follows; `closed`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


@dataclass(frozen=True, slots=True)
class Submission:
    row: int
    job: int
    project: int
    vendor: str
    number: int
    state: str
    prepared: Mapping[str, Any]
    task: str | None
    sent_at: int
    watch_at: int
    deadline_at: int
    asks: int
    asked_at: int | None  # the last time that the vendor answered a question about it


@dataclass(frozen=True, slots=True)
class AtVendor:
    """Tasks at a vendor now, with the calls under way, and when the next of them is asked (None: none is due)."""

    count: int
    next_ask_at: int | None


def _submission(row: Row) -> Submission:
    return Submission(
        row=row["id"],
        job=row["job_id"],
        project=row["project_id"],
        vendor=row["vendor"],
        number=row["number"],
        state=row["state"],
        prepared=json.loads(row["prepared"]),
        task=row["vendor_task_id"],
        sent_at=row["sent_at"],
        watch_at=row["watch_at"],
        deadline_at=row["deadline_at"],
        asks=row["asks"],
        asked_at=row["asked_at"],
    )


async def add(
    tx: Tx,
    *,
    job: int,
    project: int,
    vendor: str,
    number: int,
    token_hash: str | None,
    prepared: Mapping[str, Any],
    watch_at: int,
    deadline_at: int,
    node: int,
    now: int,
) -> Submission:
    """In this node's hands: the paid call goes out right after the commit."""
    row = await tx.one(
        _SQL["add"],
        {
            "job": job,
            "project": project,
            "vendor": vendor,
            "number": number,
            "token_hash": token_hash,
            "prepared": json.dumps(prepared),
            "watch_at": watch_at,
            "deadline_at": deadline_at,
            "node": node,
            "now": now,
        },
    )
    assert row is not None
    return _submission(row)


async def get(reader: Reader, submission: int) -> Submission:
    row = await reader.one(_SQL["get"], {"submission": submission})
    assert row is not None, f"submission row {submission} is missing"
    return _submission(row)


async def by_token(reader: Reader, vendor: str, token_hash: str) -> Submission | None:
    row = await reader.one(_SQL["by_token"], {"vendor": vendor, "token_hash": token_hash})
    return None if row is None else _submission(row)


async def of_job(reader: Reader, job: int) -> Sequence[Submission]:
    return [_submission(row) for row in await reader.all(_SQL["of_job"], {"job": job})]


async def in_flight(reader: Reader, vendor: str) -> Sequence[tuple[Submission, str]]:
    """Every known task at the vendor, and its operation."""
    return [(_submission(row), row["operation"]) for row in await reader.all(_SQL["in_flight"], {"vendor": vendor})]


async def cut_off(reader: Reader, vendor: str) -> Sequence[tuple[Submission, str]]:
    """Every submission that was cut off, or had no answer and is to be made again, and its operation."""
    return [(_submission(row), row["operation"]) for row in await reader.all(_SQL["cut_off"], {"vendor": vendor})]


async def open_count(reader: Reader, vendor: str) -> int:
    """Tasks at the vendor now, with the calls under way."""
    row = await reader.one(_SQL["open_count"], {"vendor": vendor})
    assert row is not None
    return int(row["count"])


async def at_vendors(reader: Reader, project: int | None) -> Mapping[str, AtVendor]:
    """By vendor, where there are any; `project` None: those of all projects."""
    rows = await reader.all(_SQL["at_vendors"], {"project": project})
    return {row["vendor"]: AtVendor(row["count"], row["next_ask_at"]) for row in rows}


async def busy(reader: Reader, vendor: str) -> int:
    """Tasks at the vendor now, and jobs in some node's hands that are on their way to becoming tasks."""
    row = await reader.one(_SQL["busy"], {"vendor": vendor})
    assert row is not None
    return int(row["count"])


async def claim(tx: Tx, vendor: str, node: int, now: int, limit: int) -> Sequence[Submission]:
    values = {"vendor": vendor, "node": node, "now": now, "limit": limit}
    return [_submission(row) for row in await tx.all(_SQL["claim"], values)]


async def next_due(reader: Reader, vendor: str) -> int | None:
    row = await reader.one(_SQL["next_due"], {"vendor": vendor})
    return None if row is None else row["due_at"]


async def task_known(tx: Tx, submission: int, task: str) -> bool:
    return await tx.run(_SQL["task_known"], {"submission": submission, "task": task}) == 1


async def corrected(tx: Tx, submission: int, task: str) -> bool:
    """True where another task had been told, by words that nobody signed."""
    return await tx.run(_SQL["corrected"], {"submission": submission, "task": task}) == 1


async def is_of_another(reader: Reader, submission: Submission, task: str) -> bool:
    """Whether this task is known to be another submission's."""
    values = {"vendor": submission.vendor, "task": task, "submission": submission.row}
    row = await reader.one(_SQL["elsewhere"], values)
    assert row is not None
    return int(row["count"]) > 0


async def release(tx: Tx, submission: int, node: int, due_at: int, *, asked: bool, asked_at: int | None = None) -> bool:
    """`asked_at`: when the question went out that the vendor has answered; None where it has not."""
    values = {
        "submission": submission,
        "node": node,
        "due_at": due_at,
        "asked": int(asked),
        "asked_at": asked_at,
    }
    return await tx.run(_SQL["release"], values) == 1


async def is_held(tx: Tx, submission: int, node: int) -> bool:
    return await tx.one(_SQL["held"], {"submission": submission, "node": node}) is not None


async def hurry(tx: Tx, submission: int, due_at: int) -> bool:
    return await tx.run(_SQL["hurry"], {"submission": submission, "due_at": due_at}) == 1


async def ask_all(tx: Tx, vendor: str, now: int) -> None:
    """Every known task is asked at once: after a start, whatever was called to us meanwhile is lost."""
    await tx.run(_SQL["ask_all"], {"vendor": vendor, "now": now})


async def unanswered(tx: Tx, submission: int, node: int) -> bool:
    return await tx.run(_SQL["unanswered"], {"submission": submission, "node": node}) == 1


async def wait(tx: Tx, submission: int, node: int) -> None:
    """A final answer is stored: nothing more to ask until it is concluded."""
    await tx.run(_SQL["wait"], {"submission": submission, "node": node})


async def close(tx: Tx, submission: int) -> None:
    await tx.run(_SQL["close"], {"submission": submission})


async def close_all(tx: Tx, job: int) -> None:
    await tx.run(_SQL["close_all"], {"job": job})


async def open_by_vendor(reader: Reader) -> dict[str, int]:
    """As `open_count`, of all vendors at once."""
    return {row["vendor"]: int(row["count"]) for row in await reader.all(_SQL["open_by_vendor"], {})}
