"""The other side of the wire: what the command line uses to talk to a running Wirephoto."""

import asyncio
import contextlib
import hashlib
import io
import json
import mimetypes
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

PREFER_WAIT_SECONDS = 30
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 60.0  # how long a server may be away while a job is waited for: a restart is no reason to give up
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 90.0  # longer than any `Prefer: wait`
_STREAM_SILENCE_SECONDS = 50.0  # a stream's heart beats every 15
_CHUNK = 64 * 1024
_TRANSIENT = frozenset({429, 502, 503, 504})
PAGE = 200  # the most entries that a list answers with at once

Json = dict[str, Any]


class ProblemAnswer(Exception):
    """The server said no. `errors` names each faulty field with its reason."""

    def __init__(self, status: int, detail: str, errors: Sequence[Mapping[str, str]] = (), kind: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.kind = kind

    def as_json(self) -> Json:
        return {"type": self.kind, "status": self.status, "detail": self.detail, "errors": list(self.errors)}


class Unreachable(Exception):
    """No answer came at all; the text names the server."""


class Damaged(Exception):
    """What was downloaded is not what the server says it holds. Worth trying again."""


class _Counted(io.FileIO):
    """A file that tells how many bytes were taken from it."""

    def __init__(self, path: Path, told: Callable[[int], None]) -> None:
        super().__init__(path)
        self._told = told

    def readinto(self, buffer: Any, /) -> int:
        taken = super().readinto(buffer) or 0
        self._told(taken)
        return taken


def passing(error: Exception) -> bool:
    """Whether the same request may go through a little later."""
    return error.status in _TRANSIENT if isinstance(error, ProblemAnswer) else isinstance(error, Unreachable)


def place(collection: str, name: str, *more: str) -> str:
    """The path of one thing: `place("/v1/jobs", "job_…", "retry")`. What a person typed stays one part of it."""
    return "/".join((collection, quote(name, safe=""), *more))


def ended(job: Mapping[str, Any]) -> bool:
    """Whether the job will not change any more."""
    return job["finished_at"] is not None


class Client:
    """One server and one key, which goes to this server only. Use it with `async with`.

    Every call raises ProblemAnswer where the server says no, and Unreachable where it says nothing.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": "wirephoto-cli"})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **query: str | int) -> Any:
        return await self._json("GET", path, params=query)

    async def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        return await self._json("POST", path, json=body, headers=_once(idempotency_key))

    async def delete(self, path: str) -> None:
        await self._json("DELETE", path)

    async def all(self, path: str, most: int | None = None, **query: str | int) -> list[Json]:
        """Every entry of a list, over all its pages; or the first `most`."""
        found: list[Json] = []
        while True:
            left = PAGE if most is None else min(PAGE, most - len(found))
            page = await self.get(path, **query, limit=left)
            found += page["data"]
            if page["next"] is None or len(found) == most:
                return found
            query["after"] = page["next"]

    async def submit(
        self,
        job: Mapping[str, Any],
        files: Mapping[str, Path],
        *,
        idempotency_key: str | None = None,
        wait: bool = False,
        uploaded: Callable[[int], None] = lambda _: None,
    ) -> Json:
        """Submit a job; its files (input name → path) are streamed, `uploaded` is told of each piece's bytes.

        `wait` lets the server hold its answer for up to 30 s until the job has ended. `uploaded` may be called from
        another thread. OSError where a file can't be read.
        """
        headers = _once(idempotency_key)
        if wait:
            headers["Prefer"] = f"wait={PREFER_WAIT_SECONDS}"
        with contextlib.ExitStack() as stack:
            if not files:
                return await self._made("/v1/jobs", headers, json=job)
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("job", json.dumps(job), content_type="application/json")
            for name, path in files.items():
                raw = stack.enter_context(_Counted(path, uploaded))
                content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                reader = stack.enter_context(io.BufferedReader(raw, _CHUNK))
                form.add_field(name, reader, filename=_plain(path.name), content_type=content_type)
            return await self._made("/v1/jobs", headers, data=form)

    async def _made(self, path: str, headers: Mapping[str, str], **body: Any) -> Json:
        made: Json = await self._json("POST", path, headers=headers, **body)
        return made

    async def job(self, job_id: str) -> Json:
        found: Json = await self.get(place("/v1/jobs", job_id))
        return found

    async def wait(self, job: Json, told: Callable[[Json], None] = lambda _: None) -> Json:
        """Ask each second until the job has ended; `told` hears every answer.

        A server that is away is given 60 s to come back: the job goes on without us.
        """
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        told(job)
        while not ended(job):
            await asyncio.sleep(POLL_SECONDS)
            try:
                job = await self.job(job["id"])
            except (Unreachable, ProblemAnswer) as error:
                if not passing(error) or loop.time() - heard_at > PATIENCE_SECONDS:
                    raise
            else:
                heard_at = loop.time()
                told(job)
        return job

    async def download(self, address: str, target: Path, sha256: str) -> int:
        """Fetch a result into `target`, whole or not at all; how many bytes it has.

        `address` is a path on this server, or one of its signed links, which needs no key and gets none. Raises
        Damaged where the bytes are not the ones that `sha256` (hex) stands for, OSError where they can't be written.
        """
        part = target.with_name(f".{target.name}.part")
        digest, size = hashlib.sha256(), 0
        try:
            async with self._request("GET", address) as answer:
                # Small pieces into the page cache: a thread for each would cost more than it frees.
                with part.open("wb") as file:
                    async for chunk in answer.content.iter_chunked(_CHUNK):
                        digest.update(chunk)
                        size += file.write(chunk)
            if digest.hexdigest() != sha256:
                raise Damaged(f"{target.name}: the bytes that came are not the result's")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return size

    async def messages(self, path: str) -> AsyncGenerator[tuple[str, str], None]:
        """A stream's Server-Sent Events, each as its kind and its data, until the server ends it; the first is `open`.

        One that is silent for longer than three heartbeats is Unreachable.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_STREAM_SILENCE_SECONDS)
        async with self._request("GET", path, timeout=timeout) as answer:
            yield "open", ""
            held, kind, data = bytearray(), "message", list[str]()
            async for piece in answer.content.iter_any():
                held += piece
                *lines, rest = held.split(b"\n")
                held = bytearray(rest)
                for line in lines:
                    name, _, value = line.decode().partition(":")
                    if name == "event":
                        kind = value.removeprefix(" ")
                    elif name == "data":
                        data.append(value.removeprefix(" "))
                    elif not line:
                        if data:
                            yield kind, "\n".join(data)
                        kind, data = "message", []

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        async with self._request(method, path, **options) as answer:
            body = await answer.read()
        if not body:
            return None
        try:
            return json.loads(body)
        except ValueError:
            raise ProblemAnswer(answer.status, f"{self.url} does not speak JSON: is this a Wirephoto?") from None

    @contextlib.asynccontextmanager
    async def _request(self, method: str, address: str, **options: Any) -> Any:
        assert self._session is not None, "use the client with `async with`"
        ours = address.startswith("/")
        headers = {**options.pop("headers", {})}
        if ours and self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        url = self.url + address if ours else address
        try:
            # A redirect would turn a POST into a GET, or carry the key to somebody else.
            async with self._session.request(method, url, headers=headers, allow_redirects=False, **options) as answer:
                if answer.status >= 300:
                    raise _problem(answer.status, await answer.read())
                yield answer
        except aiohttp.InvalidURL:
            raise Unreachable(f"{self.url} is not a URL") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"no answer from {self.url}: {cause(error)}") from None


def _once(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key} if key else {}


def _problem(status: int, body: bytes) -> ProblemAnswer:
    if 300 <= status < 400:
        return ProblemAnswer(status, f"the server answered {status}, a redirect: give the address it moved to")
    try:
        said = json.loads(body)
        return ProblemAnswer(status, said["detail"], said.get("errors", ()), said.get("type", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ProblemAnswer(status, f"the server answered {status}, and not like a Wirephoto")


def cause(error: Exception) -> str:
    """Why no answer came, in a few words."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, aiohttp.ClientConnectorError):
        fault = error.os_error
        # asyncio's own text repeats the address; a fault of name resolution has a number of another kind, below zero.
        if fault.errno is not None and fault.errno > 0:
            return os.strerror(fault.errno)
        return fault.strerror or "the connection failed"
    return "the connection was lost"


def _plain(name: str) -> str:
    """A file name that can stand between quotes in a header."""
    return "".join("_" if sign in '"\\' or not sign.isprintable() else sign for sign in name)
