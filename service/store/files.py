"""Bytes on disk: every picture we hold, before any row speaks of it.

The store is addressed by content: `<root>/ab/abcdef…`, the SHA-256 in hex. Bytes are first streamed into a temp file in
`<root>/incoming/`, hashed on the way; `keep` makes them durable and renames them into place. So a kill at any
instruction leaves nothing, a temp file or the whole file, never half of one under its name, and whatever no row came
to know is swept.
"""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from schemas.asset import StoredFile
from service.store.incoming import (
    PER_HOP,
    READ_CHUNK,
    SWEEP_BATCH,
    Incoming,
    in_thread,
    is_sha256,
    modified_ms,
    older_in,
    place_of,
    taken_in,
)

OWNER = "owner"
"""What the mark is called that tells whose pictures these are: who sweeps another's would lose them all."""
_FOLDER = re.compile(r"[0-9a-f]{2}")


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
        return self._root / place_of(sha256)

    @contextlib.asynccontextmanager
    async def incoming(self, max_bytes: int) -> AsyncIterator[Incoming]:
        """Take bytes in, at most `max_bytes`. The temp file is removed if it was not kept, whatever happens."""
        if self._incoming not in self._durable:
            await in_thread(self._make_folder, self._incoming)
        async with taken_in(Incoming(self._incoming / secrets.token_hex(16), max_bytes, self._place)) as incoming:
            yield incoming

    async def exists(self, stored: StoredFile) -> bool:
        """Whether these bytes are here, and all of them."""
        return _size(self.path(stored.sha256)) == stored.bytes

    async def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not with, `end` (None: to the last), in chunks of at most 64 KiB.

        FileNotFoundError if there is no such file. A range beyond the end is cut at the end.
        """
        fd = await in_thread(os.open, self.path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        # A read still in its thread when we close (a cancelled download) harms nobody: its answer goes nowhere.
        try:
            at = start
            while end is None or at < end:
                wanted = PER_HOP if end is None else min(PER_HOP, end - at)
                block = await in_thread(os.pread, fd, wanted, at)
                if not block:
                    return
                at += len(block)
                for first in range(0, len(block), READ_CHUNK):
                    yield block[first : first + READ_CHUNK]
        finally:
            os.close(fd)

    @contextlib.asynccontextmanager
    async def local(self, stored: StoredFile) -> AsyncIterator[Path]:
        """These bytes as a file to read from, for as long as the context lasts. It is not looked at here."""
        yield self.path(stored.sha256)

    async def claim(self, owner: str) -> str:
        """Mark this folder as the `owner`'s, unless it is marked already; whose it is."""
        return await in_thread(self._claim, owner)

    async def owner(self) -> str | None:
        """Whose they are; None where nobody has claimed them."""
        mark = self._root / OWNER
        return mark.read_text(encoding="ascii") if _size(mark) else None

    async def delete(self, sha256: str) -> None:
        """Remove these bytes, whoever may be about to keep them again; no error if they are gone.

        For pictures that must go now. A file that no row needs any more is better left to `sweep`, which spares one
        that was just kept again.
        """
        await in_thread(self.path(sha256).unlink, missing_ok=True)

    async def sweep(self, known: Callable[[Sequence[str]], Awaitable[set[str]]], older_than_ms: int, now: int) -> int:
        """Remove what a crash or an expiry left behind; how many files went.

        These are temp files and files that are not `known` (asked in batches of at most 200 SHA-256s), only those not
        modified for `older_than_ms` before `now` (milliseconds since 1970). That age must exceed the longest upload
        and the time from `keep` to the commit of its row. Files not named like ours are left alone.
        """
        before = now - older_than_ms
        temps = await in_thread(older_in, self._incoming, before)
        removed = await in_thread(self._remove, [self._incoming / name for name in temps], before)
        for folder in await in_thread(_folders, self._root):
            old = [name for name in await in_thread(older_in, folder, before) if is_sha256(name)]
            for first in range(0, len(old), SWEEP_BATCH):
                batch = old[first : first + SWEEP_BATCH]
                needed = await known(batch)
                stray = [folder / name for name in batch if name not in needed]
                removed += await in_thread(self._remove, stray, before)
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

    def _claim(self, owner: str) -> str:
        self._make_folder(self._root)
        mark = self._root / OWNER
        with self._locked():
            # An empty one is what a kill left behind.
            if not _size(mark):
                mark.touch(mode=0o600)
                mark.write_text(owner, encoding="ascii")
            return mark.read_text(encoding="ascii")

    def _remove(self, paths: Sequence[Path], before: int) -> int:
        removed = 0
        for path in paths:
            with self._locked(), contextlib.suppress(FileNotFoundError):
                # Looked at again under the lock: it may have been kept anew since it was listed.
                if modified_ms(path.stat()) < before:
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


def _folders(root: Path) -> Sequence[Path]:
    with contextlib.suppress(FileNotFoundError), os.scandir(root) as entries:
        return [root / entry.name for entry in entries if _FOLDER.fullmatch(entry.name)]
    return []
