"""Uploads: multipart forms and raw bodies, capped, and kept as files before anything is acknowledged."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from schemas.asset import ImageInfo, StoredFile
from schemas.problem import Problem
from service import images
from service.web.site import MAX_JSON_BYTES, Site, refuse_by_length, too_large

MAX_PARTS = 10
_COPY_CHUNK = 256 * 1024


class _Parser(MultiPartParser):
    """Starlette's drops a part that was not finished: a request that broke off would pass for a whole one."""

    def __init__(self, request: Request, limit: int) -> None:
        super().__init__(
            request.headers,
            self._to_the_end(request.stream(), limit),
            max_files=MAX_PARTS,
            max_fields=MAX_PARTS,
            max_part_size=MAX_JSON_BYTES,
        )
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    async def _to_the_end(self, stream: AsyncIterator[bytes], limit: int) -> AsyncGenerator[bytes, None]:
        total = 0
        async for chunk in stream:
            total += len(chunk)
            if total > limit:
                raise too_large(limit)
            yield chunk
        if not self._ended:
            raise MultiPartException("it breaks off before its end")


@asynccontextmanager
async def read_form(request: Request, site: Site) -> AsyncIterator[FormData]:
    """The parts of a multipart body; large ones lie in temporary files, which go away at the end."""
    refuse_by_length(request, site.max_upload_bytes)
    try:
        form = await _Parser(request, site.max_upload_bytes).parse()
    except MultiPartException as error:
        reason = error.message.rstrip(".")
        raise Problem(400, "bad_multipart", f"The multipart body can't be read: {reason}.") from None
    try:
        yield form
    finally:
        await form.close()


async def part_chunks(part: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await part.read(_COPY_CHUNK):
        yield chunk


async def keep(chunks: AsyncIterator[bytes], site: Site) -> tuple[StoredFile, ImageInfo]:
    """Bytes made durable; only pictures are kept. Raises NotAnImage, TooLarge."""
    async with site.core.files.incoming(site.max_upload_bytes) as incoming:
        async for chunk in chunks:
            await incoming.write(chunk)
        await incoming.flush()
        image = await images.inspect(incoming.path)
        return await incoming.keep(), image


def clean_name(name: str | None) -> str | None:
    """A file name for people, never for a path."""
    if not name:
        return None
    last = re.split(r"[/\\]", name)[-1]
    return "".join(character for character in last if character.isprintable())[:200] or None
