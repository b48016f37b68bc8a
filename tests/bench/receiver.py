"""A subscriber that costs next to nothing: reads a request, answers 204, keeps the connection. Its own process.

Told to `hang`, it answers nobody; told to `note`, it remembers when which event came.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from tests.bench.child import obey

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class State:
    hangs = False
    notes: dict[str, int] | None = None


class Receiver(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if State.hangs:
            return
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            start = head.find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self._held) < end + 4 + length:
                return
            if State.notes is not None:
                event = head.split(b"webhook-id: ", 1)[1].split(b"\r\n", 1)[0].decode()
                State.notes.setdefault(event, time.monotonic_ns())
            self._held = self._held[end + 4 + length :]
            self._transport.write(ANSWER)


async def _hang() -> None:
    State.hangs = True


async def _note() -> None:
    State.notes = {}


async def _noted() -> Mapping[str, Any]:
    notes, State.notes = State.notes, None
    return {"notes": notes}


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    await obey({"hang": _hang, "note": _note, "noted": _noted}, url=f"http://127.0.0.1:{port}/")


if __name__ == "__main__":
    asyncio.run(main())
