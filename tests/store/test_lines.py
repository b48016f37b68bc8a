"""The line of an ordered endpoint: one head, never two, and never none while somebody waits."""

import asyncio
from dataclasses import replace

import pytest

from schemas.delivery import DeliveryState, Owed
from schemas.endpoint import Endpoint
from schemas.event import EventType
from schemas.registration import EndpointPatch
from service.store import deliveries, endpoints, events, lines, nodes
from service.store.database import Tx
from service.web.endpoints import _current, _pause, _resume, serve_again
from tests.store.rows import BROKEN_RULE, MINUTE, NOW, Rows, all_rows, run

pytestmark = pytest.mark.anyio

PENDING = """
    SELECT id, event_id, node, due_at, head, replay FROM deliveries WHERE state = 'pending' ORDER BY event_id
"""
ROUNDS = 12


async def standing(made: Rows) -> tuple[list[int], list[int]]:
    """The told at the head, and those that wait in line."""
    rows = await made.db.read(all_rows, PENDING)
    head = [row["event_id"] for row in rows if row["head"]]
    assert [row["event_id"] for row in rows if row["node"] or row["due_at"]] == head
    return head, [row["event_id"] for row in rows if not row["head"]]


async def _ends(tx: Tx, owed: Owed, node: int, state: DeliveryState = DeliveryState.DELIVERED) -> Owed | None:
    """As an attempt's outcome is written down."""
    await endpoints.locked(tx, owed.endpoint)
    settled = await deliveries.settle(tx, owed.delivery, node, state, owed.attempts + 1, NOW)
    return await lines.promote(tx, owed.endpoint, node) if settled is not None and settled.led else None


async def _turns(tx: Tx, endpoint: Endpoint, ordered: bool) -> None:
    """As a PATCH does it."""
    current = await _current(tx, endpoint)
    await endpoints.change(tx, current.row, EndpointPatch(ordered=ordered).changed(current.terms, None), NOW)
    if current.terms.ordered != ordered:
        await (lines.form if ordered else lines.scatter)(tx, current.row, NOW)


async def test_only_the_first_is_in_hand_and_each_is_followed_by_the_next(made: Rows) -> None:
    await made.endpoint(ordered=True)
    written = [await made.event() for _ in range(4)]
    told = [event.row for event, _ in written]
    assert [len(owed) for _, owed in written] == [1, 0, 0, 0]
    (owed,) = written[0][1]
    for number, state in enumerate((DeliveryState.DELIVERED, DeliveryState.EXHAUSTED, DeliveryState.ABORTED)):
        assert await standing(made) == (told[number : number + 1], told[number + 1 :])
        following = await made.db.write(_ends, owed, made.node, state)
        assert following is not None
        assert following.event == told[number + 1]
        owed = following
    assert await made.db.write(_ends, owed, made.node) is None
    event, (owed,) = await made.event()
    assert await standing(made) == ([event.row], [])


async def test_what_is_sent_once_more_stands_behind_what_is_live(made: Rows) -> None:
    await made.endpoint(ordered=True)
    _, (owed,) = await made.event()
    again, _ = await made.event()
    live, _ = await made.event()
    await made.db.write(run, "UPDATE deliveries SET replay = 1 WHERE event_id = :event", {"event": again.row})
    order = []
    while (following := await made.db.write(_ends, owed, made.node)) is not None:
        order.append((following.event, following.replay))
        owed = following
    assert order == [(live.row, False), (again.row, True)]


async def test_a_head_that_waits_for_its_retry_is_still_the_head(made: Rows) -> None:
    await made.endpoint(ordered=True)
    event, (owed,) = await made.event()
    waiting, _ = await made.event()
    assert await made.db.write(deliveries.retry, owed.delivery, made.node, 1, NOW + MINUTE)
    assert await standing(made) == ([event.row], [waiting.row])
    assert await made.db.write(deliveries.claim, made.node, NOW, 10) == []
    (claimed,) = await made.db.write(deliveries.claim, made.node, NOW + MINUTE, 10)
    assert (claimed.event, claimed.attempts) == (event.row, 1)


async def test_there_is_no_second_head(made: Rows) -> None:
    await made.endpoint(ordered=True)
    for _ in range(2):
        await made.event()
    with pytest.raises(BROKEN_RULE):
        await made.db.write(run, "UPDATE deliveries SET head = 1", {})


async def test_of_a_dead_nodes_line_only_the_head_is_due(made: Rows) -> None:
    await made.endpoint(ordered=True)
    told = [(await made.event())[0].row for _ in range(3)]
    other = await made.db.write(nodes.add, NOW)
    assert await made.db.write(nodes.take_over, other, NOW, NOW + 1) == 1
    assert [entry.event for entry in await made.db.write(deliveries.claim, other, NOW, 10)] == told[:1]
    assert await standing(made) == (told[:1], told[1:])


@pytest.mark.parametrize("turn_back", [_resume, serve_again])
async def test_what_was_held_stands_in_line_again(made: Rows, turn_back: object) -> None:
    endpoint = await made.endpoint(ordered=True)
    told = [(await made.event())[0].row for _ in range(3)]
    await made.db.write(_pause, endpoint, NOW)
    told.append((await made.event())[0].row)
    assert await standing(made) == ([], [])
    await made.db.write(turn_back, endpoint, NOW)  # type: ignore[arg-type]  # one of two units
    assert await standing(made) == (told[:1], told[1:])


async def test_an_endpoint_that_becomes_ordered_keeps_its_first_in_hand_and_takes_the_others(made: Rows) -> None:
    endpoint = await made.endpoint()
    written = [await made.event() for _ in range(4)]
    told = [event.row for event, _ in written]
    (second,) = written[1][1]
    assert await made.db.write(deliveries.retry, second.delivery, made.node, 1, NOW + MINUTE)
    await made.db.write(_turns, endpoint, True)
    assert await standing(made) == (told[:1], told[1:])
    in_hand = [owed.delivery for _, (owed,) in written]
    assert await made.db.read(deliveries.in_hand, in_hand, made.node) == {in_hand[0]}
    # One of the others was under way, and has arrived.
    (settled,) = await made.db.write(deliveries.delivered, [in_hand[2]], made.node, 1, NOW)
    assert not settled.led
    assert await standing(made) == (told[:1], [told[1], told[3]])


async def test_an_endpoint_that_is_no_longer_ordered_has_all_of_it_due(made: Rows) -> None:
    endpoint = await made.endpoint(ordered=True)
    written = [await made.event() for _ in range(3)]
    await made.db.write(_turns, endpoint, False)
    rows = await made.db.read(all_rows, PENDING)
    assert [(row["node"], row["due_at"], row["head"]) for row in rows] == [
        (made.node, None, None),
        (None, NOW, None),
        (None, NOW, None),
    ]
    ((owed,), _, _) = (owed for _, owed in written)
    assert await made.db.write(_ends, owed, made.node) is None


async def test_whoever_adds_to_a_line_and_whoever_ends_its_head_do_not_miss_each_other(made: Rows) -> None:
    await made.endpoint(ordered=True)
    for _ in range(ROUNDS):
        _, (owed,) = await made.event()
        hands = [owed]

        async def ends(hands: list[Owed] = hands) -> None:
            following = await made.db.write(_ends, hands.pop(), made.node)
            if following is not None:
                hands.append(following)

        written = await asyncio.gather(ends(), *(made.event() for _ in range(4)))
        for entry in written[1:]:
            hands += entry[1]  # type: ignore[index]  # the first gives nothing
        assert len(hands) == 1, "one leads: none would wait for ever"
        while hands:
            await ends()
        assert await standing(made) == ([], [])


async def test_an_event_that_is_being_written_while_the_head_ends_is_led_in_the_end(made: Rows) -> None:
    await made.endpoint(ordered=True)
    _, (owed,) = await made.event()
    written, go_on = asyncio.Event(), asyncio.Event()

    async def writes(tx: Tx) -> None:
        event = await events.add(tx, made.project, EventType.JOB_FAILED, {}, NOW)
        assert await deliveries.fan_out(tx, event, made.node) == []
        written.set()
        if made.db.dialect == "postgres":
            await go_on.wait()

    writing = asyncio.create_task(made.db.write(writes))
    async with asyncio.timeout(10):
        await written.wait()
        ending = asyncio.create_task(made.db.write(_ends, owed, made.node))
        if made.db.dialect == "postgres":
            while not ending.done() and not (await made.db.read(all_rows, WAITING))[0]["count"]:
                pass
        go_on.set()
        await writing
        assert await ending is not None


WAITING = """
    SELECT COUNT(*) AS count FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_a_line_stays_one_while_everything_changes_at_once(made: Rows) -> None:
    endpoint = await made.endpoint()
    for number in range(ROUNDS):
        held = number % 3 == 2
        await asyncio.gather(
            *(made.event() for _ in range(3)),
            made.db.write(_turns, endpoint, True),
            made.db.write(_pause, endpoint, NOW),
            made.db.write(deliveries.claim, made.node, NOW, 10),
            *(made.event() for _ in range(2)),
            made.db.write(_turns, endpoint, number % 2 == 0),
            made.db.write(_resume, endpoint, NOW),
        )
        await made.db.write(_pause if held else _resume, endpoint, NOW)
        await made.db.write(_resume, endpoint, NOW)
        await made.db.write(_turns, endpoint, True)
        head, waiting = await standing(made)
        assert (len(head), len(waiting)) == (1, 5 * (number + 1) - 1)
        assert head[0] < min(waiting)


async def test_a_line_that_has_lost_its_head_is_mended(made: Rows) -> None:
    endpoint, other = await made.endpoint(ordered=True), await made.endpoint(ordered=True)
    assert await made.db.read(lines.next_line, 0) is None
    for _ in range(2):
        await made.event()
    assert await made.db.read(lines.next_line, 0) == endpoint.row
    assert await made.db.read(lines.next_line, endpoint.row) == other.row
    assert await made.db.read(lines.next_line, other.row) is None
    assert not await made.db.write(lines.mend, endpoint.row, NOW), "nothing is amiss"
    lost = "UPDATE deliveries SET head = NULL, node = NULL WHERE endpoint_id = :endpoint"
    await made.db.write(run, lost, {"endpoint": endpoint.row})
    assert await made.db.write(lines.mend, endpoint.row, NOW)
    assert len(await made.db.write(deliveries.claim, made.node, NOW, 10)) == 1
    assert not await made.db.write(lines.mend, endpoint.row, NOW)


async def test_what_waits_in_line_of_an_endpoint_that_is_not_ordered_is_mended_too(made: Rows) -> None:
    endpoint = await made.endpoint(ordered=True)
    for _ in range(3):
        await made.event()
    terms = replace(endpoint.terms, ordered=False)
    await made.db.write(endpoints.change, endpoint.row, terms, NOW)
    assert await made.db.write(lines.mend, endpoint.row, NOW)
    assert len(await made.db.write(deliveries.claim, made.node, NOW, 10)) == 2
