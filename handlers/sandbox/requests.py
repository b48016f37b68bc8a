"""What reaches a sandbox: one request, read to its end, and what a test may know of it afterwards."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web

Found = TypeVar("Found")

_ENCODINGS: Mapping[str, str] = {"multipart/form-data": "multipart", "application/x-www-form-urlencoded": "urlencoded"}


@dataclass(frozen=True)
class Upload:
    """One file part."""

    name: str
    content_type: str
    data: bytes


@dataclass(frozen=True)
class Seen:
    """One request, for tests. Credentials are replaced by "***", files by their name and size.

    `at` is the arrival by the sandbox's monotonic clock, in seconds; `query_names` tells which fields came in the URL.
    """

    at: float
    endpoint: str
    method: str
    path: str
    fields: Mapping[str, str]
    query_names: frozenset[str]


@dataclass(frozen=True)
class Asked:
    """One request, whole. `encoding` of its body: multipart, urlencoded, other (then `body` has it), or none."""

    request: web.Request
    endpoint: str
    at: float
    encoding: str
    fields: Mapping[str, str]
    query_names: frozenset[str]
    files: Mapping[str, Upload]
    repeated: frozenset[str]
    body: bytes = b""
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # the vendor has said, or lost, its answer

    def seen(self, secrets: frozenset[str]) -> Seen:
        told = {name: "***" if name in secrets else value for name, value in self.fields.items()}
        told |= {name: f"<{file.name}, {len(file.data)} bytes>" for name, file in self.files.items()}
        request = self.request
        return Seen(self.at, self.endpoint, request.method, request.path, told, self.query_names)


async def read(request: web.Request, endpoint: str, at: float) -> Asked:
    """Read the whole request. Raises ValueError for a malformed body, web.HTTPException for an oversized one."""
    encoding = _ENCODINGS.get(request.content_type, "other") if request.can_read_body else "none"
    form = await request.post()
    body = await request.read() if encoding == "other" else b""
    # By items: the keys alone are told once each, however often they were given.
    names = [name for pairs in (request.query, form) for name, _ in pairs.items()]
    files: dict[str, Upload] = {}
    fields: dict[str, str] = dict(request.query)
    for name, value in form.items():
        if isinstance(value, web.FileField):
            with value.file as file:
                files[name] = Upload(value.filename, value.content_type, file.read())
        else:
            fields[name] = value if isinstance(value, str) else bytes(value).decode(errors="replace")
    return Asked(
        request=request,
        endpoint=endpoint,
        at=at,
        encoding=encoding,
        fields=fields,
        query_names=frozenset(request.query),
        files=files,
        repeated=frozenset(name for name in names if names.count(name) > 1),
        body=body,
    )


class Bell:
    """Wakes whoever waits for something to become true, without sleeping or asking again and again."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    async def until(self, find: Callable[[], Found | None]) -> Found:
        while (found := find()) is None:
            await self._rung.wait()
        return found
