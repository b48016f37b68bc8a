"""A client of a stream endpoint: it comes for the endpoint's deliveries, and says what became of each."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.acceptance.delivery_rig import QUEUED
from tests.acceptance.sse import Stream, stream
from tests.harness import Client


async def made(client: Client, **wanted: Any) -> dict[str, Any]:
    status, endpoint = await client.call("POST", "/v1/endpoints", json={"kind": "stream", "events": QUEUED, **wanted})
    assert status == 201, endpoint
    found: dict[str, Any] = endpoint
    return found


@dataclass
class Listener:
    """A client that came for an endpoint's deliveries."""

    client: Client
    endpoint: dict[str, Any]
    stream: Stream

    async def take(self) -> dict[str, Any]:
        message = await self.stream.next()
        assert message.kind == "delivery", message
        handed: dict[str, Any] = message.json
        return handed

    async def answer(self, handed: dict[str, Any], status: int | None = 204, **more: Any) -> tuple[int, Any]:
        said = {"delivery": handed["delivery"], "ms": 7, **({} if status is None else {"status": status}), **more}
        return await self.client.call("POST", f"/v1/endpoints/{self.endpoint['id']}/answers", json=said)


@asynccontextmanager
async def listening(client: Client, endpoint: dict[str, Any]) -> AsyncIterator[Listener]:
    async with stream(client, f"/v1/endpoints/{endpoint['id']}/stream") as opened:
        yield Listener(client, endpoint, opened)
