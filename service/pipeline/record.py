"""Tenth step: what attempts came to is written down.

While one unit is being committed, the outcomes that come in gather, and together they are the next: a busy node pays
for a transaction once for many attempts, an idle one waits for nobody.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.delivery import Attempt, DeliveryState, Outcome, Owed
from schemas.endpoint import Endpoint, EndpointState
from schemas.event import EventType
from service.pipeline import retry, shown
from service.pipeline.breaker import AUTO_DISABLE_MS, Mark, Rest
from service.pipeline.core import Announced, Core
from service.store import deliveries, endpoints, events, lines, projects
from service.store.database import Tx
from service.store.deliveries import Settled

# Outcomes in one unit: it keeps others from the database for a few milliseconds at most.
MOST_AT_ONCE = 128
# What disables the endpoint, with the reason: its receiver wants no more, or does not take our credentials.
ENDING = {Outcome.GONE: "gone", Outcome.LAST: "gone", Outcome.REFUSED: "credentials_refused"}
# Marks of which an event may tell.
_TOLD = frozenset({Mark.WELL, Mark.HOPELESS})

GONE = 410


@dataclass(frozen=True, slots=True)
class Tried:
    """A delivery after an attempt, and what is to become of it.

    `written_at`: when its event was. `ordered`: its endpoint is sent one at a time, as far as this node knows. `mark`:
    what it says of the receiver; `rest`: what the receiver asked for.
    """

    owed: Owed
    attempt: Attempt
    verdict: retry.Verdict
    event_type: str
    written_at: int
    ordered: bool = False
    mark: Mark | None = None
    rest: Rest | None = None

    @property
    def number(self) -> int:
        return self.owed.attempts + 1


@dataclass(frozen=True, slots=True)
class Written:
    """What a unit has for others after its commit; `promoted` are this node's own now."""

    announced: Sequence[Announced]
    promoted: Sequence[Owed]


class Recorder:
    """One for a node. `record` answers once an outcome is durable, and others have been told of it.

    `take` is handed what has become this node's own.
    """

    def __init__(self, core: Core, take: Callable[[Sequence[Owed]], None] = lambda _: None) -> None:
        self._core = core
        self._take = take
        self._waiting: list[tuple[Tried, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    def record(self, tried: Tried) -> asyncio.Future[None]:
        """Done after the commit; while the store is away it waits. Its exception is a fault of ours."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tried, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return done

    async def stop(self, grace: float) -> None:
        """What was handed in may still be written. What was not is the next start's, and sent a second time."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=grace)
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                await self._commit_or_fail(some)
        finally:
            self._writing = None

    async def _commit_or_fail(self, some: Sequence[tuple[Tried, asyncio.Future[None]]]) -> None:
        try:
            await self._commit(some)
        except Exception as fault:  # noqa: BLE001 - handed to whoever waits
            if len(some) == 1:
                ((_, done),) = some
                if not done.done():
                    done.set_exception(fault)
                return
            # One may have spoilt it for all.
            for one in some:
                await self._commit_or_fail([one])

    async def _commit(self, some: Sequence[tuple[Tried, asyncio.Future[None]]]) -> None:
        tried = [entry for entry, _ in some]
        written = await self._core.insist(write_down, self._core, tried, self._core.clock.now())
        for announced in written.announced:
            self._core.tell(announced)
        for entry in tried:
            self._count(entry)
        if any(entry.verdict.next_at is not None for entry in tried):
            self._core.wake_deliveries()
        self._take(written.promoted)
        for _, done in some:
            # Nobody waits any more for what was under way when the service was stopped.
            if not done.done():
                done.set_result(None)

    def _count(self, tried: Tried) -> None:
        owed, attempt, verdict, metrics = tried.owed, tried.attempt, tried.verdict, self._core.metrics
        metrics.answers.bump(attempt.outcome, attempt.answer)
        metrics.attempts.note(attempt.ms / 1000, attempt.outcome)
        if verdict.next_at is None:
            metrics.settled.bump(verdict.state)
            if owed.replay:
                self._core.replayed()
        if owed.attempts == 0 and not owed.replay:
            metrics.first_attempt.note(max(attempt.started_at - tried.written_at, 0) / 1000)


async def write_down(tx: Tx, core: Core, tried: Sequence[Tried], now: int) -> Written:
    """The attempts, what becomes of their deliveries, and what others are told of it: one unit."""
    await _take_locks(tx, tried)
    # What another node has taken over is left out: its own attempt is the one that counts.
    ours, settled = await _settled(tx, core, tried, now)
    if ours:
        await deliveries.add_attempts(tx, [(entry.owed.delivery, entry.number, entry.attempt) for entry in ours])
    announced = []
    for entry in ours:
        if entry.attempt.outcome in ENDING:
            announced += await _ended(tx, core, entry, now)
        if _is_exhausted(entry):
            announced.append(await _exhausted(tx, core, entry.owed, now))
    for entry in tried:
        if entry.mark is not None:
            announced += await _mark(tx, core, entry.owed.endpoint, entry.mark, now)
        if entry.rest is not None:
            await endpoints.rest(tx, entry.owed.endpoint, entry.rest.until, entry.rest.said_at)
    return Written(announced, await _promoted(tx, core, {entry.endpoint for entry in settled if entry.led}))


async def _take_locks(tx: Tx, tried: Sequence[Tried]) -> None:
    """Projects first, then endpoints, then deliveries, each in their order: so does whoever changes an endpoint.

    Without the project's, an event that is being written just now could be owed to an endpoint that is being disabled.
    """
    telling = [
        entry for entry in tried if entry.attempt.outcome in ENDING or entry.mark in _TOLD or _is_exhausted(entry)
    ]
    for project in sorted({(await deliveries.by_row(tx, entry.owed.delivery)).project for entry in telling}):
        await projects.lock(tx, project)
    for endpoint in sorted({entry.owed.endpoint for entry in tried if _changes_endpoint(entry)}):
        await endpoints.locked(tx, endpoint)
    if len(tried) > 1:  # one alone is locked by its own change
        await deliveries.lock(tx, sorted({entry.owed.delivery for entry in tried}))


def _changes_endpoint(entry: Tried) -> bool:
    leads_on = entry.ordered and entry.verdict.next_at is None
    return leads_on or entry.mark is not None or entry.rest is not None


def _is_exhausted(entry: Tried) -> bool:
    # Of its own exhaustion an event about exhaustion says nothing: that would never end.
    return entry.verdict.state is DeliveryState.EXHAUSTED and entry.event_type != EventType.DELIVERY_EXHAUSTED


async def _settled(tx: Tx, core: Core, tried: Sequence[Tried], now: int) -> tuple[Sequence[Tried], Sequence[Settled]]:
    """Those whose deliveries were still this node's. A delivery that was held meanwhile may be here twice."""
    done: defaultdict[int, list[Tried]] = defaultdict(list)
    ours, settled = [], []
    for entry in tried:
        owed, verdict = entry.owed, entry.verdict
        if verdict.state is DeliveryState.DELIVERED:
            done[entry.number].append(entry)
        elif verdict.next_at is not None:
            if await deliveries.retry(tx, owed.delivery, core.node, entry.number, verdict.next_at):
                ours.append(entry)
        elif ended := await deliveries.settle(tx, owed.delivery, core.node, verdict.state, entry.number, now):
            ours.append(entry)
            settled.append(ended)
    for number, entries in done.items():
        delivered = await deliveries.delivered(tx, [entry.owed.delivery for entry in entries], core.node, number, now)
        settled += delivered
        rows = {entry.delivery for entry in delivered}
        for entry in entries:
            if entry.owed.delivery in rows:
                rows.remove(entry.owed.delivery)
                ours.append(entry)
    return ours, settled


async def _promoted(tx: Tx, core: Core, led: set[int]) -> list[Owed]:
    """The head of a line has ended: who stood behind it is this node's now."""
    promoted = []
    for endpoint in sorted(led):
        # Locked already, unless it wants them in order only since this node looked.
        await endpoints.locked(tx, endpoint)
        following = await lines.promote(tx, endpoint, core.node)
        if following is not None:
            promoted.append(following)
    return promoted


async def _mark(tx: Tx, core: Core, row: int, mark: Mark, now: int) -> list[Announced]:
    """What its attempts say of a receiver."""
    endpoint = await endpoints.locked(tx, row)
    if endpoint is None:
        return []
    if mark is Mark.FAILING:
        await endpoints.failing(tx, row, now)
    elif mark is Mark.BROKEN:
        await endpoints.broken(tx, row, now)
    elif mark is Mark.WELL:
        return await _well(tx, core, endpoint, now)
    elif await _is_hopeless(tx, endpoint, now):
        return await _disable(tx, core, row, "failing", now)
    return []


async def _well(tx: Tx, core: Core, endpoint: Endpoint, now: int) -> list[Announced]:
    if endpoint.failing_since is None:
        return []
    well = await endpoints.well(tx, endpoint.row)
    if endpoint.broken_at is None:
        return []
    event = await events.add(tx, well.project, EventType.ENDPOINT_RECOVERED, shown.endpoint(well), now)
    return [Announced(event, await deliveries.fan_out(tx, event, core.node, about=well.row))]


async def _is_hopeless(tx: Tx, endpoint: Endpoint, now: int) -> bool:
    """By what all nodes have written, not by what this one remembers."""
    since = endpoint.failing_since
    if endpoint.state is not EndpointState.ENABLED or since is None or now - since < AUTO_DISABLE_MS:
        return False
    if await endpoints.delivered_since(tx, endpoint.row, since):
        await endpoints.well(tx, endpoint.row)
        return False
    return True


async def _ended(tx: Tx, core: Core, tried: Tried, now: int) -> list[Announced]:
    """A tool that has forgotten its hook answers 410, and will never ask for it back: then the hook goes too."""
    endpoint = await endpoints.by_row(tx, tried.owed.endpoint)
    announced = await _disable(tx, core, tried.owed.endpoint, ENDING[tried.attempt.outcome], now)
    if endpoint is not None and endpoint.hook is not None and tried.attempt.status == GONE:
        await endpoints.delete(tx, endpoint.row, now)
        await deliveries.discard(tx, endpoint.row, now)
    return announced


async def _disable(tx: Tx, core: Core, endpoint: int, reason: str, now: int) -> list[Announced]:
    """The endpoint takes nothing more until it is enabled again; what it is owed is held."""
    disabled = await endpoints.disable(tx, endpoint, reason, now)
    if disabled is None:
        return []
    await deliveries.hold(tx, endpoint, now)
    data = shown.endpoint(disabled)
    event = await events.add(tx, disabled.project, EventType.ENDPOINT_DISABLED, data, now)
    return [Announced(event, await deliveries.fan_out(tx, event, core.node, about=disabled.row))]


async def _exhausted(tx: Tx, core: Core, owed: Owed, now: int) -> Announced:
    delivery = await deliveries.by_row(tx, owed.delivery)
    data = shown.delivery(delivery)
    event = await events.add(tx, delivery.project, EventType.DELIVERY_EXHAUSTED, data, now)
    return Announced(event, await deliveries.fan_out(tx, event, core.node, about=owed.endpoint))
