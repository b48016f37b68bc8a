"""Bytes in a bucket: the asset store for `ASSETS_URL=s3://bucket/prefix`.

Addressed by content like the local one, `<prefix>/ab/abcdef…`. Bytes come into a local temp file first: they are looked
at there before anything is kept. `keep` puts them, and a put is whole or not at all; when it has succeeded they are
durable, and only then a row may speak of them. What the bucket says no to, or nothing, is StoreUnavailable: the same
call may succeed later, so jobs wait.

Credentials, region and endpoint are those of the AWS tools: AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, or the
instance's role.
"""

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from schemas.asset import StoredFile
from service.store.database import StoreUnavailable
from service.store.files import OWNER
from service.store.incoming import (
    READ_CHUNK,
    SWEEP_BATCH,
    Incoming,
    in_thread,
    is_sha256,
    older_in,
    place_of,
    taken_in,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# One request a block, so that a slow reader holds no connection open and a broken one costs one block.
_PER_GET = 4 * 1024 * 1024
# Above it a file goes in parts, so that no whole one stands in memory.
_PER_PUT = 8 * 1024 * 1024
_PART = 5 * 1024 * 1024  # S3 takes no smaller ones
_PARTS_AT_ONCE = 4

# Hiccups are overcome here; a bucket that is away for longer is told to the caller, whose clock decides.
_RETRY: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
_CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),  # of the answer, and of a part on its way: 280 kB a second will do
    "timeout": timedelta(minutes=2),
}

# Of their own: a bucket that hangs holds up no file. They end with the process, which waits for them.
_THREADS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="bucket")
T = TypeVar("T")

_NO_BUCKET = "there is no such bucket"  # a write finds nothing else missing
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
# The library's own words hold addresses and may hold key ids: ours are chosen by what they contain.
_WORDS = (
    ("dns error", "its host's name is not found"),
    ("certificate", "its certificate is not trusted; a private root goes into CA_FILE"),
    ("Connection refused", "the connection is refused"),
    ("kind: Timeout", "it does not answer in time"),
    ("TimedOut", "it does not answer in time"),
    ("redirect", "it is in another region; set AWS_REGION"),
    ("BadScheme", "its address is plain http, which needs AWS_ALLOW_HTTP=true"),
)
_TRUE = frozenset({"1", "true", "yes", "on", "y"})


class Bucket:
    """The asset store in a bucket. `spool`: a local folder for temp files (0700); `url`: `s3://bucket/prefix`.

    ValueError, which shows no value, where the environment or `ca_file` can't be used.
    """

    def __init__(self, url: str, spool: Path, ca_file: Path | None = None) -> None:
        client: ClientConfig = {**_CLIENT}
        # With options of our own the library no longer looks for this one in the environment.
        if os.environ.get("AWS_ALLOW_HTTP", "").lower() in _TRUE:
            client["allow_http"] = True
        try:
            if ca_file is not None:
                client["root_certificate"] = ca_file.read_bytes()
            self._bucket = S3Store.from_url(url, client_options=client, retry_config=_RETRY)
        except BaseError:
            raise ValueError("one of the AWS_… variables holds what is not understood") from None
        except (OSError, ValueError):
            raise ValueError("CA_FILE holds no certificates") from None
        self._spool = spool
        # Of one hash at a time: a sweep must not delete what is just being kept anew.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def incoming(self, max_bytes: int) -> AsyncIterator[Incoming]:
        """Take bytes in, at most `max_bytes`. `keep` raises StoreUnavailable, and may then be called again."""
        async with self._temp(max_bytes) as upload:
            yield upload

    async def exists(self, stored: StoredFile) -> bool:
        """Whether these bytes are here, and all of them."""
        try:
            return await self._size(stored.sha256) == stored.bytes
        except FileNotFoundError:
            return False

    async def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not with, `end` (None: to the last), in chunks of at most 64 KiB.

        FileNotFoundError if there is no such object. A range beyond the end is cut at the end.
        """
        key, size = place_of(sha256), await self._size(sha256) if end is None else end
        at = start
        while at < size:
            block, whole = await _asked("read", self._get, key, (at, min(at + _PER_GET, size)))
            size = min(size, whole)
            at += len(block)
            for first in range(0, len(block), READ_CHUNK):
                yield bytes(block[first : first + READ_CHUNK])

    @contextlib.asynccontextmanager
    async def local(self, stored: StoredFile) -> AsyncIterator[Path]:
        """A copy to read from, for as long as the context lasts. FileNotFoundError where the bytes are not whole."""
        async with self._temp(stored.bytes) as copy:
            async for chunk in self.read(stored.sha256, 0, stored.bytes):
                await copy.write(chunk)
            await copy.flush()
            if copy.sha256 != stored.sha256:
                raise FileNotFoundError(f"{stored.sha256} is damaged in the bucket")
            yield copy.path

    async def claim(self, owner: str) -> str:
        """Mark this prefix as the `owner`'s, unless it is marked already; whose it is."""
        before = await self.owner()
        if before is not None:
            return before
        await _asked("written to", self._put_first, OWNER, owner.encode(), missing=_NO_BUCKET)
        # Another may have been faster.
        return await self.owner() or owner

    async def owner(self) -> str | None:
        """Whose they are; None where nobody has claimed them."""
        try:
            mark, _ = await _asked("read", self._get, OWNER)
        except FileNotFoundError:
            return None
        return bytes(mark).decode(errors="replace")

    async def delete(self, sha256: str) -> None:
        """Remove these bytes, whoever may be about to keep them again; no error if they are gone."""
        await _asked("deleted from", obstore.delete, self._bucket, place_of(sha256))

    async def sweep(self, known: Callable[[Sequence[str]], Awaitable[set[str]]], older_than_ms: int, now: int) -> int:
        """Remove what a crash or an expiry left behind; how many files went. The rules are those of the local store.

        Ages are by the bucket's clock, which may be off by far less than `older_than_ms`. What another process puts
        anew between our last look at an object and its deletion, some milliseconds, would be lost: of hashes that no
        row has known for that long.
        """
        before = now - older_than_ms
        removed = await in_thread(_remove_older, self._spool, before)
        old: list[str] = []
        pages = obstore.list(self._bucket, chunk_size=1000)
        while (entries := await _asked("listed", next, pages, None)) is not None:
            names = ((entry["path"].rpartition("/")[2], entry) for entry in entries)
            old += [
                name
                for name, entry in names
                if is_sha256(name) and entry["path"] == place_of(name) and _ms(entry["last_modified"]) < before
            ]
            while len(old) >= SWEEP_BATCH:
                removed += await self._remove_unknown(old[:SWEEP_BATCH], known, before)
                del old[:SWEEP_BATCH]
        return removed + await self._remove_unknown(old, known, before)

    async def _remove_unknown(
        self, names: Sequence[str], known: Callable[[Sequence[str]], Awaitable[set[str]]], before: int
    ) -> int:
        needed = await known(names) if names else set()
        # Shielded: a deletion that has begun keeps its lock to its end.
        return sum([await asyncio.shield(self._remove(name, before)) for name in names if name not in needed])

    async def _remove(self, sha256: str, before: int) -> bool:
        async with self._lock(sha256):
            try:
                # Looked at again: it may have been kept anew since it was listed.
                found = await _asked("read", obstore.head, self._bucket, place_of(sha256))
            except FileNotFoundError:
                return False
            if _ms(found["last_modified"]) >= before:
                return False
            await self.delete(sha256)
        return True

    async def put(self, path: Path, stored: StoredFile) -> None:
        """Durable when this returns. The same bytes are put again, whatever is there: that mends a damaged object
        and renews the age that `sweep` judges, which a put on condition would leave old.
        """
        async with self._lock(stored.sha256):
            await _asked("written to", self._put, place_of(stored.sha256), path, stored.bytes, missing=_NO_BUCKET)

    async def _size(self, sha256: str) -> int:
        return (await _asked("read", obstore.head, self._bucket, place_of(sha256)))["size"]

    # In a thread each, as all of the library's calls: its own futures run on threads that may reach for Python after
    # it has ended, which ends a process that was to end well with an abort.

    def _get(self, key: str, between: tuple[int, int] | None = None) -> tuple[memoryview, int]:
        """The bytes, of a range or all, and the object's size."""
        got = obstore.get(self._bucket, key, options=None if between is None else {"range": between})
        return memoryview(got.bytes()), got.meta["size"]

    def _put(self, key: str, path: Path, size: int) -> None:
        many = size > _PER_PUT
        obstore.put(self._bucket, key, path, use_multipart=many, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE)

    def _put_first(self, key: str, content: bytes) -> None:
        # Where it exists, another was faster, or our own first try had arrived after all.
        with contextlib.suppress(AlreadyExistsError):
            obstore.put(self._bucket, key, content, mode="create")

    def _lock(self, sha256: str) -> asyncio.Lock:
        return self._locks.setdefault(sha256, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def _temp(self, max_bytes: int) -> AsyncIterator["_Upload"]:
        await in_thread(self._spool.mkdir, mode=0o700, parents=True, exist_ok=True)
        async with taken_in(_Upload(self, self._spool / secrets.token_hex(16), max_bytes)) as upload:
            yield upload


class _Upload(Incoming):
    """The temp file stays until the context ends: it is what a put that failed is tried again from."""

    placed = False  # never: the bucket has a copy

    def __init__(self, bucket: Bucket, path: Path, max_bytes: int) -> None:
        super().__init__(path, max_bytes, lambda _path, _stored: None)
        self._bucket = bucket

    async def keep(self) -> StoredFile:
        stored = await super().keep()
        await self._bucket.put(self.path, stored)
        return stored


async def _asked(done: str, call: Callable[..., T], /, *args: Any, missing: str = "") -> T:
    """The library's errors as StoreUnavailable in words of ours; FileNotFoundError passes unless `missing` names it."""
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, call, *args)
    except FileNotFoundError:
        if missing:
            raise StoreUnavailable(f"the bucket can't be {done}: {missing}") from None
        raise
    except BaseError as error:
        raise StoreUnavailable(f"the bucket can't be {done}: {_reason(error)}") from None


def _reason(error: BaseError) -> str:
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    if code is not None or status is not None:
        return f"it answers {' '.join(found[1] for found in (status, code) if found is not None)}"
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return "the credentials are refused"
    return next((words for sign, words in _WORDS if sign in text), "it does not answer")


def _remove_older(folder: Path, before: int) -> int:
    names = older_in(folder, before)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    return len(names)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
