"""Eighth step: a delivery becomes an attempt.

A delivery is inserted already belonging to this node and handed over here after the commit; the database is scanned
only at start, for what dead nodes held, and for retries. Each endpoint has its own lane, so that one bad receiver
holds up nobody else: a lane sends at most `max_in_flight` at once, no faster than its rate, one at a time while its
receiver fails or if it wants them in order, and now and then one while its receiver is broken. A lane that must wait
sleeps as one task, however much waits in it.
"""

import asyncio
import logging
import resource
from collections.abc import Callable, Coroutine, Sequence

import structlog

from handlers.destinations.contract import Destinations, Message, NoSteps
from schemas.delivery import Attempt, DeliveryState, Owed
from schemas.endpoint import STREAM, Endpoint, EndpointState, Scheme, Target
from service import log as log_module
from service.pipeline import queued, retry
from service.pipeline.breaker import Breaker, Mark, rest_after
from service.pipeline.core import Announced, Core, endpoint_topic
from service.pipeline.lane import Lane, span_ms
from service.pipeline.messages import Messages
from service.pipeline.record import ENDING, Recorder, Tried
from service.pipeline.room import Room
from service.pipeline.shops import ClaimLost, StepsOf
from service.pipeline.target import target_of
from service.store import deliveries, endpoints
from service.store.database import StoreUnavailable, Tx

log = structlog.get_logger()

# Attempts under way at once, over all lanes, and never more than two fifths of the files that may be open.
MOST_UNDER_WAY = 1024
PAUSE_AFTER_FAULT_SECONDS = 1.0


class Deliver:
    """`jitter()` gives a random number from -1 to 1."""

    def __init__(
        self,
        core: Core,
        destinations: Destinations,
        schedule: tuple[int, ...],
        jitter: Callable[[], float],
        most_under_way: int = MOST_UNDER_WAY,
    ) -> None:
        self._core = core
        self._destinations = destinations
        self._schedule = schedule
        self._jitter = jitter
        self._lanes: dict[int, Lane] = {}
        self._messages = Messages(core.db)
        self._recorder = Recorder(core, self.take)
        self._began = core.clock.now()
        self._tasks: set[asyncio.Task[None]] = set()
        self.room = Room(min(most_under_way, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 2 // 5), self._pump)
        self._steps = StepsOf(core)
        self._stopping = False

    # --- what comes in -------------------------------------------------------------------------------------------

    def hand_over(self, announced: Announced) -> None:
        """Fresh from a commit: this node's own."""
        self._messages.add(announced.event)
        self.take(announced.owed)

    def take(self, owed: Sequence[Owed]) -> None:
        for delivery in owed:
            lane = self._lanes.get(delivery.endpoint)
            if lane is None:
                lane = self._lanes[delivery.endpoint] = Lane(delivery.endpoint)
            lane.put(delivery)
            self._pump(lane)

    async def claim(self, room: int) -> Sequence[Owed]:
        """What is due in the store: retries, and what dead nodes left."""
        return await self._core.db.write(deliveries.claim, self._core.node, self._core.clock.now(), room)

    async def send_on(self, owed: Owed) -> None:
        self.take([owed])

    async def give_back(self, owed: Owed, fault: Exception) -> None:  # noqa: ARG002 - whatever it was, it was not the receiver
        await self._core.db.write(deliveries.let_go, owed.delivery, self._core.node, self._core.clock.now())

    async def next_due(self) -> int | None:
        return await self._core.db.read(deliveries.next_due)

    def endpoint_changed(self, endpoint: int, *, anew: bool = False) -> None:
        """Its row was patched, disabled or deleted: what the lane knows is stale. `anew`: of its receiver, too, for it
        is another one, or somebody vouches for it.
        """
        self._core.bells.ring(endpoint_topic(endpoint))
        lane = self._lanes.get(endpoint)
        if lane is not None:
            if anew:
                lane.breaker = Breaker()
            remembers = lane.remembers
            lane.unload()
            self._wake(lane)
            if remembers and lane.filling is None and not self._stopping:
                # What it remembers is worth keeping, unless it was deleted.
                lane.filling = self._spawn(self._load(lane))
            self._drop_if_idle(lane)

    def signing_key_changed(self, project: int) -> None:
        """Each lane that signs with its keys is stale; one that is being loaded may have read those from before.

        A stream asks what signs each time that it hands something out.
        """
        for lane in list(self._lanes.values()):
            known = lane.endpoint
            if known is None or (known.project == project and Scheme.V1A in known.terms.signatures):
                self.endpoint_changed(lane.row)

    def probe_now(self, endpoint: int) -> None:
        """Somebody wants it to be tried: if its receiver is broken, it is asked at once, and not at its next turn."""
        lane = self._lanes.get(endpoint)
        if lane is not None:
            lane.breaker.probe_at = 0
            self._wake(lane)

    @property
    def pending(self) -> int:
        return sum(lane.count for lane in self._lanes.values())

    async def stop(self, grace: float) -> None:
        """Send nothing new; let attempts under way finish. What waits stays ours on paper, and the next start's."""
        self._stopping = True
        for lane in self._lanes.values():
            if lane.filling is not None:
                # Only an attempt is worth waiting for; a lane may rest for hours.
                lane.filling.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._recorder.stop(grace)

    # --- lanes ---------------------------------------------------------------------------------------------------

    def _pump(self, lane: Lane) -> None:
        """Start as many senders as the lane may have under way."""
        while (chosen := self._next(lane)) is not None:
            self._spawn(self._send_all(lane, *chosen))

    def _next(self, lane: Lane) -> tuple[Owed, Target] | None:
        """Take what the lane may send now, with its place. The target is as it is now: it may be changed any time."""
        if self._stopping or not lane.has_more or lane.filling is not None:
            return None
        if lane.endpoint is None:
            lane.filling = self._spawn(self._load(lane))
            return None
        if lane.in_flight >= lane.most:
            return None
        if lane.restrained:
            now, monotonic = self._core.clock.now(), self._core.clock.monotonic()
            if (free_at := lane.free_at(now, monotonic, self._core.nodes)) > now:
                lane.filling, lane.resting = self._spawn(self._rest(lane, free_at)), True
                return None
        if not self.room.has(lane):
            self.room.wait(lane)
            return None
        self.room.enter(shop=lane.is_shop)
        assert lane.target is not None, "loaded together with the endpoint"
        return lane.take(), lane.target

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _rest(self, lane: Lane, until: int) -> None:
        """The receiver asked us to slow down, has had all that its rate allows, or is broken."""
        await self._core.clock.wait(asyncio.Event(), until)
        lane.filling, lane.resting = None, False
        self._pump(lane)

    def _wake(self, lane: Lane) -> None:
        """It may have no more reason to rest."""
        if lane.resting and lane.filling is not None:
            lane.filling.cancel()
            lane.filling, lane.resting = None, False
        self._pump(lane)

    async def _load(self, lane: Lane) -> None:
        """Read the endpoint; where it takes nothing now, let its deliveries go the way the store says."""
        db = self._core.db
        while True:
            target, changes = None, lane.changes
            # What is handed over from here on may be owed by how the endpoint is after a change.
            before, keep = (len(lane.waiting), len(lane.behind)), set[int]()
            try:
                endpoint = await db.read(endpoints.by_row, lane.row)
                if endpoint is None or endpoint.state is not EndpointState.ENABLED:
                    if not await db.write(_put_away, lane.row, self._core.clock.now()):
                        continue
                elif endpoint.kind == STREAM:
                    # What comes in meanwhile too, on either side.
                    while lane.has_more:
                        for queue in (lane.waiting, lane.behind):
                            await queued.put_back(self._core, lane.row, queue)
                    before = (0, 0)
                else:
                    target = await target_of(self._core, endpoint)
                    if endpoint.terms.ordered:
                        # What was put in line meanwhile is in nobody's hands.
                        rows = sorted(owed.delivery for owed in (*lane.waiting, *lane.behind))
                        keep = await db.read(deliveries.in_hand, rows, self._core.node)
                    await self._look_back(lane, endpoint)
                if changes == lane.changes:
                    break
                # Changed while we looked: what we saw may be the endpoint as it was before.
                continue
            except StoreUnavailable as error:
                log.warning("delivery.store_unavailable", error=str(error))
            except Exception:
                log.exception("delivery.endpoint_fault", endpoint_row=lane.row)
            await self._core.clock.sleep(PAUSE_AFTER_FAULT_SECONDS)
        lane.filling = None
        if endpoint is None:
            lane.pace.begun.clear()
        if endpoint is None or target is None:
            lane.drop(*before)
            lane.breaker = Breaker()
        else:
            if endpoint.terms.ordered:
                lane.drop(*before, keep)
            lane.loaded(endpoint, target)
        self._pump(lane)
        self._drop_if_idle(lane)

    async def _look_back(self, lane: Lane, endpoint: Endpoint) -> None:
        """What this node's predecessors have sent of late counts for the rate too."""
        limit, clock = endpoint.terms.rate_limit, self._core.clock
        if limit is None or lane.pace.begun or self._began + span_ms(limit) <= clock.now():
            return
        since = clock.now() - span_ms(limit)
        ages = [clock.now() - at for at in await self._core.db.read(deliveries.begun_since, lane.row, since)]
        lane.pace.begun.extend(clock.monotonic() - age for age in ages)

    def _drop_if_idle(self, lane: Lane) -> None:
        if not lane.has_more and not lane.in_flight and lane.filling is None and not lane.remembers:
            self._lanes.pop(lane.row, None)

    # --- one attempt ---------------------------------------------------------------------------------------------

    async def _send_all(self, lane: Lane, owed: Owed, target: Target) -> None:
        """One after the other while the lane has more and may: a task for each would cost as much as signing it."""
        while True:
            try:
                await self._deliver(lane, owed, target)
            finally:
                lane.in_flight -= 1
                self.room.leave(shop=target.shop is not None)
            following = self._next(lane)
            if following is None:
                break
            owed, target = following
        self._drop_if_idle(lane)

    async def _deliver(self, lane: Lane, owed: Owed, target: Target) -> None:
        try:
            message = self._messages.kept(owed.event, target) or await self._read(lane, owed.event, target)
            lane.pace.begin(self._core.clock)
            asked = lane.breaker
            attempt = await self._try(owed, message, target)
            await self._record(lane, owed, target.id, message, attempt, asked)
        except ClaimLost:
            log.info("delivery.taken_over", endpoint=target.id)
        except Exception as error:
            # The row is still ours and pending: the receiver may see it twice, with the same webhook-id.
            if isinstance(error, StoreUnavailable):
                log.warning("delivery.not_recorded", error=str(error))
            else:
                log.exception("delivery.fault", endpoint=target.id)
            await self._core.clock.sleep(PAUSE_AFTER_FAULT_SECONDS)
            # What the store knows of the receiver may be other than what we judged.
            lane.unload()
            lane.put(owed)

    async def _try(self, owed: Owed, message: Message, target: Target) -> Attempt:
        """Raises ClaimLost, StoreUnavailable."""
        destination = self._destinations[target.kind]
        if target.shop is None:
            return await destination.send(message, target, NoSteps())
        async with self._steps(owed.delivery) as steps:
            return await destination.send(message, target, steps)

    async def _read(self, lane: Lane, event: int, target: Target) -> Message:
        """What is no longer in memory, or not in this form."""
        try:
            return await self._messages.get(event, target)
        except BaseException:
            lane.pace.reserved -= 1
            raise

    async def _record(
        self, lane: Lane, owed: Owed, endpoint_id: str, message: Message, attempt: Attempt, asked: Breaker
    ) -> None:
        """`asked`: the breaker of the receiver that was asked."""
        now, jitter = self._core.clock.now(), self._jitter()
        schedule = self._schedule if lane.schedule is None else lane.schedule
        verdict = retry.verdict(schedule, attempt, owed.tries + 1, now, jitter)
        broken, cautious = lane.breaker.broken_at is not None, lane.breaker.cautious
        mark = rest = None
        # Of a receiver that is another one by now, or that somebody has vouched for since, nothing is to be remembered.
        if lane.breaker is asked:
            mark, rest = asked.judge(attempt, now, jitter), rest_after(attempt, now)
        ordered = lane.endpoint is not None and lane.endpoint.terms.ordered
        await self._recorder.record(Tried(owed, attempt, verdict, message.type, message.at, ordered, mark, rest))
        if mark is Mark.HOPELESS or attempt.outcome in ENDING:
            lane.unload()
        elif cautious and not lane.breaker.cautious:
            if broken and (lane.filling is None or lane.resting):
                lane.sort()
            self._wake(lane)
        if verdict.state is DeliveryState.DELIVERED:
            # Asked first: of a line that nobody sees, its making would be most of the cost.
            if log_module.shows(logging.DEBUG):
                log.debug("delivery.delivered", endpoint=endpoint_id, event_id=message.id, ms=attempt.ms)
            return
        log.info(
            "delivery.attempted",
            endpoint=endpoint_id,
            event_id=message.id,
            attempt=owed.attempts + 1,
            outcome=attempt.outcome,
            status=attempt.status,
            error=attempt.error,
            retry_at=verdict.next_at,
        )


async def _put_away(tx: Tx, endpoint: int, now: int) -> bool:
    """By what the endpoint is now: what was held after it has been enabled again would be held for ever.

    False where it takes deliveries after all.
    """
    current = await endpoints.locked(tx, endpoint)
    if current is None:
        await deliveries.discard(tx, endpoint, now)
    elif current.state is not EndpointState.ENABLED:
        await deliveries.hold(tx, endpoint, now)
    else:
        return False
    return True
