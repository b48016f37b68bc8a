"""Bytes on disk: every picture we hold, before any row speaks of it.

The store is addressed by content: `<root>/ab/abcdef…`, the SHA-256 in hex. Bytes are first streamed into a temp file in
`<root>/incoming/`, hashed on the way; `keep` makes them durable and renames them into place. So a kill at any
instruction leaves nothing, a temp file or the whole file, never half of one under its name, and whatever no row came
to know is swept.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from schemas.asset import StoredFile

# `Incoming.bytes` hides the builtin inside its class.
Bytes: TypeAlias = bytes | bytearray

READ_CHUNK = 64 * 1024
# A hop into a thread costs about as much as copying 100 KiB: four hops a MiB are lost in the noise.
_PER_HOP = 256 * 1024
_SWEEP_BATCH = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[0-9a-f]{2}")


# Of their own: look-ups of names and whatever else uses the loop's default threads can't hold up a file.
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="files")

T = TypeVar("T")


def _in_thread(work: Callable[..., T], *args: Any, **kwargs: Any) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(_THREADS, partial(work, *args, **kwargs))


class TooLarge(Exception):
    """More bytes came than the caller allows; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class Incoming:
    """Bytes on their way in, made by `FileStore.incoming`. One task writes; what is not kept is removed."""

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

    async def write(self, chunk: Bytes) -> None:
        """Add bytes. TooLarge past the limit; OSError where the disk will not take them (ENOSPC when it is full)."""
        if self._over:
            raise ValueError("this file is already kept or dropped")
        if self._received + len(chunk) > self._max_bytes:
            raise TooLarge(self._max_bytes)
        self._received += len(chunk)
        self._buffer += chunk
        if len(self._buffer) >= _PER_HOP:
            await self.flush()

    async def flush(self) -> None:
        """Hand all that was written to the system, so that `path` can be read. Not yet durable."""
        await _in_thread(self._append, self._take())

    async def keep(self) -> StoredFile:
        """Make the file durable under its SHA-256; when this returns, no crash and no power cut loses it.

        If the same bytes are there already, their modification time is renewed, so that `sweep` spares them until the
        caller's row is committed. OSError where that fails: then nothing was kept.
        """
        if self._kept is None:
            self._kept = await _in_thread(self._finish, self._take())
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


class FileStore:
    """The asset store in a local folder (`ASSETS_URL` `file://`): folders 0700, files 0600."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        # Folders whose own entry this process has made durable. To find one there is not enough: who made it may have
        # been killed, or not yet have reached its fsync.
        self._durable: set[Path] = set()

    def path(self, sha256: str) -> Path:
        """Where these bytes are, or would be. ValueError unless it is 64 lower-case hex digits."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("a SHA-256 is 64 lower-case hex digits")
        return self._root / sha256[:2] / sha256

    @contextlib.asynccontextmanager
    async def incoming(self, max_bytes: int) -> AsyncIterator[Incoming]:
        """Take bytes in, at most `max_bytes`. The temp file is removed if it was not kept, whatever happens."""
        if self._incoming not in self._durable:
            await _in_thread(self._make_folder, self._incoming)
        incoming = Incoming(self._incoming / secrets.token_hex(16), max_bytes, self._place)
        kept = False
        try:
            yield incoming
            kept = incoming._kept is not None
        finally:
            if not kept:
                # Shielded: a second cancellation must not take the clean-up back out of the thread pool's queue.
                await asyncio.shield(_in_thread(incoming.discard))

    async def exists(self, stored: StoredFile) -> bool:
        """Whether these bytes are here, and all of them."""
        return _size(self.path(stored.sha256)) == stored.bytes

    async def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not with, `end` (None: to the last), in chunks of at most 64 KiB.

        FileNotFoundError if there is no such file. A range beyond the end is cut at the end.
        """
        fd = await _in_thread(os.open, self.path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        # A read still in its thread when we close (a cancelled download) harms nobody: its answer goes nowhere.
        try:
            at = start
            while end is None or at < end:
                wanted = _PER_HOP if end is None else min(_PER_HOP, end - at)
                block = await _in_thread(os.pread, fd, wanted, at)
                if not block:
                    return
                at += len(block)
                for first in range(0, len(block), READ_CHUNK):
                    yield block[first : first + READ_CHUNK]
        finally:
            os.close(fd)

    async def delete(self, sha256: str) -> None:
        """Remove these bytes, whoever may be about to keep them again; no error if they are gone.

        For pictures that must go now. A file that no row needs any more is better left to `sweep`, which spares one
        that was just kept again.
        """
        await _in_thread(self.path(sha256).unlink, missing_ok=True)

    async def sweep(self, known: Callable[[Sequence[str]], Awaitable[set[str]]], older_than_ms: int, now: int) -> int:
        """Remove what a crash or an expiry left behind; how many files went.

        These are temp files and files that are not `known` (asked in batches of at most 200 SHA-256s), only those not
        modified for `older_than_ms` before `now` (milliseconds since 1970). That age must exceed the longest upload
        and the time from `keep` to the commit of its row. Files not named like ours are left alone.
        """
        before = now - older_than_ms
        temps = await _in_thread(_older, self._incoming, before)
        removed = await _in_thread(self._remove, [self._incoming / name for name in temps], before)
        for folder in await _in_thread(_folders, self._root):
            old = [name for name in await _in_thread(_older, folder, before) if _SHA256.fullmatch(name)]
            for first in range(0, len(old), _SWEEP_BATCH):
                batch = old[first : first + _SWEEP_BATCH]
                needed = await known(batch)
                stray = [folder / name for name in batch if name not in needed]
                removed += await _in_thread(self._remove, stray, before)
        return removed

    def _place(self, temp: Path, stored: StoredFile) -> None:
        target = self.path(stored.sha256)
        self._make_folder(target.parent)
        with self._locked():
            if _size(target) == stored.bytes:
                os.utime(target)
                temp.unlink()
            else:
                temp.replace(target)
        # In both cases: who renamed an earlier twin may not have come to its fsync yet.
        fsync_folder(target.parent)

    def _remove(self, paths: Sequence[Path], before: int) -> int:
        removed = 0
        for path in paths:
            with self._locked(), contextlib.suppress(FileNotFoundError):
                # Looked at again under the lock: it may have been kept anew since it was listed.
                if _modified(path.stat()) < before:
                    path.unlink()
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Between `keep` and `sweep`, of all threads and processes on this folder; held for a rename, never an fsync.

        A lock on a file and not on the folder itself: network file systems lock only what is open for writing.
        """
        fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _make_folder(self, folder: Path) -> None:
        if folder in self._durable:
            return
        if folder != self._root:
            self._make_folder(self._root)
        folder.mkdir(mode=0o700, parents=folder == self._root, exist_ok=True)
        fsync_folder(folder.parent)
        self._durable.add(folder)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _modified(stat: os.stat_result) -> int:
    return stat.st_mtime_ns // 1_000_000


def _older(folder: Path, before: int) -> Sequence[str]:
    """The names of the files in `folder` that were last modified before `before` (milliseconds)."""
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            # One that vanishes between the listing and the look was kept or dropped: none of our business.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and _modified(entry.stat(follow_symlinks=False)) < before:
                    names.append(entry.name)
    return names


def _folders(root: Path) -> Sequence[Path]:
    with contextlib.suppress(FileNotFoundError), os.scandir(root) as entries:
        return [root / entry.name for entry in entries if _FOLDER.fullmatch(entry.name)]
    return []
