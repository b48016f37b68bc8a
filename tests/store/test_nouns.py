"""What the store's nouns promise: one winner of each race, no row claimed twice, and what a dead node leaves."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import permutations
from pathlib import Path

import pytest

from handlers.vendors.contract import Pace, Window
from schemas.callback import Callback, Via
from schemas.delivery import Attempt, DeliveryState, Outcome
from schemas.event import EventType
from schemas.job import Charged, ErrorClass, Failure
from service.metrics import Metrics
from service.pacing.host import Host
from service.pacing.turns import Turns
from service.store import callbacks, deliveries, endpoints, events, jobs, nodes, submissions, vendor_requests
from service.store.database import Tx
from tests.clock import ManualClock
from tests.store.rows import BROKEN_RULE, MINUTE, NOW, VENDOR, Rows, all_rows, one_row, rows, run, said

pytestmark = pytest.mark.anyio

STORE = Path(__file__).parents[2] / "service" / "store"
FILES = sorted(STORE.glob("*.sql"))


class Refused(Exception):
    """What a unit of these tests fails with."""


# Events.


async def test_events_are_numbered_without_gaps_whoever_writes_and_whatever_rolls_back(made: Rows) -> None:
    other = await rows(made.db)

    async def add(tx: Tx, project: int, n: int) -> None:
        await events.add(tx, project, EventType.JOB_QUEUED, {"n": n}, NOW)
        if n % 5 == 0:
            raise Refused

    writers = [made.db.write(add, project, n) for n in range(200) for project in (made.project, other.project)]
    outcomes = await asyncio.gather(*writers, return_exceptions=True)
    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 80
    for project in (made.project, other.project):
        log = await made.db.read(events.after, project, 0, None, 1000)
        assert [event.sequence for event in log] == list(range(1, 161))
        assert len({event.id for event in log}) == 160
        assert all(f'"sequence":{event.sequence},' in event.payload for event in log)
        # Whoever follows with a cursor gets each one once, in order.
        assert [event.sequence for event in await made.db.read(events.after, project, 100, None, 30)] == [
            *range(101, 131)
        ]


async def test_a_project_sees_only_its_own(made: Rows) -> None:
    other = await rows(made.db)
    event, _ = await made.event()
    endpoint, job = await made.endpoint(), await made.job()
    assert await made.db.read(events.get, made.project, event.id) is not None
    assert await made.db.read(events.get, other.project, event.id) is None
    assert await made.db.read(events.after, other.project, 0, None, 10) == []
    assert await made.db.read(endpoints.get, other.project, endpoint.id) is None
    assert await made.db.read(jobs.get, other.project, job.id) is None
    _, owed = await other.event()
    assert owed == [], "an event of one project is owed to none of another's endpoints"


# Jobs: every change of state is a compare-and-set.


FAILURE = Failure(ErrorClass.TIMEOUT, "deadline", "too late")


async def _finish(tx: Tx, job: int, node: int) -> bool:
    return await jobs.succeed(tx, job, node, NOW) is not None


async def _fail(tx: Tx, job: int, _: int) -> bool:
    return await jobs.fail(tx, job, FAILURE, None, NOW) is not None


async def _cancel(tx: Tx, job: int, _: int) -> bool:
    return await jobs.cancel(tx, job, NOW) is not None


End = Callable[[Tx, int, int], Awaitable[bool]]
STATES: Mapping[End, str] = {_finish: "succeeded", _fail: "failed", _cancel: "canceled"}


@pytest.mark.parametrize("order", list(permutations(STATES)))
async def test_a_job_ends_once_whoever_is_first(made: Rows, order: tuple[End, ...]) -> None:
    job, submission = await made.running_job()
    assert await made.db.write(jobs.fetching, job.row, submission.row, None, Charged.YES, "1", NOW)
    await made.db.write(jobs.claim, jobs.Step.FETCH, VENDOR, made.node, NOW, 1)
    outcomes = await asyncio.gather(*(made.db.write(end, job.row, made.node) for end in order for _ in range(3)))
    assert outcomes.count(True) == 1
    winner = order[outcomes.index(True) // 3]
    assert (await made.db.read(jobs.by_row, job.row)).state == STATES[winner]


async def test_of_two_final_callbacks_one_makes_the_job_fetching(made: Rows) -> None:
    job, submission = await made.running_job()
    won = await asyncio.gather(
        *(made.db.write(jobs.fetching, job.row, submission.row, None, Charged.YES, "1", NOW + n) for n in range(4))
    )
    assert won.count(True) == 1


async def test_a_canceled_job_comes_back_by_no_way(made: Rows) -> None:
    job, submission = await made.running_job()
    assert await made.db.write(jobs.cancel, job.row, NOW) is not None
    await made.db.write(submissions.close_all, job.row)
    assert not await made.db.write(jobs.fetching, job.row, submission.row, None, Charged.YES, "1", NOW)
    assert not await made.db.write(jobs.to_conclude, job.row, NOW)
    assert not await made.db.write(jobs.again, job.row, submission.row, NOW)
    assert not await made.db.write(jobs.not_submitted, job.row, submission.row, NOW)
    assert await made.db.write(jobs.running, job.row, submission.row, "t2", NOW) is None
    assert not await made.db.write(submissions.task_known, submission.row, "t2")
    assert not await made.db.write(submissions.hurry, submission.row, NOW)
    assert not await made.db.write(submissions.release, submission.row, made.node, NOW, asked=True)
    for step in jobs.Step:
        assert await made.db.write(jobs.claim, step, VENDOR, made.node, NOW, 10) == []
    assert await made.db.write(submissions.claim, VENDOR, made.node, NOW, 10) == []


async def test_what_another_node_took_over_the_first_can_change_no_more(made: Rows) -> None:
    job = await made.held_job()
    other = await made.db.write(nodes.add, NOW)
    await made.db.write(nodes.take_over, other, NOW, NOW + 1)
    submission = 1
    assert not await made.db.write(jobs.submitting, job.row, made.node, submission, None), "else it is paid for twice"
    assert not await made.db.write(jobs.hand_on, job.row, made.node, None, None, 0)
    assert not await made.db.write(jobs.try_later, job.row, made.node, NOW, counted=True)
    assert not await made.db.write(jobs.start_staging, job.row, made.node)
    assert not await made.db.write(nodes.beat, made.node, NOW), "a node declared dead must stop"


# Claims.


async def test_no_job_is_claimed_twice(made: Rows) -> None:
    for _ in range(20):
        await made.job()
    claimed = await asyncio.gather(
        *(made.db.write(jobs.claim, jobs.Step.SUBMIT, VENDOR, made.node, NOW, 3) for _ in range(10))
    )
    found = [job.row for batch in claimed for job in batch]
    assert len(found) == len(set(found)) == 20
    assert max(len(batch) for batch in claimed) == 3


async def test_no_delivery_is_claimed_twice_and_none_before_its_time(made: Rows) -> None:
    for _ in range(4):
        await made.endpoint()
    _, owed = await made.event()
    assert len(owed) == 4
    for late, entry in enumerate(owed):
        assert await made.db.write(deliveries.retry, entry.delivery, made.node, 1, NOW + late)
    assert await made.db.read(deliveries.next_due) == NOW
    claimed = await asyncio.gather(*(made.db.write(deliveries.claim, made.node, NOW + 2, 1) for _ in range(6)))
    found = [entry.delivery for batch in claimed for entry in batch]
    assert sorted(found) == [entry.delivery for entry in owed[:3]]
    assert await made.db.read(deliveries.next_due) == NOW + 3


# What a dead node leaves.


async def test_a_dead_nodes_rows_are_freed_and_nobody_elses(made: Rows) -> None:
    dead, alive = made.node, await made.db.write(nodes.add, NOW)
    await made.endpoint()
    ours = await made.held_job()
    cut_off = await made.submission(await made.held_job(), watch_at=NOW + MINUTE)
    overdue = await made.submission(await made.held_job(), watch_at=NOW + 1)
    _, known = await made.running_job()
    _, (owed,) = await made.event()
    made.node = alive
    kept = await made.held_job()
    _, kept_submission = await made.running_job()
    _, (kept_delivery,) = await made.event()

    later = NOW + 10_000
    assert await made.db.write(nodes.beat, alive, later)
    third = await made.db.write(nodes.add, later)
    assert await made.db.write(nodes.take_over, third, later, later - 4_000) == 1
    assert await made.db.write(nodes.take_over, third, later, later - 4_000) == 0

    async def held(table: str) -> dict[int, tuple[int | None, int | None]]:
        found = await made.db.read(all_rows, f"SELECT id, node, due_at FROM {table}")
        return {row["id"]: (row["node"], row["due_at"]) for row in found}

    held_jobs, asked, deliver = await held("jobs"), await held("submissions"), await held("deliveries")
    assert held_jobs[ours.row] == (None, later)
    assert held_jobs[kept.row] == (alive, None)
    assert asked[cut_off.row] == (None, NOW + MINUTE), "a callback may still come: not before its watchdog"
    assert asked[overdue.row] == (None, later)
    assert asked[known.row] == (None, later)
    assert asked[kept_submission.row] == (alive, None)
    assert deliver[owed.delivery] == (None, later)
    assert deliver[kept_delivery.delivery] == (alive, None)
    assert [row["id"] for row in await made.db.read(all_rows, "SELECT id FROM nodes WHERE ended_at IS NOT NULL")] == [
        dead
    ]


async def test_a_held_delivery_of_a_dead_node_stays_held(made: Rows) -> None:
    endpoint = await made.endpoint()
    _, (owed,) = await made.event()
    assert await made.db.write(endpoints.disable, endpoint.row, "gone", NOW) is not None
    assert await made.db.write(deliveries.hold, endpoint.row, NOW) == 1
    other = await made.db.write(nodes.add, NOW)
    await made.db.write(nodes.take_over, other, NOW, NOW + 1)
    assert await made.db.write(deliveries.claim, other, NOW + MINUTE, 10) == []
    assert (await made.db.read(deliveries.by_row, owed.delivery)).state is DeliveryState.HELD


# Deliveries.


async def test_a_delivery_is_settled_once_and_by_its_node_alone(made: Rows) -> None:
    await made.endpoint()
    _, (owed,) = await made.event()
    other = await made.db.write(nodes.add, NOW)
    settle = (DeliveryState.DELIVERED, 1, NOW)
    assert not await made.db.write(deliveries.settle, owed.delivery, other, *settle)
    assert await made.db.write(deliveries.settle, owed.delivery, made.node, *settle)
    assert not await made.db.write(deliveries.settle, owed.delivery, made.node, *settle)
    assert not await made.db.write(deliveries.retry, owed.delivery, made.node, 2, NOW)
    assert await made.db.write(deliveries.discard, owed.endpoint, NOW) == 0, "what was delivered stays so"
    assert (await made.db.read(deliveries.by_row, owed.delivery)).finished_at == NOW


async def test_a_held_delivery_is_not_finished(made: Rows) -> None:
    await made.endpoint()
    _, (owed,) = await made.event()
    assert await made.db.write(deliveries.settle, owed.delivery, made.node, DeliveryState.HELD, 1, NOW)
    assert (await made.db.read(deliveries.by_row, owed.delivery)).finished_at is None


async def test_a_failure_that_ends_after_its_endpoint_was_disabled_waits_with_the_rest(made: Rows) -> None:
    endpoint = await made.endpoint()
    _, (owed,) = await made.event()
    await made.db.write(deliveries.hold, endpoint.row, NOW)
    assert await made.db.write(deliveries.retry, owed.delivery, made.node, 1, NOW)
    held = await made.db.read(deliveries.by_row, owed.delivery)
    assert (held.state, held.attempts, held.retry_at) == (DeliveryState.HELD, 1, None)
    assert await made.db.write(deliveries.claim, made.node, NOW + MINUTE, 10) == []


async def test_an_event_that_comes_while_an_endpoint_is_disabled_is_held_for_it(made: Rows) -> None:
    endpoint = await made.endpoint()
    await made.db.write(endpoints.disable, endpoint.row, "gone", NOW)
    event, owed = await made.event()
    assert owed == []
    (held,) = await made.db.read(deliveries.of_event, event.row)
    assert (held.state, held.endpoint) == (DeliveryState.HELD, endpoint.id)


async def test_attempts_are_kept_in_order_with_all_they_say(made: Rows) -> None:
    await made.endpoint()
    _, (owed,) = await made.event()
    tries = [
        Attempt(Outcome.RETRY, NOW, 7, error="dns: the name can't be resolved"),
        Attempt(Outcome.SLOW_DOWN, NOW + 1, 8, status=503, response_head="später"),
        Attempt(Outcome.DELIVERED, NOW + 2, 9, status=204, response_head=""),
    ]
    numbered = [(owed.delivery, number, attempt) for number, attempt in enumerate(tries, 1)]
    await made.db.write(deliveries.add_attempts, numbered)
    past = await made.db.read(deliveries.attempts, owed.delivery)
    assert [entry.attempt for entry in past] == tries
    assert [entry.number for entry in past] == [1, 2, 3]


# Idempotency keys.


async def test_a_key_is_remembered_for_its_time_and_may_then_be_used_anew(made: Rows) -> None:
    first, second = await made.job(), await made.job()
    day = 24 * 60 * MINUTE
    await made.db.write(jobs.remember_key, made.project, "k", "print", first.row, NOW, NOW - day)
    other = await rows(made.db)
    for project, at, expected in (
        (made.project, NOW + day, jobs.RememberedKey("print", first.row)),
        (made.project, NOW + day + 1, None),
        (other.project, NOW, None),
    ):
        assert await made.db.read(jobs.remembered_key, project, "k", at - day) == expected
    with pytest.raises(BROKEN_RULE):
        await made.db.write(jobs.remember_key, made.project, "k", "other", second.row, NOW + day, NOW)
    await made.db.write(jobs.remember_key, made.project, "k", "other", second.row, NOW + day + 1, NOW + 1)
    assert await made.db.read(jobs.remembered_key, made.project, "k", NOW + 1) == jobs.RememberedKey(
        "other", second.row
    )


# Callbacks.


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"\x00", b"\xff\xfe", b"a\x00b", "ü".encode(), b"\r\n", bytes(range(256)), b"x" * 300_000]
)
async def test_a_callbacks_bytes_come_back_as_they_came_and_are_stored_once(made: Rows, body: bytes) -> None:
    _, submission = await made.running_job()
    first = await made.db.write(said, submission, body)
    assert first is not None
    assert await made.db.write(said, submission, body) is None
    await made.db.write(callbacks.confirm, first, Callback(Via.POLL, body, "text/html", 200))
    (stored,) = await made.db.read(callbacks.of_job, submission.job)
    assert stored.callback.body == body
    assert stored.confirmation == Callback(Via.POLL, body, "text/html", 200)


# Requests to vendors.


async def test_what_was_under_way_at_a_crash_counts_from_the_next_start_once(made: Rows) -> None:
    clock, host = ManualClock(NOW), "http://vendor.test"

    async def free_at() -> int:
        pace = Pace(1, 1, 60, 5, 5, windows=(Window("account", 1, 60.0),))
        turns = Turns(Host(made.db, clock, host), VENDOR, "account", pace, Metrics().vendor_requests)
        await turns.load()
        (state,) = turns.state()
        return state.free_at or clock.now()

    await made.db.write(vendor_requests.start, VENDOR, host, "account", NOW, 0)  # and its end is never written
    await clock.advance(1_000)
    assert await free_at() > NOW + MINUTE, "a restart overruns no window"
    await clock.advance(12 * MINUTE)
    assert await free_at() == clock.now(), "and sits none out: it has long left the vendor's"


async def test_deleting_a_job_takes_what_hangs_on_it_along(made: Rows) -> None:
    job, submission = await made.running_job()
    await made.db.write(said, submission, b"finish")
    await made.db.write(jobs.remember_key, made.project, "k", "print", job.row, NOW, 0)
    assert await made.db.write(run, "DELETE FROM jobs WHERE id = :job", {"job": job.row}) == 1
    for table in ("submissions", "callbacks", "idempotency_keys", "job_inputs"):
        assert (await made.db.read(one_row, f"SELECT COUNT(*) AS n FROM {table}"))["n"] == 0
