"""The trouble a sandbox can make: what a vendor does to us on a bad day, said in advance by a test.

A fault waits in its endpoint's queue and strikes the next request there. Most bad days are listed at the end of this
file; a vendor's own error codes stand in the vendor's module (`error(…)`).
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One request's trouble. The fields combine; in the order in which they act:

    `delay`       seconds of silence first.
    `after_work`  False: the trouble strikes before the vendor did anything (nothing is made, nothing is charged).
                  True: the work is done first, so that only the answer suffers.
    `hold`        silence until `Faults.release()`; then things go on.
    `drop`        the connection is closed without an answer.
    `status`      answer this status with `body` and `content_type` in place of the vendor's own answer.
    `change`      edits the answer's JSON value (wrong types, missing fields, unknown states).
    `cut`         only the first half of the body, as a whole answer with a right length: a damaged image.
    `truncate`    the full length is announced, half of it is sent, then the connection is closed.
    """

    delay: float = 0.0
    after_work: bool = False
    hold: bool = False
    drop: bool = False
    status: int | None = None
    body: bytes = b""
    content_type: str = "application/json"
    change: Callable[[Any], Any] | None = None
    cut: bool = False
    truncate: bool = False


class Gate:
    """Keeps held requests waiting; one opening frees all that came before it."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def passed(self) -> None:
        await self._opened.wait()


class Faults:
    """A queue of faults for each endpoint of one sandbox; settable at any time."""

    def __init__(self, endpoints: Iterable[str]) -> None:
        self._next: dict[str, deque[Fault]] = {endpoint: deque() for endpoint in endpoints}
        self._gate = Gate()

    def next(self, endpoint: str, fault: Fault, times: int = 1) -> None:
        """Let `fault` strike the next `times` requests at `endpoint`, behind those already queued there.

        Raises KeyError for an endpoint that this vendor doesn't have: a fault that can't strike tests nothing.
        """
        self._next[endpoint].extend([fault] * times)

    def take(self, endpoint: str) -> tuple[Fault, Gate]:
        """The fault for a request that has just arrived, and the gate it is held at.

        The gate is the one of this moment: a release that comes while the work is still being done frees it too.
        """
        waiting = self._next[endpoint]
        return (waiting.popleft() if waiting else NONE), self._gate

    def release(self) -> None:
        """Let every request that has arrived with `hold` go on."""
        gate, self._gate = self._gate, Gate()
        gate.open()

    def clear(self) -> None:
        for waiting in self._next.values():
            waiting.clear()


def answering(value: object, status: int = 200) -> Fault:
    """Answer `value` as JSON, as a whole reply, without doing the work."""
    return Fault(status=status, body=json.dumps(value).encode())


def swapped(value: Any) -> Any:
    """The same JSON with its types mixed up: numbers as strings, digits as numbers, other strings in a list."""
    if isinstance(value, dict):
        return {name: swapped(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return {str(place): swapped(inner) for place, inner in enumerate(value)}
    if isinstance(value, str):
        return int(value) if value.isdecimal() else [value]
    return str(value)


NONE = Fault()
HANG = Fault(hold=True)
HANG_AFTER_WORK = Fault(hold=True, after_work=True)
DROPPED_BEFORE_WORK = Fault(drop=True)
ANSWER_LOST = Fault(drop=True, after_work=True)
TRUNCATED = Fault(truncate=True)
CUT_IMAGE = Fault(cut=True)
NOT_AN_IMAGE = Fault(status=200, body=b"\x00\x01not an image" * 64, content_type="image/png")
NOT_JSON = Fault(status=200, body=b'{"code": 200, "data": {')
HTML_500 = Fault(
    status=500,
    body=b"<html><head><title>500</title></head><body><h1>Internal Server Error</h1></body></html>",
    content_type="text/html",
)
HTML_500_AFTER_WORK = Fault(status=500, body=HTML_500.body, content_type="text/html", after_work=True)
WRONG_TYPES = Fault(change=swapped)
