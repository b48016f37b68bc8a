"""Deliveries and their attempts: what is owed to whom, and every try of it."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas import filters, ids
from schemas.delivery import Attempt, Delivery, DeliveryState, Outcome, Owed, PastAttempt, Undelivered
from schemas.endpoint import STREAM, Endpoint, EndpointState, wants
from schemas.event import Event
from service.store import endpoints, lines, sql
from service.store.database import Reader, Row, Tx, Values

_SQL = sql.beside(__file__)

# The places for rows in the statement `delivered`; one that is not needed holds a row that there never is.
_AT_ONCE = 16
_PLACES = tuple(f"row_{number}" for number in range(_AT_ONCE))
# Attempts looked at to learn when an endpoint's last ones began.
_NEWEST = 5_000
_NO_ROWS = (-1,) * _AT_ONCE


@dataclass(frozen=True, slots=True)
class Filter:
    endpoint: str | None = None
    event: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is owed now. `next_due`: when the first of the waiting is due; `oldest_in_hand`: when that one was made.

    `queued` stand behind others of the same endpoint; `held_since`: since when the first of the `held` is.
    """

    waiting: int
    next_due: int | None
    in_hand: int
    oldest_in_hand: int | None
    queued: int
    held: int
    held_since: int | None


class Settled(NamedTuple):
    """Nothing more will be tried of it. `led`: it was the head of its endpoint's line."""

    delivery: int
    endpoint: int
    led: bool


def _settled(row: Row) -> Settled:
    return Settled(row["id"], row["endpoint_id"], row["head"] is not None)


# Why nothing more is tried, by the delivery's state; of what is held, by its endpoint's.
_UNDELIVERED = {
    DeliveryState.EXHAUSTED: Undelivered.EXHAUSTED,
    DeliveryState.ABORTED: Undelivered.ABORTED,
    DeliveryState.EXPIRED: Undelivered.EXPIRED,
    DeliveryState.DISCARDED: Undelivered.ENDPOINT_DELETED,
}
_HELD_FOR = {
    EndpointState.PAUSED: Undelivered.ENDPOINT_PAUSED,
    EndpointState.DISABLED: Undelivered.ENDPOINT_DISABLED,
}


def _delivery(row: Row) -> Delivery:
    state = DeliveryState(row["state"])
    delivered_at = row["delivered_at"]
    if delivered_at is None and state is DeliveryState.DELIVERED:
        delivered_at = row["finished_at"]
    held = state is DeliveryState.HELD
    why = _HELD_FOR.get(EndpointState(row["endpoint_state"])) if held else _UNDELIVERED.get(state)
    return Delivery(
        row=row["id"],
        id=row["public_id"],
        project=row["project_id"],
        event=row["event_public_id"],
        event_type=row["event_type"],
        endpoint=row["endpoint_public_id"],
        state=state,
        attempts=row["attempts"],
        retry_at=row["retry_at"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        endpoint_row=row["endpoint_id"],
        delivered_at=delivered_at,
        undelivered=why if delivered_at is None else None,
    )


async def fan_out(
    tx: Tx, event: Event, node: int, *, channels: tuple[str, ...] = (), about: int | None = None
) -> list[Owed]:
    """Owe an event to every endpoint that wants it; what this node has to send once the unit is committed.

    `about`: the endpoint that the event is about, which never hears of itself.
    """
    subscribers = [
        endpoint
        for endpoint in await endpoints.of_event(tx, event.project, event.job)
        if endpoint.row != about and wants(endpoint.terms, event.type, channels)
    ]
    if any(endpoint.terms.filter for endpoint in subscribers):
        told = json.loads(event.payload)
        subscribers = [endpoint for endpoint in subscribers if filters.matches(endpoint.terms.filter, told)]
    if not subscribers:
        return []
    # One at a time: behind another one it waits in line.
    behind = await lines.led(tx, [endpoint for endpoint in subscribers if endpoint.in_line])
    await tx.run_many(_SQL["add"], [_new(event, endpoint, node, behind) for endpoint in subscribers])
    rows = await tx.all(_SQL["added"], {"event": event.row, "node": node})
    return [Owed(row["id"], row["endpoint_id"], event.row, 0) for row in rows]


def _new(event: Event, endpoint: Endpoint, node: int, behind: Collection[int]) -> Values:
    """For an endpoint that takes nothing now the delivery is held; one that is come for waits in its queue."""
    held = endpoint.state is not EndpointState.ENABLED
    ours = not held and endpoint.kind != STREAM and endpoint.row not in behind
    return {
        "public_id": ids.new_id("dlv", event.created_at),
        "project": event.project,
        "event": event.row,
        "endpoint": endpoint.row,
        "state": DeliveryState.HELD if held else DeliveryState.PENDING,
        "node": node if ours else None,
        "head": 1 if ours and endpoint.in_line else None,
        "now": event.created_at,
        "held_at": event.created_at if held else None,
    }


async def claim(tx: Tx, node: int, now: int, limit: int) -> list[Owed]:
    """Oldest events first."""
    rows = await tx.all(_SQL["claim"], {"node": node, "now": now, "limit": limit})
    return sorted(map(lines.owed, rows), key=lambda owed: owed.event)


async def claim_queued(tx: Tx, endpoint: int, node: int, limit: int) -> list[tuple[Owed, str]]:
    """Take what is queued for an endpoint, live before replayed and the oldest first; each with its public id."""
    rows = await tx.all(_SQL["claim_queued"], {"endpoint": endpoint, "node": node, "limit": limit})
    taken = [(lines.owed(row), str(row["public_id"])) for row in rows]
    return sorted(taken, key=lambda entry: (entry[0].replay, entry[0].event))


async def requeue(tx: Tx, rows: Sequence[int], node: int) -> None:
    """Put what this node holds back into its endpoints' queues. `rows` in ascending order."""
    for row in rows:
        await tx.run(_SQL["requeue"], {"delivery": row, "node": node})


async def unsettled(reader: Reader, endpoint: int) -> bool:
    """Whether anything of an endpoint's queue is under way, or waits for its next attempt."""
    return await reader.one(_SQL["unsettled"], {"endpoint": endpoint}) is not None


async def next_due(reader: Reader) -> int | None:
    row = await reader.one(_SQL["next_due"], {})
    return None if row is None else row["due_at"]


async def lock(tx: Tx, rows: Sequence[int]) -> None:
    """Nobody else changes these before the unit's end. `rows` in ascending order, as all take them."""
    for places in _places(rows):
        await tx.all(_SQL["lock"], places)


async def in_hand(reader: Reader, rows: Sequence[int], node: int) -> set[int]:
    """Which of these are pending and this node's."""
    found = [row for places in _places(rows) for row in await reader.all(_SQL["in_hand"], {"node": node, **places})]
    return {row["id"] for row in found}


async def delivered(tx: Tx, rows: Sequence[int], node: int, attempts: int, now: int) -> list[Settled]:
    """Settle many that were delivered at their attempt of this number: those that were this node's, or nobody's."""
    settled: list[Settled] = []
    for places in _places(rows):
        values = {"node": node, "attempts": attempts, "now": now, **places}
        settled += map(_settled, await tx.all(_SQL["delivered"], values))
    return settled


def _places(rows: Sequence[int]) -> Iterator[dict[str, int]]:
    """Rows for the places of a statement that takes so many at once."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        yield dict(zip(_PLACES, (*some, *_NO_ROWS[len(some) :]), strict=True))


async def settle(tx: Tx, delivery: int, node: int, state: DeliveryState, attempts: int, now: int) -> Settled | None:
    """Nothing more will be tried, or (`held`) not now. None where the row is no longer this node's, or another attempt
    has this number.
    """
    values = {"delivery": delivery, "node": node, "state": state, "attempts": attempts, "now": now}
    row = await tx.one(_SQL["settle"], values)
    return None if row is None else _settled(row)


async def retry(tx: Tx, delivery: int, node: int, attempts: int, at: int) -> bool:
    """False as for `settle`."""
    values = {"delivery": delivery, "node": node, "attempts": attempts, "retry_at": at}
    return await tx.run(_SQL["retry"], values) == 1


async def hold(tx: Tx, endpoint: int, now: int) -> int:
    """Keep what is owed to an endpoint that takes nothing now."""
    return await tx.run(_SQL["hold"], {"endpoint": endpoint, "now": now})


async def unhold(tx: Tx, endpoint: Endpoint, now: int) -> int:
    """Owe again what was held; the scan finds it, or in a line its first."""
    count = await tx.run(_SQL["unhold"], {"endpoint": endpoint.row, "due_at": None if endpoint.in_line else now})
    if endpoint.in_line:
        await lines.lead(tx, endpoint.row, now)
    return count


async def discard(tx: Tx, endpoint: int, now: int) -> int:
    """The endpoint is gone: say so in the ledger of each delivery."""
    return await tx.run(_SQL["discard"], {"endpoint": endpoint, "now": now})


@dataclass(frozen=True, slots=True)
class Again:
    """How something is owed once more: at once, held for an endpoint that takes nothing now, or after what waits in a
    queue already (`due_at` None). `replay`: the row of the replay that wants it.
    """

    state: DeliveryState
    now: int
    due_at: int | None
    replay: int | None = None

    @property
    def values(self) -> Values:
        held_at = self.now if self.state is DeliveryState.HELD else None
        return {"state": self.state, "now": self.now, "due_at": self.due_at, "held_at": held_at, "replay": self.replay}


def again(endpoint: Endpoint, now: int, replay: int | None = None) -> Again:
    """As the endpoint, which is locked, is now. For one that is sent one at a time it joins the line: see `lead`."""
    if endpoint.state is not EndpointState.ENABLED:
        return Again(DeliveryState.HELD, now, None, replay)
    return Again(DeliveryState.PENDING, now, None if endpoint.in_line else now, replay)


async def reopen(tx: Tx, delivery: int, how: Again) -> bool:
    """Owe it once more, under the same webhook-id. False where it is on its way, or still held."""
    return await tx.run(_SQL["reopen"], {"delivery": delivery, **how.values}) == 1


async def choose(tx: Tx, delivery: int, now: int) -> None:
    """Somebody wants this very one: in a shop it may take the place of what is later. A replay takes that back."""
    await tx.run(_SQL["choose"], {"delivery": delivery, "now": now})


async def hurry(tx: Tx, delivery: int, now: int) -> bool:
    """What waits for its next attempt is due now."""
    return await tx.run(_SQL["hurry"], {"delivery": delivery, "now": now}) == 1


async def owe(tx: Tx, event: int, endpoint: int, how: Again) -> bool:
    """Owe an event that is no news. False where the event is gone, or owed already."""
    values = {"public_id": ids.new_id("dlv", how.now), "event": event, "endpoint": endpoint, **how.values}
    return await tx.run(_SQL["owe"], values) == 1


async def expire(tx: Tx, before: int, now: int, limit: int) -> int:
    """End what has been held since `before` or earlier, the oldest first; how many there were."""
    return await tx.run(_SQL["expire"], {"before": before, "now": now, "limit": limit})


async def trim(tx: Tx, event: int, before: int, limit: int) -> int:
    """Delete deliveries of an event, with their attempts, if all of them ended at `before` or earlier; how many."""
    return await tx.run(_SQL["trim"], {"event": event, "before": before, "limit": limit})


async def let_go(tx: Tx, delivery: int, node: int, due_at: int) -> bool:
    """Give a delivery back untried, for whoever comes next from then on."""
    return await tx.run(_SQL["let_go"], {"delivery": delivery, "node": node, "due_at": due_at}) == 1


async def add_attempts(tx: Tx, made: Sequence[tuple[int, int, Attempt]]) -> None:
    """Each with its delivery and its number."""
    await tx.run_many(
        _SQL["add_attempt"],
        [
            {
                "public_id": ids.new_id("att", attempt.started_at),
                "delivery": delivery,
                "number": number,
                "started_at": attempt.started_at,
                "ms": attempt.ms,
                "outcome": attempt.outcome,
                "status": attempt.status,
                "error": attempt.error,
                "response_head": attempt.response_head,
            }
            for delivery, number, attempt in made
        ],
    )


async def begun_since(reader: Reader, endpoint: int, since: int) -> Sequence[int]:
    """When attempts for an endpoint began, after `since`, as far as they are among the newest of all."""
    rows = await reader.all(_SQL["begun_since"], {"endpoint": endpoint, "since": since, "look": _NEWEST})
    return [row["started_at"] for row in rows]


async def attempts(reader: Reader, delivery: int) -> Sequence[PastAttempt]:
    rows = await reader.all(_SQL["attempts"], {"delivery": delivery})
    return [PastAttempt(row["public_id"], row["number"], _attempt(row)) for row in rows]


def _attempt(row: Row) -> Attempt:
    return Attempt(
        outcome=Outcome(row["outcome"]),
        started_at=row["started_at"],
        ms=row["ms"],
        status=row["status"],
        error=row["error"],
        response_head=row["response_head"],
    )


async def get(reader: Reader, project: int, public_id: str) -> Delivery | None:
    row = await reader.one(_SQL["get"], {"project": project, "public_id": public_id})
    return None if row is None else _delivery(row)


async def by_row(reader: Reader, delivery: int) -> Delivery:
    row = await reader.one(_SQL["by_row"], {"delivery": delivery})
    assert row is not None, f"delivery row {delivery} is missing"
    return _delivery(row)


async def listed(reader: Reader, project: int, chosen: Filter, before: int, limit: int) -> Sequence[Delivery]:
    """Newest first."""
    values = {
        "project": project,
        "endpoint": chosen.endpoint,
        "event": chosen.event,
        "state": chosen.state,
        "before": before,
        "limit": limit,
    }
    if chosen.event is not None:
        statement = _SQL["list_of_event"]
    else:
        statement = _SQL["list"] if chosen.endpoint is None else _SQL["list_of_endpoint"]
    return [_delivery(row) for row in await reader.all(statement, values)]


async def of_event(reader: Reader, event: int) -> Sequence[Delivery]:
    return [_delivery(row) for row in await reader.all(_SQL["of_event"], {"event": event})]


async def ledger(reader: Reader, event: int) -> Sequence[tuple[Delivery, PastAttempt | None]]:
    """All that are owed an event, each with its last attempt."""
    found = []
    for row in await reader.all(_SQL["ledger"], {"event": event}):
        made = row["attempt_public_id"]
        found.append((_delivery(row), None if made is None else PastAttempt(made, row["number"], _attempt(row))))
    return found


async def backlog(reader: Reader) -> Backlog:
    """All projects' together: for the operator."""
    waiting = await reader.one(_SQL["backlog_waiting"], {})
    in_hand = await reader.one(_SQL["backlog_in_hand"], {})
    queued = await reader.one(_SQL["backlog_queued"], {})
    held = await reader.one(_SQL["backlog_held"], {})
    assert waiting is not None
    assert in_hand is not None
    assert queued is not None
    assert held is not None
    oldest = None if in_hand["oldest"] is None else await reader.one(_SQL["made_at"], {"delivery": in_hand["oldest"]})
    return Backlog(
        waiting=waiting["count"],
        next_due=waiting["next_due"],
        in_hand=in_hand["count"],
        oldest_in_hand=None if oldest is None else oldest["created_at"],
        queued=queued["count"],
        held=held["count"],
        held_since=held["since"],
    )
