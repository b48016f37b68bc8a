"""One signed POST to a URL: what every kind of receiver is taken to have said."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from handlers import standardwebhooks
from handlers.destinations.contract import Message, NoSteps
from handlers.destinations.webhook import Webhook
from handlers.http import Http
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target
from tests.unit.http_servers import OK, Kind, Names, Talk, client, guarded, serving, talking

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_client")]

SECRET = standardwebhooks.new_secret()
BODY = '{"id":"evt_1","data":{"größe":1}}'.encode()
MESSAGE = Message("evt_1", "job.succeeded", BODY)
LOOPBACK = "127.0.0.0/8"


def now() -> int:
    return time.time_ns() // 1_000_000


def target(url: str, **headers: str) -> Target:
    return Target("ep_1", "webhook", url, SECRET, headers)


async def sent(
    url: str, http: Http | None = None, deadline: float | None = None, headers: Mapping[str, str] | None = None
) -> Attempt:
    async with client(http or guarded(LOOPBACK)) as opened:
        webhook = Webhook(opened, now)
        if deadline is not None:
            webhook.deadline = deadline
        return await webhook.send(MESSAGE, target(url, **(headers or {})), NoSteps())


@asynccontextmanager
async def answering(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> AsyncIterator[str]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=body)

    async with serving(handler) as url:
        yield f"{url}/hook?key=hidden"


async def test_what_is_sent_is_what_was_signed_byte_for_byte() -> None:
    got: list[tuple[dict[str, str], bytes, str]] = []

    async def handler(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        got.append((headers, await request.read(), request.method))
        return web.Response(status=204)

    async with serving(handler) as url:
        attempt = await sent(url)
    ((headers, body, method),) = got
    assert (method, body) == ("POST", BODY)
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(BODY))
    assert headers["webhook-id"] == "evt_1"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    Verifier(SECRET).verify(body, headers)
    standardwebhooks.verify(SECRET, headers, body, time.time())
    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.DELIVERED, 204, None)


async def test_the_endpoints_own_headers_go_along_and_none_is_sent_twice() -> None:
    got: list[list[str]] = []

    async def handler(request: web.Request) -> web.Response:
        got.extend(request.headers.getall(name) for name in ("User-Agent", "X-Shop", "Content-Type", "Authorization"))
        return web.Response()

    async with serving(handler) as url:
        headers = {"X-Shop": "7", "User-Agent": "own", "Authorization": "Bearer own"}
        await sent(url, headers=headers)
    assert got == [["own"], ["7"], ["application/json"], ["Bearer own"]]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
async def test_every_2xx_is_delivered(status: int) -> None:
    async with answering(status) as url:
        assert (await sent(url)).outcome is Outcome.DELIVERED


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 409, 413, 422, 451, 500, 501, 502, 504, 599])
async def test_every_other_failure_is_tried_again(status: int) -> None:
    async with answering(status) as url:
        attempt = await sent(url)
    assert (attempt.outcome, attempt.status) == (Outcome.RETRY, status)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_a_failure_and_never_followed(status: int) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        raise AssertionError("the redirect was followed")

    async with serving(elsewhere) as other, answering(status, {"Location": other}) as url:
        attempt = await sent(url)
    assert (attempt.outcome, attempt.status) == (Outcome.RETRY, status)


@pytest.mark.parametrize(
    ("status", "word", "outcome"),
    [
        (410, None, Outcome.GONE),
        (429, None, Outcome.SLOW_DOWN),
        (503, None, Outcome.SLOW_DOWN),
        (200, "disable", Outcome.LAST),
        (204, "DISABLE", Outcome.LAST),
        (301, "disable", Outcome.GONE),
        (500, " Disable ", Outcome.GONE),
        (500, "abort", Outcome.ABORT),
        (200, "abort", Outcome.ABORT),
        (410, "abort", Outcome.ABORT),
        (200, "something else", Outcome.DELIVERED),
        (500, "", Outcome.RETRY),
    ],
)
async def test_a_receiver_may_say_how_to_go_on(status: int, word: str | None, outcome: Outcome) -> None:
    async with answering(status, {} if word is None else {"Webhook-Delivery": word}) as url:
        assert (await sent(url)).outcome is outcome


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_retry_after_is_read_in_seconds_and_as_a_date(status: int) -> None:
    async with answering(status, {"Retry-After": "120"}) as url:
        assert (await sent(url)).retry_after == 120
    async with answering(status, {"Retry-After": formatdate(time.time() + 600, usegmt=True)}) as url:
        waits = (await sent(url)).retry_after
    assert waits is not None
    assert 595 <= waits <= 601


@pytest.mark.parametrize("value", ["soon", "", "-5", "1e9", "nan", "inf"])
async def test_a_retry_after_that_is_none_changes_nothing(value: str) -> None:
    async with answering(503, {"Retry-After": value}) as url:
        attempt = await sent(url)
    assert (attempt.outcome, attempt.retry_after) == (Outcome.SLOW_DOWN, None)


async def test_retry_after_counts_for_no_other_status() -> None:
    async with answering(500, {"Retry-After": "9"}) as url:
        assert (await sent(url)).retry_after is None


async def test_one_kibibyte_of_the_answer_is_kept_and_always_as_text() -> None:
    async with answering(500, body=b"a\x00b\xff" + b"x" * 5000) as url:
        head = (await sent(url)).response_head
    assert head is not None
    assert head.startswith("a\ufffdb\ufffdx")
    assert len(head) == 1024
    head.encode()


# Receivers that keep no promise.


async def test_at_most_16_kib_of_an_endless_answer_are_read() -> None:
    written = 0
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Connection: keep-alive\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 8192)
                written += 8192
                await writer.drain()
        finally:
            closed.set()

    async with asyncio.timeout(10), talking(talk) as url:
        attempt = await sent(url)
        await closed.wait()
    assert (attempt.outcome, attempt.status) == (Outcome.DELIVERED, 200)
    assert len(attempt.response_head or "") == 1024
    # The system's own buffers take some more than we read.
    assert written < 16 * 1024 * 1024


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"Content-Length: 100000\r\n\r\n")
    beat = asyncio.Event()
    while True:
        writer.write(b"x")
        await writer.drain()
        try:
            async with asyncio.timeout(0.02):
                await beat.wait()
        except TimeoutError:
            continue


async def _silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def _hangs_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def _in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"Content-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def _nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-nothing for you\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        (_drip, "timeout"),
        (_silent, "timeout"),
        (_hangs_up, "broken"),
        (_in_the_middle, "broken"),
        (_nonsense, "broken"),
    ],
)
async def test_an_answer_that_never_becomes_whole_is_tried_again(talk: Talk, kind: str) -> None:
    started = time.monotonic()
    async with talking(talk) as url:
        attempt = await sent(f"{url}/hook?key=hidden", deadline=0.4)
    assert time.monotonic() - started < 5
    assert (attempt.outcome, attempt.status) == (Outcome.RETRY, None)
    assert attempt.error is not None
    assert attempt.error.startswith(f"{kind}: ")
    assert "hidden" not in attempt.error


async def test_an_attempt_has_fifteen_seconds_in_all_five_to_connect_and_reads_16_kib() -> None:
    asked: list[tuple[Any, ...]] = []

    class Noting(Kind.now):  # type: ignore[valid-type, misc]  # the client that the module is run with
        async def request(self, *args: Any, **options: Any) -> Any:
            asked.append(tuple(options[name] for name in ("deadline", "connect", "keep", "cut")))
            return await super().request(*args, **options)

    async with answering(200) as url:
        assert (await sent(url, Noting())).outcome is Outcome.DELIVERED
    assert asked == [(15, 5, 16 * 1024, True)]


async def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        attempt = await sent(f"http://127.0.0.1:{unused.getsockname()[1]}/hook?key=hidden")
    assert attempt.outcome is Outcome.RETRY
    assert attempt.error is not None
    assert attempt.error.startswith("connect: ")
    assert "hidden" not in attempt.error


async def test_a_receiver_whose_tls_is_broken_is_tried_again() -> None:
    async with answering(200) as url:
        attempt = await sent(url.replace("http:", "https:"))
    assert attempt.outcome is Outcome.RETRY
    assert attempt.error is not None
    assert attempt.error.startswith("tls: ")


async def test_a_name_that_leads_nowhere_is_tried_again() -> None:
    class Nowhere(Names):
        async def resolve(self, *_: Any, **__: Any) -> Any:
            raise OSError(None, "no such name")

    attempt = await sent("http://receiver.example/", guarded(resolver=Nowhere()))
    assert attempt.outcome is Outcome.RETRY
    assert attempt.error is not None
    assert attempt.error.startswith("dns: ")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.8", "169.254.169.254", "100.64.0.1", "0.0.0.0"])
async def test_no_name_leads_to_an_address_that_is_not_public(address: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise AssertionError("a private address was reached")

    async with serving(handler) as url:
        port = url.rpartition(":")[2]
        names = Names(**{"rebound.example": [address]})
        attempt = await sent(f"http://rebound.example:{port}/", guarded(resolver=names))
    assert attempt.outcome is Outcome.RETRY
    assert attempt.error is not None
    assert attempt.error.startswith("refused_address: ")
    assert address not in attempt.error, "what a name of the inside leads to is nobody's business"


async def test_a_target_never_shows_its_secrets() -> None:
    shown = repr(target("https://receiver.example/hook?key=hidden", Authorization="Bearer hidden"))
    assert SECRET not in shown
    assert "hidden" not in shown
