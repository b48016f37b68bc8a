"""Answers that wait: for a job's end, for the next event. A bell wakes them; nobody asks the store over and over."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from schemas.problem import Problem
from service.clock import Clock
from service.pipeline.core import Bells, Topic

T = TypeVar("T")

LONGEST_SECONDS = 60
# Each takes a connection; all of them together, few enough to leave files for everything else.
MOST_PER_PROJECT = 64
MOST = 512
_RETRY_AFTER = {"Retry-After": "5"}


class Waiting:
    """Who waits now, how many may, and the waiting itself."""

    def __init__(self, bells: Bells, clock: Clock) -> None:
        self._bells = bells
        self._clock = clock
        self._places: Counter[int] = Counter()

    @property
    def count(self) -> int:
        """How many wait now, of all projects."""
        return self._places.total()

    def refusal(self, project: int) -> Problem | None:
        """Why one more of this project can't wait now, if it can't."""
        if self._places[project] >= MOST_PER_PROJECT:
            detail = f"{MOST_PER_PROJECT} requests of this project are waiting already; ask without wait, or later."
            return Problem(429, "too_many_waiting", detail, headers=_RETRY_AFTER)
        if self._places.total() >= MOST:
            detail = "Too many requests are waiting already; ask without wait, or later."
            return Problem(503, "too_many_waiting", detail, headers=_RETRY_AFTER)
        return None

    async def until(
        self,
        request: Request,
        project: int,
        topic: Topic,
        seconds: int,
        look: Callable[[], Awaitable[T]],
        enough: Callable[[T], bool],
    ) -> T:
        """What `look` finds once that is `enough`, or when the time is up, or when the service stops.

        Raises Problem where too many wait already, ClientDisconnect where nobody is left to be answered.
        """
        until = self._clock.now() + seconds * 1000
        bell = self._bells.listen(topic)
        gone: asyncio.Task[None] | None = None
        try:
            with self._place(project):
                while True:
                    bell.clear()
                    # Listen first, then look: what is committed from here on rings.
                    found = await look()
                    if enough(found) or self._clock.now() >= until or self._bells.closed:
                        return found
                    if gone is None:
                        gone = asyncio.create_task(_hung_up(request, bell))
                    elif gone.done():
                        raise ClientDisconnect
                    await self._clock.wait(bell, until)
        finally:
            self._bells.forget(topic, bell)
            if gone is not None:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)

    @contextmanager
    def _place(self, project: int) -> Iterator[None]:
        refusal = self.refusal(project)
        if refusal is not None:
            raise refusal
        self._places[project] += 1
        try:
            yield
        finally:
            self._places[project] -= 1
            if not self._places[project]:
                del self._places[project]


async def _hung_up(request: Request, bell: asyncio.Event) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    bell.set()
