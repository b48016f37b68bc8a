"""What `handlers/http.py` puts into a request and takes out of an answer: bodies of known length, bounded decoding."""

import asyncio
import os
import secrets
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode

from aiohttp import ClientResponse
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import TOO_LARGE_BYTES_BODY, Payload

_READ = 1 << 18  # one hop to a thread for each 256 KiB of a file
_PIECE = 1 << 16  # how much a decoder may inflate before the caller looks at its cap again

# zlib's window bits: 31 wants a gzip header, 15 a zlib header, -15 neither.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW = -15

# As browsers write names in a form (HTML Standard, "multipart/form-data").
_QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart form; a `Path` is streamed from disk. A part with a filename is a file."""

    name: str
    value: str | bytes | Path
    filename: str | None = None
    content_type: str | None = None


class Segments(Payload):
    """Bytes and open files, one after the other, their whole length known beforehand. The caller closes the files."""

    _default_content_type = "application/octet-stream"
    _autoclose = True  # there is nothing that aiohttp has to close

    def __init__(self, segments: Sequence[bytes | BinaryIO], content_type: str | None = None) -> None:
        super().__init__(segments, content_type=content_type)
        self._segments = [(segment, _length(segment)) for segment in segments]
        self._size = sum(length for _, length in self._segments)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for segment, length in self._segments:
            if isinstance(segment, bytes):
                for start in range(0, length, _READ):
                    await writer.write(segment[start : start + _READ])
                continue
            left = length
            while left:
                piece = await asyncio.to_thread(segment.read, min(left, _READ))
                if not piece:
                    # The length is announced already: better no request than one padded or cut.
                    raise OSError("the file became shorter while it was sent")
                left -= len(piece)
                await writer.write(piece)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        raise TypeError("a body of files is only ever streamed")


def _length(segment: bytes | BinaryIO) -> int:
    return len(segment) if isinstance(segment, bytes) else os.fstat(segment.fileno()).st_size


def _field_head(boundary: str, name: str, filename: str | None, content_type: str | None) -> bytes:
    """What stands before a part's value (RFC 7578). A plain field has no content type, as browsers send it."""
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{name.translate(_QUOTED)}"']
    if filename is not None:
        lines[1] += f'; filename="{filename.translate(_QUOTED)}"'
        content_type = content_type or "application/octet-stream"
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def payload(
    body: bytes | Path | None,
    form: Sequence[tuple[str, str]] | None,
    parts: Sequence[Part] | None,
    files: ExitStack,
) -> bytes | Payload | None:
    """What aiohttp sends for a request's body, of known length. The files it opens are closed with `files`."""
    if sum(given is not None for given in (body, form, parts)) > 1:
        raise TypeError("a request has one body")
    if isinstance(body, Path):
        return Segments([files.enter_context(body.open("rb"))])
    if body is not None:
        # aiohttp warns of large bytes, for it writes them in one piece; in pieces they don't hold the loop up.
        return body if len(body) <= TOO_LARGE_BYTES_BODY else Segments([body])
    if form is not None:
        return urlencoded(form)
    if parts is not None:
        return _multipart(parts, files)
    return None


def urlencoded(form: Sequence[tuple[str, str]]) -> Segments:
    return Segments([urlencode(form).encode()], "application/x-www-form-urlencoded")


def _multipart(parts: Sequence[Part], files: ExitStack) -> Segments:
    boundary = secrets.token_hex(16)
    segments: list[bytes | BinaryIO] = []
    for part in parts:
        filename = part.filename
        value: bytes | BinaryIO
        if isinstance(part.value, Path):
            filename = filename or part.value.name
            value = files.enter_context(part.value.open("rb"))
        else:
            value = part.value.encode() if isinstance(part.value, str) else part.value
        segments += [_field_head(boundary, part.name, filename, part.content_type), value, b"\r\n"]
    segments.append(f"--{boundary}--\r\n".encode())
    return Segments(segments, f"multipart/form-data; boundary={boundary}")


class Inflate:
    """Undoes one `Content-Encoding` in small pieces, so that a bomb ends at its reader's cap.

    Raises ValueError for a coding that we never asked for and don't know, and zlib.error for bytes that are none.
    """

    def __init__(self, coding: str) -> None:
        if coding not in _WINDOWS:
            raise ValueError(f"the content encoding {coding[:40]!r} is not supported")
        self._window = _WINDOWS[coding]
        self._decoder: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._decoder is None or self._decoder.eof:
                if self._window == 15 and data[0] & 15 != 8:
                    # "deflate" should have a zlib header; some servers send the bare stream.
                    self._window = _RAW
                # After an end there may be another gzip member.
                self._decoder = zlib.decompressobj(self._window)
            piece = self._decoder.decompress(data, _PIECE)
            # At most one of the two is not empty.
            data = self._decoder.unconsumed_tail or self._decoder.unused_data
            if piece:
                yield piece

    def finish(self) -> None:
        """Raises ValueError where the stream ended in its middle."""
        if self._decoder is not None and not self._decoder.eof:
            raise ValueError("the encoded body is incomplete")


async def pieces(response: ClientResponse, end: float) -> AsyncGenerator[bytes, None]:
    """The body, decoded in small pieces so that a caller may stop at its cap. `end` is in the loop's time."""
    loop = asyncio.get_running_loop()
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    inflate = None if coding in ("", "identity") else Inflate(coding)
    content = response.content
    while not content.at_eof():
        if loop.time() >= end:
            # A body that is always there when we look never lets the timer below fire.
            raise TimeoutError
        # Most small answers came in one piece with their head; a timer for nothing costs as much as a signature.
        data = content.read_nowait()
        if not data:
            async with asyncio.timeout_at(end):
                data = await content.readany()
        if inflate is not None:
            for piece in inflate.feed(data):
                yield piece
        elif data:
            yield data
    if inflate is not None:
        inflate.finish()
