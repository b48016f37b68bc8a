"""A client of Server-Sent Events, by the HTML standard and from nothing of ours."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.harness import PATIENCE, Client


@dataclass(frozen=True)
class Message:
    kind: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Stream:
    """One connection. `last_id` is what a browser would come back with."""

    answer: aiohttp.ClientResponse
    last_id: str = ""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)
    _held: bytes = b""

    async def _line(self) -> str:
        while b"\n" not in self._held:
            piece = await self.answer.content.readany()
            if not piece:
                raise EOFError
            self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        return line.decode()

    async def block(self) -> Message | None:
        """The next block, with a message or (None) without; EOFError where the stream has ended."""
        kind, data = "message", list[str]()
        while True:
            line = await self._line()
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                return Message(kind, "\n".join(data), self.last_id) if data else None
            if not name:
                self.comments.append(value)
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                self.last_id = value
            elif name == "retry":
                self.retry = int(value)

    async def next(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            while (message := await self.block()) is None:
                pass
        return message

    async def some(self, count: int) -> list[Message]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[Message]:
        """All until its end."""
        found: list[Message] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    message = await self.block()
                except EOFError:
                    return found
                if message is not None:
                    found.append(message)


@asynccontextmanager
async def stream(
    client: Client, path: str, headers: Mapping[str, str] | None = None, **query: str | int
) -> AsyncIterator[Stream]:
    """Open; its first block, which has no message, has been read."""
    auth = {"Authorization": f"Bearer {client.key}", **(headers or {})}
    timeout = aiohttp.ClientTimeout(total=None)
    async with client.http.get(client.url + path, params=query, headers=auth, timeout=timeout) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        it = Stream(answer)
        assert await it.block() is None
        yield it
