"""A backup: one tar with the database as of one instant, every picture that it names, and what must be known of both.

The database goes first and the pictures after it: a picture's bytes are on disk before a row speaks of them and never
change, so whatever the rows of that instant name is there, but for what was swept since then. The manifest goes last:
an archive that was cut off has none. The form is the same whichever database the service runs on; the secret key is
never in it.
"""

import asyncio
import hashlib
import io
import json
import os
import tarfile
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from schemas.asset import StoredFile
from schemas.event import rfc3339
from service.config import Settings
from service.opening import asset_store, looking_at_postgres
from service.pipeline.core import AssetStore
from service.store import assets, copying, meta, sqlite
from service.store.database import NotAStore, Reader
from service.store.files import fsync_folder
from service.store.migrate import MigrationError, migrate, migrations, newest
from service.store.sqlite import Sqlite

FORMAT = 1
DATABASE = "wirephoto.sqlite3"
MANIFEST = "manifest.json"
ASSETS = "assets"
_BATCH = 200
_FINGERPRINT = "key_fingerprint"


@dataclass
class Manifest:
    """What an archive says of itself. `missing` and `damaged` are SHA-256s of pictures that rows name."""

    version: str
    schema: int
    created_at: str
    key_fingerprints: list[str]
    rows: Mapping[str, int]
    database_sha256: str = ""
    assets: int = 0
    asset_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    wirephoto_backup: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Progress:
    """`total` is in bytes, and a guess where pictures are swept meanwhile."""

    doing: str
    done: int
    total: int


Told = Callable[[Progress], None]


async def back_up(settings: Settings, target: Path, now: int, told: Told, *, force: bool = False) -> Manifest:
    """Write a backup to `target`, whole or not at all, readable by its owner alone; gzipped where its name says so.

    The service may be running. Raises FileExistsError unless `force`, NotAStore, MigrationError,
    StoreUnavailable, InvalidSettings, sqlite3.Error, OSError.
    """
    if target.exists() and not force:
        raise FileExistsError(17, "it is there already; --force writes over it", str(target))
    # In the target's own folder: a rename from elsewhere would be a copy, which can be cut off half-way.
    with tempfile.TemporaryDirectory(prefix=".wirephoto-backup-", dir=target.absolute().parent) as work:
        told(Progress("database", 0, 0))
        database = Path(work, DATABASE)
        await _snapshot(settings, database, now, told)
        archive = Path(work, "archive")
        with _made(archive) as file, tarfile.open(fileobj=file, mode="w:gz" if _gzipped(target) else "w") as tar:
            manifest = await _fill(tar, settings, database, now, told)
        archive.replace(target)
    fsync_folder(target.absolute().parent)
    return manifest


@contextmanager
def _made(path: Path) -> Iterator[BinaryIO]:
    """A new file of our own, durable at the end."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a mode from the first instant
        yield file
        file.flush()
        os.fsync(file.fileno())


def _gzipped(target: Path) -> bool:
    return target.suffix.lower() in (".gz", ".tgz")


async def _snapshot(settings: Settings, target: Path, now: int, told: Told) -> None:
    """The database as it is at one instant, as a SQLite file, whichever kind it is."""
    if settings.database_url is None:
        if not settings.database_file.exists():
            raise NotAStore(f"there is no {settings.database_file}: --config or --data-dir say where the store is")
        given_up = threading.Event()
        try:
            await asyncio.to_thread(sqlite.snapshot, settings.database_file, target, given_up.is_set)
        finally:
            given_up.set()
        return
    async with looking_at_postgres(settings.database_url.get_secret_value()) as source:
        await _write_down(source, target, now, told)


async def _write_down(source: Reader, target: Path, now: int, told: Told) -> None:
    """Every row of `source` into a new SQLite file with the same schema."""
    schema, known = await newest(source), len(migrations())
    if schema > known:
        raise MigrationError(f"the store's schema is {schema}, and this Wirephoto knows up to {known}: use a newer one")
    file = Sqlite(target)
    await file.open()
    try:
        await migrate(file, now, up_to=schema)
    finally:
        await file.close()
    with sqlite.alone(target) as tx:
        of = await copying.tables(tx)
        rows = sum((await copying.counts(source, of)).values())
        await copying.copy(source, tx, of, lambda done: told(Progress("rows", done, rows)))


async def _fill(tar: tarfile.TarFile, settings: Settings, database: Path, now: int, told: Told) -> Manifest:
    with sqlite.alone(database) as reader:
        manifest = await _describe(reader, now)
        wanted = [file async for file in _files(reader, now)]
    total = database.stat().st_size + sum(file.bytes for file in wanted)
    done = 0

    def taken(count: int) -> None:
        nonlocal done
        done += count
        told(Progress("pictures" if manifest.database_sha256 else "database", done, total))

    manifest.database_sha256 = _add(tar, database, DATABASE, now, taken)
    store = asset_store(settings)
    for file in wanted:
        await asyncio.sleep(0)  # a Ctrl-C comes in here, and nowhere else
        await _add_asset(tar, store, file, manifest, now, taken)
    body = json.dumps(manifest.as_json(), indent=2).encode() + b"\n"
    tar.addfile(_entry(MANIFEST, len(body), now), io.BytesIO(body))
    return manifest


async def _describe(reader: Reader, now: int) -> Manifest:
    """What the rows of a SQLite copy say of it."""
    of = await copying.tables(reader)
    return Manifest(
        version=metadata.version("wirephoto"),
        schema=await newest(reader),
        created_at=rfc3339(now),
        key_fingerprints=(await meta.get(reader, _FINGERPRINT) or "").split(),
        rows=await copying.counts(reader, of),
    )


async def _files(reader: Reader, now: int) -> AsyncIterator[StoredFile]:
    after = ""
    while batch := await assets.files(reader, after, _BATCH, now):
        for file in batch:
            yield file
        after = batch[-1].sha256


async def _add_asset(
    tar: tarfile.TarFile,
    store: AssetStore,
    file: StoredFile,
    manifest: Manifest,
    now: int,
    taken: Callable[[int], None],
) -> None:
    if not await store.exists(file):
        manifest.missing.append(file.sha256)
        return
    try:
        async with store.local(file) as path:
            digest = _add(tar, path, asset_name(file.sha256), now, taken)
    except FileNotFoundError:
        # Swept between the look and the opening; nothing of it was written.
        manifest.missing.append(file.sha256)
        return
    manifest.assets += 1
    manifest.asset_bytes += file.bytes
    if digest != file.sha256:
        manifest.damaged.append(file.sha256)


def asset_name(sha256: str) -> str:
    return f"{ASSETS}/{sha256[:2]}/{sha256}"


def _add(tar: tarfile.TarFile, path: Path, name: str, now: int, taken: Callable[[int], None]) -> str:
    """Add a file, and return the SHA-256 of what was added. FileNotFoundError before anything is written."""
    with path.open("rb") as file:
        hashing = _Hashing(file, taken)
        # addfile asks for nothing but `read`.
        tar.addfile(_entry(name, os.fstat(file.fileno()).st_size, now), hashing)  # type: ignore[arg-type]
        return hashing.sha256.hexdigest()


def _entry(name: str, size: int, now: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, now // 1000, 0o600
    return entry


class _Hashing:
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO, taken: Callable[[int], None]) -> None:
        self._file = file
        self._taken = taken
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self.sha256.update(block)
        self._taken(len(block))
        return block
