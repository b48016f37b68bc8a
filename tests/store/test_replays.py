"""What is owed once more: by whoever asks, however many at once, each event once, and never what is gone."""

import asyncio
from dataclasses import replace

import pytest

from schemas.delivery import DeliveryState
from schemas.endpoint import Endpoint, EndpointState
from schemas.replay import Replay, ReplayState, Which
from service.pipeline import replay as replaying
from service.store import deliveries, endpoints, events, projects, replays
from service.store.database import Tx
from service.store.deliveries import Again
from tests.store.rows import BROKEN_RULE, MINUTE, NOW, Rows, all_rows, one_row, run

pytestmark = pytest.mark.anyio

DUE = Again(DeliveryState.PENDING, NOW, NOW)


async def _settled(made: Rows, state: DeliveryState = DeliveryState.DELIVERED) -> int:
    """A delivery that has ended, by its row."""
    _, (owed, *_) = await made.event()
    assert await made.db.write(deliveries.settle, owed.delivery, made.node, state, 3, NOW)
    return owed.delivery


async def _replay(made: Rows, endpoint: Endpoint, which: Which = Which.ALL) -> Replay:
    span = await made.db.read(replaying.span_of, made.project, NOW, NOW, which)
    return await made.db.write(replaying.begin, endpoint.row, span, 0, NOW)


async def test_of_many_who_open_one_again_one_does(made: Rows) -> None:
    await made.endpoint()
    row = await _settled(made)
    assert sum(await asyncio.gather(*(made.db.write(deliveries.reopen, row, DUE) for _ in range(8)))) == 1
    again = await made.db.read(deliveries.by_row, row)
    assert (again.state, again.attempts, again.delivered_at, again.finished_at) == (DeliveryState.PENDING, 3, NOW, None)
    (owed,) = await made.db.write(deliveries.claim, made.node, NOW, 10)
    assert (owed.attempts, owed.round_from, owed.tries, owed.replay) == (3, 3, 0, False)


@pytest.mark.parametrize("state", [DeliveryState.PENDING, DeliveryState.DISCARDED])
async def test_what_is_on_its_way_or_has_nobody_to_go_to_is_not_opened(made: Rows, state: DeliveryState) -> None:
    await made.endpoint()
    _, (owed,) = await made.event()
    if state is DeliveryState.DISCARDED:
        await made.db.write(deliveries.discard, owed.endpoint, NOW)
    assert await made.db.write(deliveries.reopen, owed.delivery, DUE) is False
    assert (await made.db.read(deliveries.by_row, owed.delivery)).state is state


async def test_a_redelivery_and_an_outcome_meet_and_neither_is_lost(made: Rows) -> None:
    await made.endpoint()
    for attempts in range(1, 12):
        _, (owed,) = await made.event()
        public_id = (await made.db.read(deliveries.by_row, owed.delivery)).id
        ended, _ = await asyncio.gather(
            made.db.write(deliveries.settle, owed.delivery, made.node, DeliveryState.EXHAUSTED, attempts, NOW),
            made.db.write(replaying.redeliver, made.project, public_id, NOW),
        )
        assert ended
        now = await made.db.read(deliveries.by_row, owed.delivery)
        # Whoever asked while it was under way is answered by that attempt, whoever asked after it by another.
        assert now.attempts == attempts
        assert now.state in (DeliveryState.EXHAUSTED, DeliveryState.PENDING)
        claimed = await made.db.write(deliveries.claim, made.node, NOW, 10)
        assert len(claimed) == (now.state is DeliveryState.PENDING)


async def test_an_event_is_owed_to_an_endpoint_once(made: Rows) -> None:
    event, _ = await made.event()
    endpoint = await made.endpoint()
    owing = [made.db.write(deliveries.owe, event.row, endpoint.row, DUE) for _ in range(8)]
    assert sum(await asyncio.gather(*owing)) == 1
    with pytest.raises(BROKEN_RULE):
        await made.db.write(
            run,
            "INSERT INTO deliveries (public_id, project_id, event_id, endpoint_id, state, created_at)"
            " SELECT 'dlv_twin', project_id, event_id, endpoint_id, state, created_at FROM deliveries",
            {},
        )


async def test_an_event_that_has_gone_is_owed_to_nobody(made: Rows) -> None:
    event, _ = await made.event()
    await made.event()
    endpoint = await made.endpoint()

    async def trimmed(tx: Tx) -> bool:
        await events.lock(tx, event.row)
        return await events.remove(tx, event.row, NOW)

    for _ in range(5):
        went, owed = await asyncio.gather(
            made.db.write(trimmed), made.db.write(deliveries.owe, event.row, endpoint.row, DUE)
        )
        assert not (went and owed)
    kept = await made.db.read(all_rows, "SELECT id FROM events")
    owed_rows = await made.db.read(all_rows, "SELECT event_id FROM deliveries")
    assert {row["event_id"] for row in owed_rows} <= {row["id"] for row in kept}


async def test_steps_side_by_side_leave_out_none_and_repeat_none(made: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "PAGE", 7)
    for _ in range(30):
        await made.event()
    endpoint = await made.endpoint()
    replay = await _replay(made, endpoint)
    for _ in range(3):
        await asyncio.gather(*(made.db.write(replaying.step, replay, NOW) for _ in range(3)))
    (ended,) = await made.db.read(replays.listed, made.project, endpoint.id, 2**62, 10)
    assert (ended.state, ended.owed, ended.pending) == (ReplayState.FINISHED, 30, 30)
    row = await made.db.read(one_row, "SELECT COUNT(*) AS count, COUNT(DISTINCT event_id) AS events FROM deliveries")
    assert (row["count"], row["events"]) == (30, 30)
    assert {entry.replay for entry in await made.db.write(deliveries.claim, made.node, NOW, 100)} == {True}


async def test_an_endpoint_has_one_replay_at_a_time(made: Rows) -> None:
    await made.event()
    endpoint = await made.endpoint()
    begun = await asyncio.gather(*(_replay(made, endpoint) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(entry, Replay) for entry in begun) == 1


async def test_of_an_endpoint_in_order_one_is_due_and_the_others_wait_for_it(made: Rows) -> None:
    for _ in range(4):
        await made.event()
    endpoint = await made.endpoint()
    terms = replace(endpoint.terms, ordered=True)
    await made.db.write(endpoints.change, endpoint.row, terms, NOW)
    replay = await _replay(made, endpoint)
    await made.db.write(replaying.step, replay, NOW)
    rows = await made.db.read(all_rows, "SELECT due_at, node FROM deliveries ORDER BY event_id")
    assert [(row["due_at"], row["node"]) for row in rows] == [(NOW, None), *[(None, None)] * 3]


async def test_what_is_reopened_for_an_endpoint_that_takes_nothing_is_held_and_flows_with_the_rest(made: Rows) -> None:
    endpoint = await made.endpoint()
    lost = await _settled(made, DeliveryState.EXHAUSTED)
    await made.db.write(endpoints.disable, endpoint.row, "gone", NOW)
    replay = await _replay(made, endpoint, Which.UNDELIVERED)
    await made.db.write(replaying.step, replay, NOW)
    held = await made.db.read(deliveries.by_row, lost)
    assert (held.state, held.undelivered) == (DeliveryState.HELD, "endpoint_disabled")
    disabled = await made.db.read(endpoints.by_row, endpoint.row)
    assert disabled is not None
    assert disabled.state is EndpointState.DISABLED
    assert await made.db.write(deliveries.unhold, endpoint, NOW) == 1
    assert [entry.delivery for entry in await made.db.write(deliveries.claim, made.node, NOW, 10)] == [lost]


async def test_a_replay_stays_while_a_delivery_names_it_and_the_endpoint_while_a_replay_does(made: Rows) -> None:
    await made.event()
    endpoint = await made.endpoint()
    replay = await _replay(made, endpoint)
    await made.db.write(replaying.step, replay, NOW)
    await made.db.write(replaying.step, replay, NOW)

    async def gone(tx: Tx) -> None:
        await projects.lock(tx, made.project)
        await endpoints.delete(tx, endpoint.row, NOW)
        await deliveries.discard(tx, endpoint.row, NOW)

    await made.db.write(gone)
    later = NOW + MINUTE
    assert await made.db.write(replays.forget, NOW - 1, 10) == 0
    assert await made.db.write(replays.forget, later, 10) == 0
    await made.db.write(run, "DELETE FROM deliveries", {})
    assert await made.db.write(endpoints.forget, later, 10) == 0
    assert await made.db.write(replays.forget, later, 10) == 1
    assert await made.db.write(endpoints.forget, later, 10) == 1
