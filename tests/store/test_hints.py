"""Hints and final answers: settling the ones never swallows the others."""

import pytest

from schemas.callback import Callback, Via
from service.store import callbacks
from tests.store.rows import MINUTE, NOW, Rows, said

pytestmark = pytest.mark.anyio


async def test_reading_the_hints_leaves_a_final_answer_to_be_concluded(made: Rows) -> None:
    job, submission = await made.running_job()
    assert await made.db.write(said, submission, b"hint") is not None
    answer = Callback(Via.POLL, b"final", "application/json", 200)
    stored = await made.db.write(callbacks.add, submission.row, job.row, answer, NOW)
    await made.db.write(callbacks.read_hints, submission.row, "running", NOW + MINUTE, NOW + MINUTE)
    assert await made.db.read(callbacks.hints, submission.row) == []
    assert [entry.row for entry in await made.db.read(callbacks.to_conclude, job.row)] == [stored]


async def test_reading_the_hints_leaves_a_confirmed_one_to_be_concluded(made: Rows) -> None:
    job, submission = await made.running_job()
    hint = await made.db.write(said, submission, b"hint")
    assert hint is not None
    await made.db.write(callbacks.confirm, hint, Callback(Via.POLL, b"final", "application/json", 200))
    await made.db.write(callbacks.read_hints, submission.row, "running", NOW + MINUTE, NOW + MINUTE)
    assert [entry.row for entry in await made.db.read(callbacks.to_conclude, job.row)] == [hint]


async def test_a_hint_that_came_after_the_question_is_not_settled_by_its_answer(made: Rows) -> None:
    _, submission = await made.running_job()
    hint = await made.db.write(said, submission, b"hint")
    await made.db.write(callbacks.read_hints, submission.row, "running", NOW - 1, NOW)
    assert [entry.row for entry in await made.db.read(callbacks.hints, submission.row)] == [hint]
