"""How a stream ends for a client that reads nothing."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.requests import Request

from service.web import sse

pytestmark = pytest.mark.anyio


async def test_who_reads_nothing_is_cut_off_before_it_has_heard_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LAST_WORDS_SECONDS", 0.05)
    cut, told = asyncio.Event(), []
    scope: dict[str, Any] = {"type": "http", "method": "GET", "state": {"cut": cut.set}}
    line = sse.Line(Request(scope), 0)

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield sse.opening()
        line.hang_up("crowded_out")

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        told.append(message.get("body", b""))
        if b"crowded_out" in told[-1]:
            # As a server does while its client's buffer is full.
            await asyncio.Event().wait()

    over = asyncio.Event()
    async with asyncio.timeout(20):
        await sse.EventStream(line, pieces(), lambda: 0, over.set)(scope, receive, send)  # type: ignore[arg-type]
    assert cut.is_set()
    assert over.is_set()
