"""The outbound client on the wire: what HTTP/1.1 allows a server to say beside the plain answer."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from tests.unit.http_servers import OK, Names, answers, client, echo, fails, new, serving, talking

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_client")]

EMPTY = OK + b"Content-Length: 0\r\n\r\n"


async def _told(*replies: bytes, then_close: bool = False) -> tuple[list[int], list[bytes], int]:
    """What a client makes of these replies to two requests in turn: statuses, bodies, connections used."""
    connections = 0
    left = list(replies)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(left.pop(0))
            await writer.drain()
            if then_close:
                return

    async with talking(talk) as url, client() as http:
        got = [await http.request("GET", url) for _ in replies]
    return [answer.status for answer in got], [answer.body for answer in got], connections


async def test_what_is_said_on_the_way_to_the_answer_is_no_answer() -> None:
    on_the_way = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    statuses, bodies, connections = await _told(on_the_way + OK + b"Content-Length: 2\r\n\r\nhi", EMPTY)
    assert (statuses, bodies, connections) == ([200, 200], [b"hi", b""], 1)


async def test_a_body_may_end_with_its_connection() -> None:
    reply = OK + b"\r\nto the end"
    assert await _told(reply, reply, then_close=True) == ([200, 200], [b"to the end"] * 2, 2)


async def test_a_chunked_body_is_put_together_and_its_connection_used_again() -> None:
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nRetry-After: 9\r\n\r\n"
    assert await _told(chunked, EMPTY) == ([200, 200], [b"abcdefg", b""], 1)


@pytest.mark.parametrize("reply", [b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", OK + b"Connection: close\r\n\r\n"])
async def test_a_connection_that_the_server_will_close_is_not_used_again(reply: bytes) -> None:
    statuses, _, connections = await _told(reply, reply, then_close=True)
    assert (statuses, connections) == ([200, 200], 2)


async def test_an_answer_that_nobody_asked_for_is_never_the_next_requests() -> None:
    forged = b"HTTP/1.1 418 Forged\r\nContent-Length: 0\r\n\r\n"
    statuses, _, connections = await _told(EMPTY + forged, EMPTY)
    assert (statuses, connections) == ([200, 200], 2)


async def test_a_header_never_becomes_two_and_nothing_is_sent() -> None:
    async def handler(_: web.Request) -> web.Response:
        raise AssertionError("it was sent")

    async with serving(handler) as url, client() as http:
        for value in ("a\r\nX-Other: b", "a\nX-Other: b", "a\rb"):
            await fails(http.request("POST", url, headers={"X-Shop": value}), "broken")


async def test_many_requests_at_once_have_a_connection_each_and_later_ones_use_them_again() -> None:
    peers: set[object] = set()
    inside = 0
    all_in = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        nonlocal inside
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        inside += 1
        if inside >= 20:
            all_in.set()
        await all_in.wait()
        return web.Response()

    async with serving(handler) as url, client() as http:
        for _ in range(2):
            await asyncio.gather(*(http.request("POST", url, body=b"x") for _ in range(20)))
    assert len(peers) == 20


async def test_a_name_that_many_ask_for_at_once_is_looked_up_once() -> None:
    class Counting(Names):
        asked = 0

        async def resolve(self, *args: object, **kwargs: object) -> list[ResolveResult]:
            self.asked += 1
            await asyncio.sleep(0)
            return await super().resolve(*args, **kwargs)  # type: ignore[arg-type]

    names = Counting(many=["127.0.0.1"])
    async with serving(echo) as url, client(new(resolver=names)) as http:
        named = url.replace("127.0.0.1", "many")
        await asyncio.gather(*(http.request("POST", named) for _ in range(10)))
    assert names.asked == 1


async def test_a_large_body_is_sent_whole_and_its_answer_too() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    body = bytes(range(256)) * 4096
    async with serving(handler) as url, client() as http:
        for _ in range(2):
            assert (await http.request("PUT", url, body=body, keep=len(body))).body == body


async def test_the_answers_head_is_kept_as_it_came() -> None:
    async with serving(answers(b"", **{"X-Head": "später"})) as url, client() as http:
        answer = await http.request("GET", url)
    assert answer.headers["x-HEAD"] == "später"
