"""A sandbox vendor's unit of work: it waits in a queue, is worked on, ends; or does what a test told it to do."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from handlers.sandbox.pictures import Picture

Word = str | int  # a vendor's own name for a state: "finish" at VanceAI, 1 at PicWish


class State(Enum):
    """How far the work really is, whatever the vendor says of it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class WorkFailedError(Exception):
    """The work ended without a result; `word` is the vendor's name for why."""

    def __init__(self, word: Word) -> None:
        super().__init__(f"the work failed: {word}")
        self.word = word


@dataclass(eq=False)
class Task:
    """One task. Times are seconds of the sandbox's clock, 0.0 for what has not happened."""

    id: str
    operation: str
    created_at: float
    script: deque[Word] = field(default_factory=deque)
    state: State = State.QUEUED
    failure: Word = ""
    started_at: float = 0.0
    ended_at: float = 0.0
    asked_at: float | None = None  # the last question, by the monotonic clock: how soon the client asks again
    outputs: Mapping[str, Picture] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def says(self, real: Word, success: Word) -> Word:
        """What the vendor answers when asked: the script's next word while it lasts, else the real state.

        The script's last word stays. A scripted success is not said before there is a result to fetch.
        """
        if len(self.script) > 1:
            return self.script.popleft()
        if self.script and (self.script[0] != success or self.state is State.DONE):
            return self.script[0]
        return real
