"""Rows as the tests of the store need them, made by the store's own functions."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from schemas import ids
from schemas.callback import Callback, Via
from schemas.delivery import Owed
from schemas.endpoint import Endpoint, Terms
from schemas.event import Event, EventType
from schemas.job import Job, JobRequest
from service.store import callbacks, deliveries, endpoints, events, jobs, nodes, projects, submissions
from service.store.database import Database, Reader, Row, Tx
from service.store.submissions import Submission

NOW = 1_765_000_000_000
MINUTE = 60_000
VENDOR = "vanceai"

# What either driver raises for a broken constraint, and for a statement that can't be run.
BROKEN_RULE = (sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)
REFUSED_SQL = (sqlite3.OperationalError, asyncpg.PostgresError)


async def run(tx: Tx, sql: str, values: dict[str, Any]) -> int:
    return await tx.run(sql, values)


async def all_rows(reader: Reader, sql: str, values: dict[str, Any] | None = None) -> list[Row]:
    return list(await reader.all(sql, values or {}))


async def one_row(reader: Reader, sql: str, values: dict[str, Any] | None = None) -> Row:
    (row,) = await reader.all(sql, values or {})
    return row


@dataclass
class Rows:
    """Makes rows in one project on one node."""

    db: Database
    project: int = 0
    node: int = 0

    async def job(self, *, staged: bool = True) -> Job:
        return await self.db.write(add_job, self.project, needs_staging=not staged)

    async def held_job(self, step: jobs.Step = jobs.Step.SUBMIT) -> Job:
        """A job in this node's hands."""
        await self.job(staged=step is not jobs.Step.STAGE)
        (job,) = await self.db.write(jobs.claim, step, VENDOR, self.node, NOW, 1)
        return job

    async def submission(self, job: Job, *, watch_at: int = NOW + MINUTE, token: str | None = None) -> Submission:
        """The paid call of a held job is under way."""
        return await self.db.write(_submission, job, self.node, watch_at, token)

    async def running_job(self) -> tuple[Job, Submission]:
        """A job whose task is known; its submission is in this node's hands."""
        job = await self.held_job()
        submission = await self.submission(job)
        await self.db.write(_task_known, submission)
        return job, submission

    async def endpoint(self, **fields: Any) -> Endpoint:
        return await self.db.write(_endpoint, self.project, fields)

    async def event(self, event_type: EventType = EventType.JOB_SUCCEEDED) -> tuple[Event, list[Owed]]:
        return await self.db.write(_event, self.project, event_type, self.node)


async def rows(db: Database) -> Rows:
    return Rows(db, *await db.write(_begin))


async def _begin(tx: Tx) -> tuple[int, int]:
    project = await projects.add(tx, ids.new_id("prj", NOW), "tests", "sealed", NOW)
    return project.row, await nodes.add(tx, NOW)


async def add_job(
    tx: Tx, project: int, metadata: Mapping[str, str] | None = None, *, needs_staging: bool = False
) -> Job:
    request = JobRequest.model_validate({"operation": "vanceai/denoise", "metadata": metadata or {}})
    public_id = ids.new_id("job", NOW)
    return await jobs.add(
        tx,
        public_id=public_id,
        project=project,
        vendor=VENDOR,
        request=request,
        inputs=[],
        needs_staging=needs_staging,
        now=NOW,
    )


async def _submission(tx: Tx, job: Job, node: int, watch_at: int, token: str | None) -> Submission:
    submission = await submissions.add(
        tx,
        job=job.row,
        project=job.project,
        vendor=VENDOR,
        number=1,
        token_hash=token,
        prepared={"uid": "1"},
        watch_at=watch_at,
        deadline_at=NOW + 60 * MINUTE,
        node=node,
        now=NOW,
    )
    assert await jobs.submitting(tx, job.row, node, submission.row, None)
    return submission


async def _task_known(tx: Tx, submission: Submission) -> None:
    assert await submissions.task_known(tx, submission.row, "t1")
    assert await jobs.running(tx, submission.job, submission.row, "t1", NOW) is not None


async def _endpoint(tx: Tx, project: int, fields: dict[str, Any]) -> Endpoint:
    public_id = ids.new_id("ep", NOW)
    wanted = {"url": "http://receiver.example/", "events": ("*",), "job": None, **fields}
    job = wanted.pop("job")
    terms = Terms(**{"sealed_headers": "sealed", "max_in_flight": 4, **wanted})
    return await endpoints.add(tx, project, public_id, "webhook", terms, "sealed", NOW, job)


async def _event(tx: Tx, project: int, event_type: EventType, node: int) -> tuple[Event, list[Owed]]:
    event = await events.add(tx, project, event_type, {"n": 1}, NOW)
    return event, await deliveries.fan_out(tx, event, node)


async def said(tx: Tx, submission: Submission, body: bytes) -> int | None:
    return await callbacks.add(tx, submission.row, submission.job, Callback(Via.WEBHOOK, body, "text/plain"), NOW)
