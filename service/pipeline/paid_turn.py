"""Within the third step: the moment right before the paid call, in which it is put on paper, or not made after all."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from handlers.vendors.contract import Purpose, Turn
from service.store.submissions import Submission


class NotOursError(Exception):
    """The job was ended, or another took it over, while it waited for its turn."""


class BarredError(Exception):
    """The account was paused while the job waited for its turn."""


class PaidTurn:
    """The turn of one paid call. The submission is put on paper when the turn has come: right before the call.

    Who still stands in the line has sent nothing. Were it on paper already, every kill or stop under load would leave
    calls of which nobody knows that they were never made.
    """

    def __init__(
        self, turn: Turn, open_: Callable[[], Awaitable[Submission | None]], barred: Callable[[], bool]
    ) -> None:
        self._turn = turn
        self._open = open_
        self._barred = barred
        self.submission: Submission | None = None

    @asynccontextmanager
    async def __call__(self, purpose: Purpose, *, blocks: bool = False) -> AsyncIterator[None]:
        async with self._turn(purpose, blocks=blocks):
            if purpose is Purpose.SUBMIT:
                if self.submission is None and self._barred():
                    raise BarredError
                if self.submission is None:
                    self.submission = await self._open()
                if self.submission is None:
                    raise NotOursError
            yield
