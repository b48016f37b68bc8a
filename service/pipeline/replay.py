"""Once more: one delivery that somebody wants again, or all that a range of the log holds for an endpoint.

A replay goes through its range event by event. Each step owes a few of them and notes how far it has come, in one unit:
whoever goes on after a crash neither leaves out nor repeats one. A step waits until most of what the steps before it
owed is settled, so that the longest replay is a short queue, in memory and in the store; and that queue stands behind
everything that happens meanwhile.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from schemas import filters
from schemas.delivery import Delivery, DeliveryState
from schemas.endpoint import Endpoint, EndpointState, wants
from schemas.problem import Problem, not_found
from schemas.replay import Replay, ReplayState, Span, Which
from service.pipeline.core import Core
from service.store import deliveries, endpoints, lines, projects, replays
from service.store.database import Reader, StoreUnavailable, Tx
from service.store.replays import Logged

log = structlog.get_logger()

# Events that one step looks at.
PAGE = 100
# Deliveries to one endpoint that replays owe and that are not settled: above it no step is taken.
MOST_UNSETTLED = 200
# Most steps are woken by what is settled; what is discarded, expired or settled elsewhere is found after this time.
PAUSE_MS = 10_000

_FAILED = frozenset({DeliveryState.EXHAUSTED, DeliveryState.ABORTED, DeliveryState.EXPIRED})


# --- one delivery ----------------------------------------------------------------------------------------------------


async def redeliver(tx: Tx, project: int, public_id: str, now: int) -> Delivery:
    """Due now, whatever had come of it; held where its endpoint takes nothing. Raises Problem 404, 409."""
    await projects.lock(tx, project)
    delivery = await deliveries.get(tx, project, public_id)
    if delivery is None:
        raise not_found("delivery")
    endpoint = await endpoints.locked(tx, delivery.endpoint_row)
    if endpoint is None:
        raise Problem(409, "endpoint_deleted", "The endpoint of this delivery was deleted: there is nobody to send to.")
    # An attempt that is under way is written down before or after this, never beside it.
    await deliveries.lock(tx, [delivery.row])
    if not await deliveries.reopen(tx, delivery.row, deliveries.again(endpoint, now)):
        await deliveries.hurry(tx, delivery.row, now)
    elif endpoint.in_line and endpoint.state is EndpointState.ENABLED:
        await lines.lead(tx, endpoint.row, now)
    await deliveries.choose(tx, delivery.row, now)
    return await deliveries.by_row(tx, delivery.row)


# --- what a replay owes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """The next events of a range: those to be owed, and the sequence up to which all were looked at."""

    owes: Sequence[Logged]
    upto: int
    is_last: bool


async def look(reader: Reader, span: Span, endpoint: Endpoint) -> Page:
    terms = endpoint.terms
    whole = span.which is Which.ALL and bool(terms.channels or terms.filter)
    page = await replays.page(reader, span, endpoint.row, PAGE, whole=whole)
    owes = [
        entry for entry in page if _is_open_to(span.which, endpoint, entry) and _CHOSEN[span.which](endpoint, entry)
    ]
    return Page(owes, page[-1].sequence if page else span.last, len(page) < PAGE)


def _is_open_to(which: Which, endpoint: Endpoint, entry: Logged) -> bool:
    """Whether something is to be done about it: what is on its way comes anyway, and so does what is held, in time."""
    if entry.state is None:
        return which is Which.ALL
    if entry.state is DeliveryState.HELD:
        return endpoint.state is EndpointState.ENABLED
    return entry.state in _FAILED or (entry.state is DeliveryState.DELIVERED and which is Which.ALL)


def _never_came(_: Endpoint, entry: Logged) -> bool:
    return entry.delivered_at is None


def _is_wanted(endpoint: Endpoint, entry: Logged) -> bool:
    """By the endpoint's terms of today, as if the event were news."""
    terms = endpoint.terms
    told = {} if entry.payload is None else json.loads(entry.payload)
    channels = tuple(told.get("data", {}).get("channels", ())) if entry.about_job else ()
    if not wants(terms, entry.type, channels) or _is_about(endpoint, entry, told):
        return False
    return not terms.filter or filters.matches(terms.filter, told)


def _is_about(endpoint: Endpoint, entry: Logged, told: Mapping[str, object]) -> bool:
    """No endpoint hears of itself, nor of its deliveries."""
    data = told.get("data")
    if entry.about_job or not isinstance(data, Mapping):
        return False
    return endpoint.id in (data.get("id"), data.get("endpoint"))


_CHOSEN: Mapping[Which, Callable[[Endpoint, Logged], bool]] = {
    Which.UNDELIVERED: _never_came,
    Which.ALL: _is_wanted,
}


async def span_of(reader: Reader, project: int, since: int, until: int, which: Which) -> Span:
    """What is written from now on goes the usual way: the range ends with what a reader sees today."""
    first, last = await replays.bounds(reader, project, since, until) or (1, 0)
    return Span(project, since, until, which, first - 1, last)


async def begin(tx: Tx, endpoint: int, span: Span, total: int, now: int) -> Replay:
    """Raises Problem 404, 409."""
    await projects.lock(tx, span.project)
    current = await endpoints.locked(tx, endpoint)
    if current is None:
        raise not_found("endpoint")
    other = await replays.running_for(tx, endpoint)
    if other is not None:
        raise Problem(
            409, "replay_running", f"The replay {other} of this endpoint is running: let it end, or cancel it."
        )
    made = await replays.get(tx, span.project, await replays.add(tx, endpoint, span, total, now))
    assert made is not None
    return made


async def cancel(tx: Tx, project: int, public_id: str, now: int) -> Replay:
    """Nothing more is owed; what is owed already is still sent. Raises Problem 404, 409."""
    found = await replays.get(tx, project, public_id)
    if found is None:
        raise not_found("replay")
    await replays.end(tx, found.row, ReplayState.CANCELED, now)
    ended = await replays.get(tx, project, public_id)
    assert ended is not None
    if ended.state is not ReplayState.CANCELED:
        raise Problem(409, "replay_ended", "This replay has finished: it owes nothing more that could be canceled.")
    return ended


async def step(tx: Tx, replay: Replay, now: int) -> bool:
    """Owe what the next page holds. False where the replay had ended."""
    await projects.lock(tx, replay.span.project)
    endpoint = await endpoints.locked(tx, replay.endpoint)
    after = await replays.lock(tx, replay.row)
    if after is None:
        return False
    if endpoint is None:
        await replays.end(tx, replay.row, ReplayState.CANCELED, now)
        return False
    page = await look(tx, replace(replay.span, after=after), endpoint)
    owed, how = 0, deliveries.again(endpoint, now, replay.row)
    for entry in page.owes:
        if entry.delivery is None:
            owed += await deliveries.owe(tx, entry.event, endpoint.row, how)
        else:
            owed += await deliveries.reopen(tx, entry.delivery, how)
    if owed and endpoint.in_line and endpoint.state is EndpointState.ENABLED:
        await lines.lead(tx, endpoint.row, now)
    await replays.move(tx, replay.row, page.upto, owed)
    if page.is_last:
        await replays.end(tx, replay.row, ReplayState.FINISHED, now)
    return True


# --- the worker ------------------------------------------------------------------------------------------------------


class Replays:
    """Takes each running replay further."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="replays")

    def wake(self) -> None:
        """One was made, or something that one owes is settled."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def stop(self, grace: float) -> None:  # noqa: ARG002 - a step that was handed in is finished by the store
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def count(self, endpoint: Endpoint, span: Span) -> int:
        """How many events a replay of this range would owe. Page by page: others are served meanwhile."""
        count = 0
        while True:
            page = await self._core.db.read(look, span, endpoint)
            count += len(page.owes)
            if page.is_last:
                return count
            span = replace(span, after=page.upto)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                until = await self._turn()
            except StoreUnavailable as error:
                log.warning("replay.store_unavailable", error=str(error))
                until = self._core.clock.now() + PAUSE_MS
            except Exception:
                log.exception("replay.fault")
                until = self._core.clock.now() + PAUSE_MS
            await self._core.clock.wait(self._wake, until)

    async def _turn(self) -> int | None:
        """One step of each that may take one; when to look again (None: only when woken)."""
        running = await self._core.db.read(replays.running)
        moved = False
        for replay in running:
            try:
                moved |= await self._step(replay)
            except StoreUnavailable:
                raise
            except Exception:
                # A fault of ours in one must not keep the others from going on.
                log.exception("replay.step_fault", replay=replay.id)
        if not running:
            return None
        return self._core.clock.now() + (0 if moved else PAUSE_MS)

    async def _step(self, replay: Replay) -> bool:
        core = self._core
        if await core.db.read(replays.unsettled, replay.endpoint, MOST_UNSETTLED) > MOST_UNSETTLED - PAGE:
            return False
        moved = await core.db.write(step, replay, core.clock.now())
        core.wake_deliveries()
        return moved
