"""Following the log of a service that breaks off, falters and is away; and the pages of a long list."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from service.client import PAGE, Client, ProblemAnswer, Unreachable
from service.commands.events import AHEAD, GONE, before_the_last, following, kept
from tests.harness import server_of

pytestmark = pytest.mark.anyio


class Log:
    """A server with a log of events 1 to `length`; `faults` are its next answers instead."""

    def __init__(self, length: int, first: int = 1) -> None:
        self.length = length
        self.first = first
        self.faults: list[Callable[[web.Request], Any]] = []
        self.questions = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.questions += 1
        if self.faults:
            faulty: web.StreamResponse = await self.faults.pop(0)(request)
            return faulty
        after, limit = int(request.query["after"]), int(request.query["limit"])
        if after > self.length:
            ahead = {
                "type": AHEAD,
                "detail": f"The newest event is {self.length}, and {after} lies beyond it. Read on.",
            }
            return web.json_response(ahead, status=409)
        if 0 < after < self.first - 1:
            gone = {"type": GONE, "detail": f"Events {after + 1} to {self.first - 1} are no longer kept. Read on."}
            return web.json_response(gone, status=410)
        found = range(max(after + 1, self.first), self.length + 1)[:limit]
        more = bool(found) and found[-1] < self.length
        events = [{"sequence": sequence} for sequence in found]
        return web.json_response({"data": events, "next": str(found[-1]) if more else None})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/events", self.answer)
        return app


async def unwell(request: web.Request) -> web.StreamResponse:
    _ = request
    return web.json_response({"detail": "The store can't be reached now."}, status=503)


async def forbidden(request: web.Request) -> web.StreamResponse:
    _ = request
    return web.json_response({"detail": "This key was revoked."}, status=401)


async def cut_off(request: web.Request) -> web.StreamResponse:
    """Half of a good answer."""
    body = json.dumps({"data": [{"sequence": sequence} for sequence in range(1, 4)], "next": None}).encode()
    response = web.StreamResponse(headers={"content-length": str(len(body)), "content-type": "application/json"})
    await response.prepare(request)
    await response.write(body[:-10])
    assert request.transport is not None
    request.transport.close()
    return response


async def test_nothing_is_lost_or_told_twice_through_every_fault() -> None:
    log, told = Log(500), []
    silences: list[bool] = []
    async with server_of(log.app()) as url, Client(url, "wp_x") as client:
        stream = following(client, 0, None, lambda error: silences.append(error is not None))
        async for event in stream:
            told.append(event["sequence"])
            if event["sequence"] in (PAGE, 2 * PAGE):
                log.faults = [cut_off, unwell]
            if event["sequence"] == log.length:
                break
        await stream.aclose()
    assert told == list(range(1, 501))
    # One word about each outage, and one about its end.
    assert silences == [True, False, True, False]


async def test_a_server_that_was_never_there_or_refuses_is_told_at_once() -> None:
    log = Log(1)
    log.faults = [cut_off]
    async with server_of(log.app()) as url, Client(url, "wp_x") as client:
        with pytest.raises(Unreachable):
            await anext(following(client, 0, None, lambda _: None))
        stream = following(client, 0, None, lambda _: None)
        assert (await anext(stream))["sequence"] == 1
        log.faults = [forbidden]
        with pytest.raises(ProblemAnswer, match="revoked"):
            await anext(stream)


@pytest.mark.parametrize(
    ("length", "first"), [(0, 1), (1, 1), (20, 1), (21, 1), (1000, 1), (1_000_000, 999_000), (9, 9)]
)
@pytest.mark.parametrize("count", [0, 1, 20])
async def test_the_newest_are_found_in_a_few_questions(length: int, first: int, count: int) -> None:
    log = Log(length, first)
    async with server_of(log.app()) as url, Client(url, "wp_x") as client:
        after = await before_the_last(client, count, None)
    follow = range(max(after + 1, first), length + 1)
    assert len(follow) == min(count, length - first + 1 if length else 0)
    assert log.questions < 50


async def test_whoever_was_away_too_long_is_told_what_is_gone_and_reads_on_with_the_oldest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with server_of(Log(12, first=8).app()) as url, Client(url, "wp_k") as client:
        found = [event["sequence"] async for event in kept(client, 3, None)]
    assert found == [8, 9, 10, 11, 12]
    assert capsys.readouterr().err == "Warning: Events 4 to 7 are no longer kept.\n"


async def test_whoever_has_read_further_than_the_log_goes_is_told_how_to_begin_again() -> None:
    log = Log(12)
    async with server_of(log.app()) as url, Client(url, "wp_k") as client:
        with pytest.raises(
            ProblemAnswer, match="newest event is 12, and 13 lies beyond it; begin again with --after 0"
        ):
            await anext(kept(client, 13, None))
        stream = following(client, 11, None, lambda _: None)
        assert (await anext(stream))["sequence"] == 12
        # Set back while it was followed.
        log.length = 5
        with pytest.raises(ProblemAnswer, match=r"newest event is 5, and 12 lies beyond it; .* or with --last 0"):
            await anext(stream)


async def test_a_list_is_read_over_its_pages_and_no_further_than_asked() -> None:
    async def page(request: web.Request) -> web.Response:
        after, limit = int(request.query.get("after", 0)), int(request.query["limit"])
        assert request.query["state"] == "failed"
        found = range(after, 450)[:limit]
        more = bool(found) and found[-1] < 449
        return web.json_response({"data": [{"n": n} for n in found], "next": str(found[-1] + 1) if more else None})

    app = web.Application()
    app.router.add_get("/v1/jobs", page)
    async with server_of(app) as url, Client(url, "wp_x") as client:
        for most, expected in ((None, 450), (1, 1), (200, 200), (250, 250), (9999, 450)):
            found = await client.all("/v1/jobs", most, state="failed")
            assert [entry["n"] for entry in found] == list(range(expected))
