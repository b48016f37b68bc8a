"""The outbound client: what goes out, what comes back, and the small things beside it."""

import asyncio
import gzip
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import BodyPartReader, web

from handlers.http import Answer, Part, TransportError, origin, retry_after
from tests.unit.http_servers import OK, answers, client, drains, echo, fails, read, serving, talking

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_client")]


# What goes out.


async def test_a_request_brings_its_body_and_headers_and_its_answer_of_any_status_is_returned() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert await request.read() == b"hello"
        assert request.headers["X-Shop"] == "7"
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(status=503, body=b"busy", headers={"Retry-After": "7"})

    async with serving(handler) as url, client() as http:
        answer = await http.request("POST", url, headers={"X-Shop": "7"}, body=b"hello")
    assert (answer.status, answer.body, answer.truncated) == (503, b"busy", False)
    assert answer.headers["retry-AFTER"] == "7"
    assert answer.ms >= 0


async def test_a_signed_url_is_requested_byte_for_byte() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    async with serving(handler) as url, client() as http:
        for path in ("/a%2Fb/%7e?sig=a%2Fb+c%20d&x=%e2%21!", "/a//b/./c;v=1?%61=b&&"):
            assert (await http.request("GET", url + path)).body.decode() == path


async def test_no_cookie_comes_back() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("Cookie", "none"), headers={"Set-Cookie": "a=b; Path=/"})

    async with serving(handler) as url, client() as http:
        await http.request("GET", url)
        assert (await http.request("GET", url)).body == b"none"


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(echo) as url, client() as http:
        assert (await http.request("GET", url)).status == 200


async def test_a_form_is_urlencoded_with_its_length() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-www-form-urlencoded"
        assert request.content_length is not None
        fields = await request.post()
        return web.Response(text=repr(list(fields.items())))

    async with serving(handler) as url, client() as http:
        form = [("a", "1 & 2"), ("ü", "é"), ("a", "")]
        assert (await http.request("POST", url, form=form)).body.decode() == repr(form)
        assert (await read(http.stream("POST", url, form=form, deadline=5, max_bytes=999))).decode() == repr(form)


async def test_a_multipart_form_has_a_known_length_and_the_right_parts(tmp_path: Path) -> None:
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(bytes(range(256)) * 4096)
    seen: list[tuple[str | None, str | None, str, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        assert "Transfer-Encoding" not in request.headers
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            assert isinstance(part, BodyPartReader)
            seen.append((part.name, part.filename, part.headers.get("Content-Type", ""), bytes(await part.read())))
        return web.Response(text=request.headers["Content-Length"])

    parts = [
        Part("sync", "0"),
        Part("ü", "grün", content_type="text/plain; charset=utf-8"),
        Part("file", picture, content_type="image/jpeg"),
        Part("mask", b"\x00\r\n--", filename='a"b.png'),
    ]
    async with serving(handler) as url, client() as http:
        answer = await http.request("POST", url, parts=parts)
    assert int(answer.body) > 1 << 20
    assert (
        seen
        == [
            ("sync", None, "", b"0"),
            ("ü", None, "text/plain; charset=utf-8", "grün".encode()),
            ("file", "cat.jpg", "image/jpeg", picture.read_bytes()),
            ("mask", "a%22b.png", "application/octet-stream", b"\x00\r\n--"),
        ]
        or seen[3][1] == 'a"b.png'
    )


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
async def test_a_file_goes_out_as_it_is_with_its_length_and_the_callers_headers_alone(
    tmp_path: Path, size: int
) -> None:
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(
            (request.method, {name.lower(): value for name, value in request.headers.items()}, await request.read())
        )
        return web.Response(status=201)

    async with serving(handler) as url, client() as http:
        own = {"Content-Type": "image/jpg", "x-amz-acl": "private"}
        assert (await http.request("PUT", f"{url}/slot?sig=a%2Fb", headers=own, body=picture)).status == 201
        await http.request("PUT", url, body=picture)
    for _, headers, body in seen:
        assert "transfer-encoding" not in headers
        assert int(headers["content-length"]) == size
        assert body == picture.read_bytes()
    (method, named, _), (_, bare, _) = seen
    assert (method, named["content-type"], named["x-amz-acl"]) == ("PUT", "image/jpg", "private")
    # Storages sign the Content-Type, an absent one too.
    assert "content-type" not in bare
    assert str(picture) not in _open_files()


async def test_an_upload_that_is_refused_midway_leaves_no_open_file(tmp_path: Path) -> None:
    picture = tmp_path / "huge.bin"
    with picture.open("wb") as file:
        file.truncate(64 << 20)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        await writer.drain()
        await reader.read(1 << 20)

    async with talking(talk) as url, client() as http:
        call = http.request("POST", url, parts=[Part("file", picture)])
        [outcome] = await asyncio.gather(call, return_exceptions=True)
    # Which of the two comes first is the network's whim: the answer, or the end of the connection.
    if isinstance(outcome, Answer):
        assert outcome.status == 413
    else:
        assert isinstance(outcome, TransportError)
        assert (outcome.kind, outcome.sent) == ("broken", True)
    assert str(picture) not in _open_files()


async def test_an_upload_that_hangs_leaves_no_open_file(tmp_path: Path) -> None:
    picture = tmp_path / "huge.bin"
    with picture.open("wb") as file:
        file.truncate(64 << 20)

    async def talk(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with talking(talk) as url, client() as http:
        error = await fails(http.request("POST", url, parts=[Part("file", picture)], deadline=0.2), "timeout")
    assert error.sent
    assert str(picture) not in _open_files()


def _open_files() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


async def test_a_large_body_goes_out_without_a_warning() -> None:
    async def handler(request: web.Request) -> web.Response:
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        return web.Response(text=f"{size} {request.content_length}")

    async with serving(handler) as url, client() as http:
        answer = await http.request("POST", url, body=bytes(5 << 20))
    assert answer.body.decode() == f"{5 << 20} {5 << 20}"


async def test_a_request_has_one_body() -> None:
    async with client() as http:
        with pytest.raises(TypeError):
            await http.request("POST", "http://127.0.0.1:1/", body=b"", form=[])


# What comes back.


async def test_a_body_as_large_as_allowed_is_kept_and_one_byte_more_is_too_large() -> None:
    async with serving(answers(bytes(1000))) as url, client() as http:
        assert len((await http.request("GET", url, keep=1000)).body) == 1000
        error = await fails(http.request("GET", url, keep=999), "too_large")
        assert error.sent
        assert len(await read(http.stream("GET", url, deadline=5, max_bytes=1000))) == 1000
        await drains(http.stream("GET", url, deadline=5, max_bytes=999), "too_large")


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Connection: close"])
async def test_a_body_without_an_end_stops_at_the_cap(framing: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + framing.encode() + b"\r\n\r\n")
        chunk = bytes(4096)
        while True:
            writer.write(b"1000\r\n" + chunk + b"\r\n" if "chunked" in framing else chunk)
            await writer.drain()

    async with talking(talk) as url, client() as http:
        await fails(http.request("GET", url, keep=100_000), "too_large")
        await drains(http.stream("GET", url, deadline=5, max_bytes=100_000), "too_large")
        answer = await http.request("GET", url, keep=1024, cut=True)
        assert (answer.status, answer.truncated, len(answer.body)) == (200, True, 1024)
        # Without a cap in reach, the deadline is the end.
        error = await drains(http.stream("GET", url, deadline=0.2, max_bytes=1 << 40), "timeout")
        assert error.sent


async def test_a_gzip_bomb_stops_at_the_cap() -> None:
    small = gzip.compress(bytes(50 << 20))
    assert len(small) < 100_000
    async with serving(answers(small, **{"Content-Encoding": "gzip"})) as url, client() as http:
        await fails(http.request("GET", url), "too_large")
        answer = await http.request("GET", url, keep=1024, cut=True)
        assert (answer.body, answer.truncated) == (bytes(1024), True)
        largest = size = 0

        async def measure() -> None:
            nonlocal largest, size
            async with http.stream("GET", url, deadline=5, max_bytes=1 << 20) as stream:
                async for chunk in stream.chunks():
                    largest, size = max(largest, len(chunk)), size + len(chunk)

        with pytest.raises(TransportError, match="larger"):
            await measure()
    assert size <= 1 << 20
    assert largest <= 1 << 16


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "raw deflate", "two members"])
async def test_an_encoding_that_nobody_asked_for_is_undone(coding: str) -> None:
    text = b"hello world " * 50_000
    raw = zlib.compressobj(wbits=-15)
    encoded = {
        "deflate": zlib.compress(text),
        "raw deflate": raw.compress(text) + raw.flush(),
        "two members": gzip.compress(text[:99]) + gzip.compress(text[99:]),
    }.get(coding, gzip.compress(text))
    header = {"raw deflate": "deflate", "two members": "gzip"}.get(coding, coding)
    async with serving(answers(encoded, **{"Content-Encoding": header})) as url, client() as http:
        assert (await http.request("GET", url)).body == text
        assert await read(http.stream("GET", url, deadline=5, max_bytes=1 << 20)) == text


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", b"whatever"),
        ("gzip, gzip", gzip.compress(b"x", mtime=0)),
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(b"x", mtime=0)[:-5]),
    ],
)
async def test_a_body_that_cannot_be_decoded_is_broken_but_its_status_is_not_lost(coding: str, body: bytes) -> None:
    async with serving(answers(body, **{"Content-Encoding": coding})) as url, client() as http:
        assert (await fails(http.request("GET", url), "broken")).sent
        await drains(http.stream("GET", url, deadline=5, max_bytes=1 << 20), "broken")
        answer = await http.request("GET", url, cut=True)
        assert (answer.status, answer.truncated) == (200, True)


async def test_a_head_answer_that_tells_of_a_large_body_is_fine() -> None:
    async with serving(answers(bytes(5000))) as url, client() as http:
        answer = await http.request("HEAD", url, keep=10)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "5000")


# Small things.

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("1.5", 1.5), ("99999999", 99999999.0)),
        *(("-5", None), ("soon", None), ("", None), ("1e3", None), ("9" * 400, None), ("٣", None), ("inf", None)),
        *(("Tue, 14 Nov 2023 22:14:20 GMT", 60.0), ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0)),
        *(("Tue Nov 14 22:14:20 2023", 60.0), ("Tue, 14 Nov 2023 22:14:20 -0000", 60.0)),
        *(("Sun, 06 Nov 1994 08:49:37 GMT", 0.0), ("Tue, 99 Nov 2023 22:14:20 GMT", None), ("Tue, 14 Nov", None)),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert datetime.fromtimestamp(NOW / 1000, UTC).isoformat() == "2023-11-14T22:13:20+00:00"
    assert retry_after({"Retry-After": value}, NOW) == seconds
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_without_the_header_there_is_no_retry_after() -> None:
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://Example.COM/a?b", "https://example.com:443"),
        ("http://example.com.", "http://example.com:80"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://bücher.example/", "https://xn--bcher-kva.example:443"),
    ],
)
def test_an_origin_is_normalised(url: str, expected: str) -> None:
    assert origin(url) == expected
