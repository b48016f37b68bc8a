"""Endpoints of kind `stream`: a client comes for its deliveries, and says what each came to.

What is owed to such an endpoint waits in its queue. While its client is connected, the oldest are handed to it, at most
`max_in_flight` at once; the client's answer *is* the attempt, judged and written down like any other. What it has not
answered when it comes back is handed to it once more, as the same attempt; what it does not answer in time has failed.
An endpoint whose client stays away goes: see `presence`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from handlers.destinations import stream as words
from handlers.destinations.contract import Destination, Message, Steps
from schemas import ids
from schemas.delivery import Attempt, Outcome, Owed
from schemas.endpoint import STREAM, Endpoint, EndpointState, Target, Terms
from schemas.stream import Handed, StreamAnswer
from service.pipeline import retry
from service.pipeline.breaker import rest_after
from service.pipeline.core import Core, endpoint_topic, log_topic
from service.pipeline.messages import standard, written
from service.pipeline.record import Recorder, Tried
from service.pipeline.target import target_of
from service.store import deliveries, endpoints, events
from service.store.database import StoreUnavailable, Tx

log = structlog.get_logger()

# On PostgreSQL another node's commit rings no bell here; elsewhere this is for what no bell tells of.
LOOK_MS = {"postgres": 1_000, "sqlite": 15_000}
PAUSE_MS = 1_000


@dataclass(frozen=True, slots=True)
class Answered:
    """What an answer came to, once it is written down; `next_at` where it is tried again."""

    outcome: Outcome
    next_at: int | None


class Outlet:
    """One connection, as it is written to: what is handed out, and why it was closed.

    `wake` is set when there is something to write. `drop_if_stuck(now, patience)` cuts the connection off where its
    client has read nothing for so long; both in milliseconds.
    """

    def __init__(self, wake: asyncio.Event, drop_if_stuck: Callable[[int, int], None]) -> None:
        self.wake = wake
        self.drop_if_stuck = drop_if_stuck
        self.waiting: deque[Handed] = deque()
        self.closed: str | None = None

    def put(self, handed: Handed) -> None:
        self.waiting.append(handed)
        self.wake.set()

    def close(self, reason: str) -> None:
        self.closed = self.closed or reason
        self.wake.set()


@dataclass(eq=False)
class _Sent:
    """A delivery that was handed out and is not written down yet. `over`: no answer is waited for any more."""

    handed: Handed
    until: int
    said: StreamAnswer | None = None
    over: bool = False
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    came_to: "asyncio.Future[Answered | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(eq=False)
class _Stream:
    """One endpoint's; it outlives a connection by what is not written down yet."""

    row: int
    id: str
    project: int
    outlet: Outlet | None = None
    sent: dict[str, _Sent] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    begun: deque[int] = field(default_factory=deque)  # when attempts began that its rate still counts
    serving: asyncio.Task[None] | None = None


class Streams(Destination):
    """`jitter()` gives a random number from -1 to 1."""

    kind = STREAM
    deadline = words.DEADLINE

    def __init__(self, core: Core, schedule: tuple[int, ...], jitter: Callable[[], float]) -> None:
        self._core = core
        self._schedule = schedule
        self._jitter = jitter
        self._recorder = Recorder(core)
        self._streams: dict[str, _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    # --- connections ---------------------------------------------------------------------------------------------

    async def connect(self, endpoint: Endpoint, outlet: Outlet) -> bool:
        """Take an endpoint over; whoever had it is told so. False where it is gone."""
        core = self._core
        if not await core.db.write(endpoints.seen, [endpoint.row], core.clock.now()):
            return False
        stream = self._streams.get(endpoint.id)
        if stream is None:
            stream = self._streams[endpoint.id] = _Stream(endpoint.row, endpoint.id, endpoint.project)
        if stream.outlet is not None:
            stream.outlet.close("taken_over")
        stream.outlet = outlet
        for sent in stream.sent.values():
            if sent.said is None and not sent.over:
                # The same attempt: its client may have answered it, and nobody heard.
                sent.until = core.clock.now() + round(self.deadline * 1000)
                outlet.put(sent.handed)
        if stream.serving is None:
            stream.serving = asyncio.create_task(self._serve(stream))
        stream.wake.set()
        return True

    @property
    def connected(self) -> Mapping[int, Outlet]:
        """By the endpoint's row."""
        return {stream.row: stream.outlet for stream in self._streams.values() if stream.outlet is not None}

    async def disconnect(self, endpoint: Endpoint, outlet: Outlet) -> None:
        """The connection has ended: its endpoint's time of grace begins."""
        stream = self._streams.get(endpoint.id)
        if stream is None or stream.outlet is not outlet:
            return
        stream.outlet = None
        stream.wake.set()
        try:
            await self._core.db.write(endpoints.seen, [endpoint.row], self._core.clock.now())
        except StoreUnavailable as error:
            # Then the grace is shorter by what has passed since it was last seen.
            log.warning("stream.not_seen", error=str(error))

    async def answer(self, endpoint: Endpoint, said: StreamAnswer) -> Answered | None:
        """What the client heard; answers once it is durable. None where this answer is not waited for."""
        stream = self._streams.get(endpoint.id)
        sent = None if stream is None else stream.sent.get(said.delivery)
        if sent is None or sent.over:
            return None
        if sent.said is None:
            sent.said = said
            sent.heard.set()
        # Said twice, it is answered twice: whoever says it may not have heard us.
        return await asyncio.shield(sent.came_to)

    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:  # noqa: ARG002 - one exchange, no steps
        """A message outside of the log, for a client that is connected."""
        stream, now = self._streams.get(target.id), self._core.clock.now()
        if stream is None or stream.outlet is None:
            return Attempt(Outcome.RETRY, now, 0, error="connect: no client is connected to this stream")
        sent = self._hand(stream, ids.new_id("dlv", now), 1, message, target, now)
        try:
            attempt = await self._attempt(sent, now)
            sent.came_to.set_result(Answered(attempt.outcome, None))
            return attempt
        finally:
            self._forget(stream, sent)

    # --- what is owed --------------------------------------------------------------------------------------------

    async def _serve(self, stream: _Stream) -> None:
        """Hand out what is queued, as long as somebody is connected."""
        bells, clock = self._core.bells, self._core.clock
        topics = (log_topic(stream.project, None), endpoint_topic(stream.row))
        for topic in topics:
            bells.listen(topic, stream.wake)
        try:
            while stream.outlet is not None and not self._stopping and not bells.closed:
                # Listen first, then look: what is committed from here on rings.
                stream.wake.clear()
                until = clock.now() + PAUSE_MS
                try:
                    until = await self._feed(stream, stream.outlet)
                except StoreUnavailable as error:
                    log.warning("stream.store_unavailable", error=str(error))
                except Exception:
                    log.exception("stream.fault", endpoint=stream.id)
                if stream.outlet is not None and not bells.closed:
                    await clock.wait(stream.wake, until)
        finally:
            for topic in topics:
                bells.forget(topic, stream.wake)
            stream.serving = None
            if stream.outlet is not None:
                stream.outlet.close("stopping")
                stream.outlet.drop_if_stuck(clock.now(), 0)
            self._drop_if_idle(stream)

    async def _feed(self, stream: _Stream, outlet: Outlet) -> int:
        """Hand out as much as may be under way; when to look again, if nothing rings before."""
        core = self._core
        endpoint = await core.db.read(endpoints.by_row, stream.row)
        now = core.clock.now()
        look_at = now + LOOK_MS[core.db.dialect]
        if endpoint is None or endpoint.state is EndpointState.DISABLED:
            outlet.close("deleted" if endpoint is None else "disabled")
            return look_at
        if endpoint.rest_until is not None and endpoint.rest_until > now:
            return min(look_at, endpoint.rest_until)
        room, more_at = _room(stream, endpoint.terms, now)
        if room <= 0:
            return look_at if more_at is None else min(look_at, more_at)
        if endpoint.terms.ordered and await core.db.read(deliveries.unsettled, stream.row):
            return look_at
        # Before anything is taken: a fault here must not leave it in our hands.
        target = await target_of(core, endpoint)
        schedule = self._schedule
        if endpoint.terms.retry_schedule is not None:
            schedule = tuple(seconds * retry.SECOND for seconds in endpoint.terms.retry_schedule)
        found = await core.db.write(_take, stream.row, core.node, room)
        for owed, delivery, message in found:
            stream.begun.append(now)
            stream.under_way += 1
            # From here on each has its own way, and its own faults.
            task = asyncio.create_task(self._deliver(stream, schedule, target, owed, delivery, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Where all that there was room for was there, there may be more than this.
        return now if len(found) == room and not endpoint.terms.ordered else look_at

    # --- one attempt ---------------------------------------------------------------------------------------------

    async def _deliver(
        self,
        stream: _Stream,
        schedule: tuple[int, ...],
        target: Target,
        owed: Owed,
        delivery: str,
        message: Message,
    ) -> None:
        """Awaits nothing before it is handed out: what was taken together is handed out in its order."""
        core = self._core
        started = core.clock.now()
        try:
            if stream.outlet is None:
                # Its client went while we looked: whoever comes next is handed it.
                await core.insist(deliveries.requeue, [owed.delivery], core.node)
            else:
                sent = self._hand(stream, delivery, owed.attempts + 1, written(message, target), target, started)
                await self._exchange(stream, schedule, owed, message, sent, started)
        except Exception:
            log.exception("delivery.fault", endpoint=stream.id)
            # Due a little later, and not back at the head of its queue: the others go on meanwhile.
            await core.insist(deliveries.let_go, owed.delivery, core.node, core.clock.now() + PAUSE_MS)
            core.wake_deliveries()
        finally:
            stream.under_way -= 1
            stream.wake.set()
            self._drop_if_idle(stream)

    async def _exchange(
        self, stream: _Stream, schedule: tuple[int, ...], owed: Owed, message: Message, sent: _Sent, started: int
    ) -> None:
        try:
            attempt = await self._attempt(sent, started)
            if not self._stopping or sent.said is not None:
                verdict = await self._record(stream, schedule, owed, message, attempt)
                sent.came_to.set_result(Answered(attempt.outcome, verdict.next_at))
        finally:
            self._forget(stream, sent)

    def _hand(
        self, stream: _Stream, delivery: str, number: int, message: Message, target: Target, started: int
    ) -> _Sent:
        assert stream.outlet is not None
        handed = words.handed(delivery, number, message, target, started)
        sent = stream.sent[delivery] = _Sent(handed, started + round(self.deadline * 1000))
        stream.outlet.put(handed)
        return sent

    async def _attempt(self, sent: _Sent, started: int) -> Attempt:
        """Wait for the answer. When the service stops what is unanswered is left as it is, untried."""
        clock = self._core.clock
        while sent.said is None and not self._stopping and clock.now() < sent.until:
            await clock.wait(sent.heard, sent.until)
        now = clock.now()
        if sent.said is None:
            sent.over = True
            return words.unanswered(started, now)
        return words.answered(sent.said, started, now)

    def _forget(self, stream: _Stream, sent: _Sent) -> None:
        if not sent.came_to.done():
            sent.came_to.set_result(None)
        delivery = sent.handed["delivery"]
        # After a pause and a resume the same delivery may be out twice.
        if stream.sent.get(delivery) is sent:
            del stream.sent[delivery]

    async def _record(
        self, stream: _Stream, schedule: tuple[int, ...], owed: Owed, message: Message, attempt: Attempt
    ) -> retry.Verdict:
        now = self._core.clock.now()
        verdict = retry.verdict(schedule, attempt, owed.tries + 1, now, self._jitter())
        rest = rest_after(attempt, now)
        await self._recorder.record(Tried(owed, attempt, verdict, message.type, message.at, rest=rest))
        log.debug(
            "delivery.streamed",
            endpoint=stream.id,
            event_id=message.id,
            attempt=owed.attempts + 1,
            outcome=attempt.outcome,
            status=attempt.status,
        )
        return verdict

    def _drop_if_idle(self, stream: _Stream) -> None:
        if stream.outlet is None and stream.serving is None and not stream.under_way and not stream.sent:
            self._streams.pop(stream.id, None)

    async def stop(self, grace: float) -> None:
        """Hand out nothing new; what was answered is written down, what was not is the next start's, untried."""
        self._stopping = True
        serving = [stream.serving for stream in self._streams.values() if stream.serving is not None]
        for stream in list(self._streams.values()):
            stream.wake.set()
            for sent in stream.sent.values():
                sent.heard.set()
        under_way = {*self._tasks, *serving}
        if under_way:
            await asyncio.wait(under_way, timeout=grace)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._recorder.stop(grace)


def _room(stream: _Stream, terms: Terms, now: int) -> tuple[int, int | None]:
    """How many more may begin now; where there are none, when time makes room, if it does."""
    room = (1 if terms.ordered else terms.max_in_flight) - stream.under_way
    limit = terms.rate_limit
    if limit is None:
        stream.begun.clear()
        return room, None
    span = round(limit.seconds * 1000)
    while stream.begun and stream.begun[0] <= now - span:
        stream.begun.popleft()
    left = limit.requests - len(stream.begun)
    return min(room, left), stream.begun[0] + span if left <= 0 else None


async def _take(tx: Tx, endpoint: int, node: int, limit: int) -> list[tuple[Owed, str, Message]]:
    """What is queued, the oldest first, each with its public id and what is to be sent."""
    taken = []
    for owed, delivery in await deliveries.claim_queued(tx, endpoint, node, limit):
        event = await events.by_row(tx, owed.event)
        taken.append((owed, delivery, standard(event)))
    return taken
