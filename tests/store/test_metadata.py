"""Jobs by their metadata, also those of an earlier release; and what is under way."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from schemas import ids
from schemas.job import Job, JobRequest, JobState
from service.store import jobs, submissions
from service.store.backfill import backfill
from service.store.database import Database, Reader, Row, Tx, Values
from service.store.jobs import Filter
from tests.store.rows import NOW, VENDOR, Rows, add_job, all_rows, one_row, rows, run

pytestmark = pytest.mark.anyio

NEWEST = 2**63 - 1
# As the release before wrote a job: it knew nothing of metadata's own table.
OLD_JOB = (
    "INSERT INTO jobs (public_id, project_id, vendor, operation, state, request, charged, created_at)"
    " VALUES (:id, :project, 'vanceai', 'vanceai/denoise', 'failed', :request, 'no', :now)"
)


async def add_old(tx: Tx, project: int, metadata: dict[str, str]) -> str:
    request = JobRequest.model_validate({"operation": "vanceai/denoise", "metadata": metadata})
    public_id = ids.new_id("job", NOW)
    values = {"id": public_id, "project": project, "request": request.model_dump_json(), "now": NOW}
    await tx.run(OLD_JOB, values)
    return public_id


async def found(db: Database, project: int, before: int = NEWEST, limit: int = 100, **metadata: str) -> list[str]:
    listed = await db.read(jobs.listed, project, Filter(metadata=metadata), before, limit)
    return [job.id for job in listed]


async def test_pages_of_jobs_with_some_metadata_come_newest_first(made: Rows) -> None:
    wanted = [await made.db.write(add_job, made.project, {"shop": "7", "n": str(n)}) for n in range(5)]
    for n in range(5):
        await made.db.write(add_job, made.project, {"shop": "8", "n": str(n)})
    newest = [job.id for job in wanted[::-1]]
    assert await found(made.db, made.project, shop="7") == newest
    assert await found(made.db, made.project, limit=2, shop="7") == newest[:2]
    assert await found(made.db, made.project, before=wanted[3].row, shop="7") == newest[2:]
    assert await found(made.db, made.project, shop="7", n="3") == [wanted[3].id]


async def test_the_rarest_pair_leads_whichever_is_named_first(made: Rows) -> None:
    """A pair that is in all jobs is not looked through for one that is in one."""
    everywhere = [await made.db.write(add_job, made.project, {"shop": "7", "n": str(n)}) for n in range(20)]

    class Counting:
        def __init__(self, reader: Reader) -> None:
            self._reader = reader
            self.led_by: list[str] = []

        async def one(self, text: str, values: Values) -> Row | None:
            return await self._reader.one(text, values)

        async def all(self, text: str, values: Values) -> Sequence[Row]:
            if "pairs" in values:
                self.led_by.append(values["pair"])
            return await self._reader.all(text, values)

    async def leaders(reader: Reader) -> list[str]:
        counting = Counting(reader)
        for metadata in ({"shop": "7", "n": "3"}, {"n": "3", "shop": "7"}):
            listed = await jobs.listed(counting, made.project, Filter(metadata=metadata), NEWEST, 100)
            assert [job.id for job in listed] == [everywhere[3].id]
        return counting.led_by

    first, second = await made.db.read(leaders)
    counted = "SELECT COUNT(*) AS count FROM job_metadata WHERE pair = :pair"
    assert first == second
    assert await made.db.read(one_row, counted, {"pair": first}) == {"count": 1}


async def test_the_same_metadata_in_another_project_is_another(made: Rows) -> None:
    other = await rows(made.db)
    own = await made.db.write(add_job, made.project, {"shop": "7"})
    theirs = await made.db.write(add_job, other.project, {"shop": "7"})
    assert await found(made.db, made.project, shop="7") == [own.id]
    assert await found(made.db, other.project, shop="7") == [theirs.id]


async def test_a_job_that_goes_takes_its_metadata_with_it(made: Rows) -> None:
    job = await made.db.write(add_job, made.project, {"shop": "7", "a": "b"})
    await made.db.write(run, "DELETE FROM jobs WHERE id = :job", {"job": job.row})
    assert await made.db.read(all_rows, "SELECT pair FROM job_metadata") == []


async def test_jobs_of_an_earlier_release_are_found_after_the_next_start(made: Rows) -> None:
    old = [await made.db.write(add_old, made.project, {"shop": "7", "n": str(n % 2)}) for n in range(8)]
    await made.db.write(add_old, made.project, {})
    new = (await made.db.write(add_job, made.project, {"shop": "7"})).id
    assert await found(made.db, made.project, shop="7") == [new]
    assert await backfill(made.db, at_once=3) == 9
    assert await found(made.db, made.project, shop="7") == [new, *old[::-1]]
    assert await found(made.db, made.project, shop="7", n="1") == old[1::2][::-1]
    assert await backfill(made.db) == 0
    # And once more, where the earlier release has run again in between.
    late = await made.db.write(add_old, made.project, {"shop": "7"})
    assert await backfill(made.db) == 1
    assert await found(made.db, made.project, shop="7") == [late, new, *old[::-1]]


async def test_a_start_that_was_cut_off_while_filling_in_is_gone_on_with(made: Rows) -> None:
    for n in range(4):
        await made.db.write(add_old, made.project, {"n": str(n)})

    async def cut_off(tx: Tx) -> None:
        assert await jobs.fill_metadata(tx, 3) == 3
        raise RuntimeError("killed")

    assert await made.db.write(jobs.fill_metadata, 1) == 1
    with pytest.raises(RuntimeError, match="killed"):
        await made.db.write(cut_off)
    assert await made.db.read(one_row, "SELECT COUNT(*) AS count FROM job_metadata") == {"count": 1}
    # Two nodes at once do not get in each other's way.
    assert sum(await asyncio.gather(backfill(made.db), backfill(made.db))) == 3
    counted = await made.db.read(all_rows, "SELECT metadata_rows FROM jobs")
    assert [row["metadata_rows"] for row in counted] == [1, 1, 1, 1]


async def test_what_is_under_way_is_counted_for_all_and_for_one(made: Rows) -> None:
    other = await rows(made.db)
    await made.job(staged=False)
    await made.running_job()
    await other.job()
    ended = await other.job()
    await made.db.write(jobs.cancel, ended.row, NOW)

    async def counted(project: int | None) -> dict[str, int]:
        return {entry.state: entry.count for entry in await made.db.read(jobs.under_way, project)}

    assert await counted(None) == {JobState.QUEUED: 2, JobState.RUNNING: 1}
    assert await counted(made.project) == {JobState.QUEUED: 1, JobState.RUNNING: 1}
    assert await counted(other.project) == {JobState.QUEUED: 1}


async def test_tasks_at_a_vendor_are_counted_and_the_next_ask_is_known(made: Rows) -> None:
    other = await rows(made.db)
    assert await made.db.read(submissions.at_vendors, None) == {}
    _, submission = await made.running_job()
    await made.db.write(submissions.release, submission.row, made.node, NOW + 5, asked=True)
    for project, at in ((None, (1, NOW + 5)), (made.project, (1, NOW + 5)), (other.project, None)):
        told = await made.db.read(submissions.at_vendors, project)
        assert ({name: (entry.count, entry.next_ask_at) for name, entry in told.items()}) == (
            {} if at is None else {VENDOR: at}
        )
    await made.db.write(submissions.close, submission.row)
    assert await made.db.read(submissions.at_vendors, None) == {}


async def test_a_retry_outlives_the_job_that_it_is_a_retry_of(made: Rows) -> None:
    first = await made.job()
    request = JobRequest.model_validate_json(json.dumps({"operation": "vanceai/denoise"}))

    async def retry(tx: Tx) -> Job:
        return await jobs.add(
            tx,
            public_id=ids.new_id("job", NOW),
            project=made.project,
            vendor=VENDOR,
            request=request,
            inputs=[],
            needs_staging=False,
            now=NOW,
            retry_of=first.id,
        )

    second = await made.db.write(retry)
    await made.db.write(run, "DELETE FROM jobs WHERE id = :job", {"job": first.row})
    kept = await made.db.read(jobs.get, made.project, second.id)
    assert kept is not None
    assert kept.retry_of == first.id
