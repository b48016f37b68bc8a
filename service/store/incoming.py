"""Bytes on their way in: streamed into a temp file and hashed, before an asset store keeps them under their hash."""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from schemas.asset import StoredFile

# `Incoming.bytes` hides the builtin inside its class.
Bytes: TypeAlias = bytes | bytearray

READ_CHUNK = 64 * 1024
# A hop into a thread costs about as much as copying 100 KiB: four hops a MiB are lost in the noise.
PER_HOP = 256 * 1024
# How many hashes a sweep asks about at once.
SWEEP_BATCH = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")

# Of their own: look-ups of names and whatever else uses the loop's default threads can't hold up a file.
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="files")

T = TypeVar("T")
I = TypeVar("I", bound="Incoming")  # noqa: E741 - one letter, as all type variables


def in_thread(work: Callable[..., T], *args: Any, **kwargs: Any) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(_THREADS, partial(work, *args, **kwargs))


def is_sha256(name: str) -> bool:
    return _SHA256.fullmatch(name) is not None


def place_of(sha256: str) -> str:
    """Where these bytes lie below a store's root: `ab/abcdef…`. ValueError unless it is 64 lower-case hex digits."""
    if not is_sha256(sha256):
        raise ValueError("a SHA-256 is 64 lower-case hex digits")
    return f"{sha256[:2]}/{sha256}"


class TooLarge(Exception):
    """More bytes came than the caller allows; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class Incoming:
    """Bytes on their way in, made by a store's `incoming`. One task writes; what is not kept is removed.

    `place` is called in a thread with the temp file, whole and fsynced.
    """

    def __init__(self, path: Path, max_bytes: int, place: Callable[[Path, StoredFile], None]) -> None:
        self.path = path
        """The temp file. It exists, and holds all that was written, after `flush`."""
        self._max_bytes = max_bytes
        self._place = place
        self._buffer = bytearray()
        self._received = 0
        self._kept: StoredFile | None = None
        # A cancelled await leaves its thread at work: the lock makes `discard` wait for it, for a descriptor closed
        # under a running write may already be somebody else's.
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._hash = hashlib.sha256()
        self._written = 0
        self._over = False

    @property
    def sha256(self) -> str:
        """Hex, of all that was written so far."""
        digest = self._hash.copy()
        digest.update(self._buffer)
        return digest.hexdigest()

    @property
    def bytes(self) -> int:
        """How many were written so far."""
        return self._received

    @property
    def placed(self) -> bool:
        """Whether the temp file has gone to its place."""
        return self._kept is not None

    async def write(self, chunk: Bytes) -> None:
        """Add bytes. TooLarge past the limit; OSError where the disk will not take them (ENOSPC when it is full)."""
        if self._over:
            raise ValueError("this file is already kept or dropped")
        if self._received + len(chunk) > self._max_bytes:
            raise TooLarge(self._max_bytes)
        self._received += len(chunk)
        self._buffer += chunk
        if len(self._buffer) >= PER_HOP:
            await self.flush()

    async def flush(self) -> None:
        """Hand all that was written to the system, so that `path` can be read. Not yet durable."""
        await in_thread(self._append, self._take())

    async def keep(self) -> StoredFile:
        """Make the file durable under its SHA-256; when this returns, no crash and no power cut loses it.

        If the same bytes are there already, their modification time is renewed, so that `sweep` spares them until the
        caller's row is committed. OSError where that fails: then nothing was kept.
        """
        if self._kept is None:
            self._kept = await in_thread(self._finish, self._take())
        return self._kept

    def discard(self) -> None:
        """Close, and remove the temp file if it is still there. Blocking; waits for a thread still at work."""
        with self._lock:
            self._over = True
            self._close()
            self.path.unlink(missing_ok=True)

    def _take(self) -> bytearray:
        taken, self._buffer = self._buffer, bytearray()
        return taken

    def _append(self, data: bytearray) -> None:
        with self._lock:
            # Overtaken by `discard` after a cancellation: nobody waits for us, and the file must not come back.
            if self._over:
                return
            try:
                if self._fd is None:
                    self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                left = memoryview(data)
                while left:
                    left = left[os.write(self._fd, left) :]
            except OSError as error:
                why = os.strerror(error.errno or errno.EIO)
                raise OSError(error.errno, f"The asset store cannot write: {why}", str(self.path.parent)) from error
            self._hash.update(data)
            self._written += len(data)

    def _finish(self, data: bytearray) -> StoredFile:
        self._append(data)
        with self._lock:
            # A write that failed or was cancelled half-way, and whose caller went on: the name would be a lie.
            if self._over or self._fd is None or self._written != self._received:
                raise OSError(errno.EIO, "An earlier write failed: the file is not whole", str(self.path.parent))
            stored = StoredFile(self._hash.hexdigest(), self._written)
            # The age that `sweep` judges begins now, not with the last byte of a slow upload.
            os.utime(self._fd)
            os.fsync(self._fd)
            self._over = True
            self._close()
            self._place(self.path, stored)
            return stored

    def _close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


@contextlib.asynccontextmanager
async def taken_in(incoming: I) -> AsyncIterator[I]:
    """The temp file is removed unless it went to its place, whatever happens."""
    try:
        yield incoming
    finally:
        if not incoming.placed:
            # Shielded: a second cancellation must not take the clean-up back out of the thread pool's queue.
            await asyncio.shield(in_thread(incoming.discard))


def modified_ms(stat: os.stat_result) -> int:
    return stat.st_mtime_ns // 1_000_000


def older_in(folder: Path, before: int) -> Sequence[str]:
    """The names of the files in `folder` that were last modified before `before` (milliseconds)."""
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            # One that vanishes between the listing and the look was kept or dropped: none of our business.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and modified_ms(entry.stat(follow_symlinks=False)) < before:
                    names.append(entry.name)
    return names
