"""The outbound client when servers hang, drip and break: it ends in time and says whether it had sent."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.ports import free_port
from tests.unit.http_servers import OK, client, drains, echo, fails, guarded, new, serving, talking

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_client")]


# Time.


async def test_a_server_that_hangs_ends_at_the_deadline() -> None:
    async def talk(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with talking(talk) as url, client() as http:
        assert (await fails(http.request("POST", url, body=b"x", deadline=0.1), "timeout")).sent
        assert (await drains(http.stream("GET", url, deadline=0.1, max_bytes=1), "timeout")).sent


async def test_a_body_that_drips_ends_at_the_deadline() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with talking(talk) as url, client() as http:
        start = asyncio.get_running_loop().time()
        await fails(http.request("GET", url, deadline=0.2), "timeout")
        await fails(http.request("GET", url, deadline=0.2, keep=1000, cut=True), "timeout")
        await drains(http.stream("GET", url, deadline=0.2, max_bytes=1 << 20), "timeout")
        assert 0.5 <= asyncio.get_running_loop().time() - start < 3


async def test_the_wait_for_a_connection_has_its_own_limit_and_nothing_was_sent() -> None:
    # A listening socket whose queue is full: the kernel leaves further connections without an answer.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            async with client() as http:
                start = asyncio.get_running_loop().time()
                call = http.request("POST", f"http://127.0.0.1:{address[1]}", deadline=10, connect=0.2)
                assert not (await fails(call, "timeout")).sent
                assert asyncio.get_running_loop().time() - start < 2
                call = http.request("POST", f"http://127.0.0.1:{address[1]}", deadline=0.2, connect=5)
                assert not (await fails(call, "timeout")).sent
        finally:
            for filler in fillers:
                filler.close()


async def test_who_waits_for_a_place_in_the_pool_has_sent_nothing() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        entered.set()
        await leave.wait()
        return web.Response()

    async with serving(handler) as url, client(new(limit=1)) as http:
        first = asyncio.create_task(http.request("GET", url))
        await entered.wait()
        assert not (await fails(http.request("POST", url, deadline=0.1), "timeout")).sent
        # Our own full pool is not the server's slowness: `connect` does not count it.
        second = asyncio.create_task(http.request("GET", url, connect=0.05))
        await asyncio.wait([second], timeout=0.2)
        leave.set()
        assert ((await first).status, (await second).status) == (200, 200)


async def test_a_cancelled_request_stays_cancelled() -> None:
    entered = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        entered.set()
        await reader.read()

    async with talking(talk) as url, client() as http:
        call = asyncio.create_task(http.request("GET", url))
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


# What breaks, and whether it was sent.


async def test_a_refused_connection_was_certainly_not_sent() -> None:
    port = free_port()
    async with client() as http:
        error = await fails(http.request("POST", f"http://127.0.0.1:{port}/secret?key=1", body=b"x"), "connect")
    assert not error.sent
    assert str(error) == f"no connection to http://127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example", "a..example"])
async def test_a_name_that_does_not_resolve_was_not_sent(host: str) -> None:
    async with client() as http:
        assert not (await fails(http.request("POST", f"http://{host}/"), "dns")).sent


async def test_a_failed_tls_handshake_was_not_sent() -> None:
    async with serving(echo) as url, client() as http:
        error = await fails(http.request("POST", url.replace("http:", "https:")), "tls")
    assert not error.sent


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A private receiver's certificate, valid for `localhost`, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file, key_file = tmp_path / "ca.pem", tmp_path / "key.pem"
    ca_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ca_file, key_file)
    return ca_file, context


async def test_a_private_certificate_needs_its_root(certificate: tuple[Path, ssl.SSLContext]) -> None:
    ca_file, tls = certificate
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response()

    async with serving(handler, tls=tls) as url, client() as stranger, client(new(ca_file=ca_file)) as http:
        error = await fails(stranger.request("POST", url), "tls")
        assert not error.sent
        assert "certificate" in str(error)
        for _ in range(3):
            assert (await http.request("POST", url)).status == 200
        assert len(peers) == 1  # an idle TLS connection is not taken for a dead one
        assert not (await fails(http.request("POST", url.replace("localhost", "127.0.0.1")), "tls")).sent


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_an_answer_lost_after_the_request_may_have_been_sent_and_it_was_sent_only_once(method: str) -> None:
    requests = 0

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1

    async with talking(talk) as url, client() as http:
        error = await fails(http.request(method, url + "/hook?token=tomato"), "broken")
    assert error.sent
    assert requests == 1


@pytest.mark.parametrize("length", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_server_that_closes_mid_body_broke(length: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + length.encode() + b"\r\n\r\n5\r\nhello\r\n")
        await writer.drain()

    async with talking(talk) as url, client() as http:
        assert (await fails(http.request("GET", url), "broken")).sent
        assert (await drains(http.stream("GET", url, deadline=5, max_bytes=1000), "broken")).sent


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH\r\n\r\n", OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n"])
async def test_an_answer_that_is_no_http_broke(reply: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()

    async with talking(talk) as url, client() as http:
        assert (await fails(http.request("GET", url), "broken")).sent


async def test_a_connection_that_died_while_idle_is_not_used_for_a_post() -> None:
    received: list[bytes] = []
    closing = asyncio.Event()
    sockets: list[socket.socket] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sockets.append(writer.get_extra_info("socket").dup())
        while head := await reader.readuntil(b"\r\n\r\n"):
            received.append(head.split(b" ")[0])
            writer.write(OK + b"Content-Length: 0\r\n\r\n")
            await writer.drain()
            closing.set()

    async with talking(talk) as url, client() as http:
        await http.request("GET", url)
        # The FIN is in the kernel, and the loop has had no turn to see it: what a busy service looks like.
        sockets[0].shutdown(socket.SHUT_RDWR)
        answer = await http.request("POST", url)
        assert answer.status == 200
        await http.request("POST", url)
        assert received == [b"GET", b"POST", b"POST"]
        assert len(sockets) == 2  # the healthy one was used again
        for held in sockets:
            held.close()


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "nonsense", "http://", "http://user:tomato@example.com/", "http://example.com:0/"]
)
async def test_a_bad_url_was_not_sent_and_its_secrets_are_not_told(url: str) -> None:
    async with client() as http:
        error = await fails(http.request("GET", url), "bad_url")
        assert not error.sent
        assert "tomato" not in str(error)
        await drains(http.stream("GET", url, deadline=1, max_bytes=1), "bad_url")


async def test_no_error_tells_a_path_or_a_query() -> None:
    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with talking(talk) as url, client() as http, client(guarded()) as guarded_http:
        for error in (
            await fails(http.request("GET", url + "/tomato?tomato"), "broken"),
            await fails(http.request("GET", "http://127.0.0.1:1/tomato?tomato"), "connect"),
            await fails(guarded_http.request("GET", url + "/tomato?tomato"), "refused_address"),
        ):
            assert "tomato" not in str(error)
            assert error.__cause__ is None
            assert error.__suppress_context__


async def test_a_closed_client_says_so() -> None:
    http = new()
    await http.close()
    with pytest.raises(RuntimeError):
        await http.request("GET", "http://127.0.0.1:1/")
