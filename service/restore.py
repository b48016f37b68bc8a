"""A backup into an empty store: what was acknowledged before it is there again, and what was owed is delivered.

All rows come in one unit, so a restore that is cut off leaves a store as empty as it was; pictures that came before
are strays, which the service sweeps. The store may be of the other kind than the one that was backed up.
"""

import asyncio
import gzip
import hashlib
import json
import lzma
import re
import sqlite3
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from service.app import vault_of
from service.backup import ASSETS, DATABASE, FORMAT, MANIFEST, Manifest, Progress, Told
from service.config import Settings
from service.opening import asset_store, database_of
from service.pipeline.core import AssetStore
from service.store import copying, jobs, sqlite
from service.store.copying import Table
from service.store.database import Database, Reader, Tx
from service.store.migrate import MigrationError, migrate, migrations, newest
from service.store.sqlite import Sqlite

_ASSET = re.compile(rf"{ASSETS}/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})")
_BLOCK = 256 * 1024
_LARGEST_MANIFEST = 256 * 1024 * 1024
_BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


class BadBackup(Exception):
    """The file is no whole backup. Nothing was restored."""


class NotRestored(Exception):
    """The backup may be good, but not for this store or this release. Nothing was restored."""


@dataclass(frozen=True)
class Restored:
    """`key_fits` is None where no secret key is there yet."""

    manifest: Manifest
    key_fits: bool | None


async def restore(settings: Settings, file: Path, now: int, told: Told) -> Restored:
    """Load the backup `file` into the store that the settings name, which must be empty and not in use.

    Raises BadBackup, NotRestored, Locked, StoreUnavailable, OSError.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    of = await _todays_tables()
    with (
        tempfile.TemporaryDirectory(prefix=".wirephoto-restore-", dir=settings.data_dir) as work,
        _reading(file) as tar,
    ):
        total, database = file.stat().st_size, Path(work, DATABASE)
        members = iter(tar)
        digest = _take_database(tar, members, database)
        await _check(database)
        db = await _open(settings, now)
        try:
            await db.read(_must_be_empty, of)
            store = asset_store(settings)
            manifest = await _take_rest(tar, members, store, lambda: told(Progress("pictures", tar.offset, total)))
            if manifest.database_sha256 != digest:
                raise BadBackup("its database is not the one that its manifest tells of")
            await _bring_up_to_date(database, now)
            with sqlite.alone(database) as source:
                await _load(db, source, of, told, now)
        finally:
            await db.close()
    return Restored(manifest, _fits(settings, manifest))


async def _todays_tables() -> list[Table]:
    """From our own migrations: a file that somebody else may have made does not say which tables there are."""
    with sqlite.alone(Path(":memory:")) as fresh:
        for migration in migrations():
            for statement in migration.statements("sqlite"):
                await fresh.run(statement, {})
        return await copying.tables(fresh)


async def _load(db: Database, source: Reader, of: list[Table], told: Told, now: int) -> None:
    """A unit that was handed in runs to its end, whoever waits for it: one that is not wanted any more must be told."""
    total = sum((await copying.counts(source, of)).values())
    given_up = threading.Event()

    def counted(done: int) -> None:
        if given_up.is_set():
            raise NotRestored("interrupted")
        told(Progress("rows", done, total))

    unit = asyncio.ensure_future(db.write(load, source, of, counted, db.dialect, now))
    try:
        await asyncio.shield(unit)
    except asyncio.CancelledError:
        given_up.set()
        await asyncio.gather(unit, return_exceptions=True)  # it still reads from `source`
        raise


async def load(tx: Tx, source: Reader, of: list[Table], told: Callable[[int], None], dialect: str, now: int) -> None:
    """The one unit of a restore. `source` never really waits, as a unit must not."""
    await _must_be_empty(tx, of)
    await copying.copy(source, tx, of, told, no_nul=dialect == "postgres")
    # What is paid twice is said, here as everywhere.
    await jobs.doubt_waiting(tx, now)


async def _must_be_empty(reader: Reader, of: list[Table]) -> None:
    if not await copying.is_empty(reader, of):
        raise NotRestored("the store is not empty: a backup goes into a fresh data folder or database")


async def _open(settings: Settings, now: int) -> Database:
    db = database_of(settings)
    try:
        await db.open()
        await migrate(db, now)
    except BaseException:
        await db.close()
        raise
    return db


@contextmanager
def _reading(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:*") as tar:
            yield tar
    except _BROKEN:
        raise BadBackup("it is no tar, or it was cut off or changed") from None


def _take_database(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], target: Path) -> str:
    """Unpack the database; its SHA-256."""
    first = next(members, None)
    if first is None or first.name != DATABASE:
        raise BadBackup(f"it does not begin with {DATABASE}, as every backup does")
    digest = hashlib.sha256()
    with target.open("xb") as copy:
        for block in _blocks(tar, first):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()


def _blocks(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content: IO[bytes] | None = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise BadBackup(f"{member.name} is no file")
    while block := content.read(_BLOCK):
        yield block


async def _check(database: Path) -> None:
    try:
        with sqlite.alone(database) as reader:
            faults = [
                *await reader.all("PRAGMA integrity_check", {}),
                *await reader.all("PRAGMA foreign_key_check", {}),
            ]
            schema = await newest(reader)
    except sqlite3.DatabaseError:
        raise BadBackup("its database can't be read") from None
    if [list(fault.values()) for fault in faults] != [["ok"]]:
        raise BadBackup("its database is damaged")
    known = len(migrations())
    if schema > known:
        raise NotRestored(f"it was made by a newer Wirephoto: its schema is {schema}, this one knows up to {known}")


async def _take_rest(
    tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], store: AssetStore, told: Callable[[], None]
) -> Manifest:
    """Pictures into the asset store, each checked by its name; then the manifest, which must agree."""
    bad: set[str] = set()
    for taken, member in enumerate(members):
        if member.name == MANIFEST:
            manifest = _manifest(b"".join(_blocks(tar, member)) if member.size <= _LARGEST_MANIFEST else b"")
            if manifest.assets != taken or bad - set(manifest.damaged):
                raise BadBackup("pictures in it are damaged or missing")
            return manifest
        named = _ASSET.fullmatch(member.name)
        if named is None:
            raise BadBackup("it holds what no backup holds")
        async with store.incoming(member.size) as incoming:
            for block in _blocks(tar, member):
                await incoming.write(block)
            if incoming.sha256 == named[2]:
                await incoming.keep()
            else:
                bad.add(named[2])
        told()
    raise BadBackup("it was cut off: the manifest at its end is missing")


def _manifest(body: bytes) -> Manifest:
    try:
        value: dict[str, Any] = json.loads(body)
        if value["wirephoto_backup"] != FORMAT:
            raise NotRestored("it was made by a newer Wirephoto, in another form")
        return TypeAdapter(Manifest).validate_python(value)
    except (ValueError, KeyError, TypeError):
        raise BadBackup("its manifest can't be read") from None


async def _bring_up_to_date(database: Path, now: int) -> None:
    """What an older release has written gets the schema of this one."""
    db = Sqlite(database)
    await db.open()
    try:
        await migrate(db, now)
    except MigrationError as error:
        raise NotRestored(str(error)) from None
    finally:
        await db.close()


def _fits(settings: Settings, manifest: Manifest) -> bool | None:
    if settings.secret_key is None and not settings.secret_key_file.exists():
        return None  # to ask for the vault would make a key
    return set(manifest.key_fingerprints) <= vault_of(settings).fingerprints
