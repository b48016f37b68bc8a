"""What two units that meet on one row must not lose. On SQLite they stand in a line; on PostgreSQL they really meet."""

import asyncio
from typing import Any

import pytest

from schemas import ids
from schemas.callback import Update, UpdateState
from schemas.endpoint import EndpointState, Terms
from service.pipeline import poll
from service.pipeline.deliver import _put_away
from service.store import callbacks, deliveries, endpoints, jobs, submissions
from service.store.database import Tx
from service.store.submissions import Submission
from service.web.endpoints import serve_again
from service.web.hooks import New, subscribe
from tests.store.rows import BROKEN_RULE, MINUTE, NOW, Rows, all_rows, one_row, said

pytestmark = pytest.mark.anyio

ROUNDS = 25


async def _disable(tx: Tx, endpoint: int) -> None:
    assert await endpoints.disable(tx, endpoint, "gone", NOW)


async def test_what_is_owed_while_an_endpoint_is_being_enabled_is_never_left_behind(made: Rows) -> None:
    endpoint = await made.endpoint()
    for _ in range(ROUNDS):
        await made.db.write(_disable, endpoint.row)
        await asyncio.gather(
            *(made.event() for _ in range(3)),
            made.db.write(serve_again, endpoint, NOW),
            *(made.event() for _ in range(3)),
        )
    states = await made.db.read(all_rows, "SELECT state, COUNT(*) AS count FROM deliveries GROUP BY state")
    assert [(row["state"], row["count"]) for row in states] == [("pending", 6 * ROUNDS)]


async def _hint_comes(tx: Tx, submission: Submission, words: bytes) -> None:
    """As `receive` does it."""
    await jobs.locked(tx, submission.job)
    assert await said(tx, submission, words) is not None
    await submissions.hurry(tx, submission.row, NOW)


async def test_a_hint_that_comes_while_its_task_is_let_go_makes_it_due_at_once(made: Rows) -> None:
    still = Update(UpdateState.RUNNING, raw_state="process")
    later = NOW + 60 * MINUTE
    for number in range(ROUNDS):
        _, submission = await made.running_job()
        replan = (poll._replan, submission, made.node, still, NOW - 1, later, NOW)
        hint = (_hint_comes, submission, b"%d" % number)
        order: list[tuple[Any, ...]] = [replan, hint] if number % 2 else [hint, replan]
        await asyncio.gather(*(made.db.write(*entry) for entry in order))
        assert await made.db.read(callbacks.hints, submission.row)
        due = await made.db.read(one_row, "SELECT due_at FROM submissions WHERE id = :row", {"row": submission.row})
        assert due["due_at"] == NOW


async def test_events_of_a_project_have_no_gaps_and_are_seen_in_their_order(made: Rows) -> None:
    seen: list[int] = []
    written = asyncio.Event()

    async def reads_on() -> None:
        while not written.is_set() or len(seen) < 5 * ROUNDS:
            last = seen[-1] if seen else 0
            rows = await made.db.read(
                all_rows, "SELECT sequence FROM events WHERE sequence > :last ORDER BY sequence", {"last": last}
            )
            seen.extend(row["sequence"] for row in rows)

    async with asyncio.timeout(20):
        reading = asyncio.create_task(reads_on())
        await asyncio.gather(*(made.event() for _ in range(5 * ROUNDS)))
        written.set()
        await reading
    assert seen == list(range(1, 5 * ROUNDS + 1))


async def test_the_same_hook_is_made_once_by_all_who_subscribe_at_once(made: Rows) -> None:
    for number in range(ROUNDS):
        terms = Terms(url=f"https://flows.example/{number}", sealed_headers="sealed")
        new = [New(ids.new_id("ep", NOW), terms, "sealed", "url") for _ in range(5)]
        subscribed = await asyncio.gather(*(made.db.write(subscribe, made.project, entry, NOW) for entry in new))
        assert len({entry.hook.id for entry in subscribed}) == 1
        assert [entry.made for entry in subscribed].count(True) == 1


async def test_the_store_itself_keeps_no_hook_twice(made: Rows) -> None:
    terms = Terms(url="https://flows.example/", sealed_headers="sealed")
    add = [(made.project, ids.new_id("ep", NOW), "webhook", terms, "sealed", NOW, None) for _ in range(2)]
    first = await made.db.write(endpoints.add, *add[0], hook=True)
    with pytest.raises(BROKEN_RULE):
        await made.db.write(endpoints.add, *add[1], hook=True)
    assert await made.db.write(endpoints.delete, first.row, NOW)
    await made.db.write(endpoints.add, *add[1], hook=True)


async def test_an_endpoint_that_was_enabled_meanwhile_is_not_put_away(made: Rows) -> None:
    endpoint = await made.endpoint()
    await made.event()
    await made.db.write(_disable, endpoint.row)
    await made.db.write(deliveries.hold, endpoint.row, NOW)
    await asyncio.gather(made.db.write(serve_again, endpoint, NOW), made.db.write(_put_away, endpoint.row, NOW))
    found = await made.db.read(endpoints.by_row, endpoint.row)
    assert found is not None
    assert found.state is EndpointState.ENABLED
    states = await made.db.read(all_rows, "SELECT state FROM deliveries")
    assert [row["state"] for row in states] == ["pending"]
