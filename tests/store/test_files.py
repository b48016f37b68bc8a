"""What the local asset store promises: whole files, durable once kept, and nothing left lying about."""

import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest

from schemas.asset import StoredFile
from service.store.files import FileStore
from service.store.incoming import Incoming

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
NOW = 1_900_000_000_000
MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "assets"


@pytest.fixture
def store(root: Path) -> FileStore:
    return FileStore(root)


async def keep(store: FileStore, content: bytes) -> StoredFile:
    async with store.incoming(100 * MIB) as incoming:
        await incoming.write(content)
        return await incoming.keep()


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def files(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file() and path.name != "lock"}


def age(path: Path, now: int) -> None:
    os.utime(path, ns=(now * 1_000_000, now * 1_000_000))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def nothing_known(_: Sequence[str]) -> set[str]:
    return set()


async def test_nobody_else_on_the_machine_may_read_the_files(store: FileStore, root: Path) -> None:
    stored = await keep(store, b"private")
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert store.path(stored.sha256).stat().st_mode & 0o777 == 0o600


async def test_what_is_not_kept_is_removed(store: FileStore, root: Path) -> None:
    async def broken_off() -> None:
        async with store.incoming(MIB) as incoming:
            await incoming.write(bytes(300_000))
            raise RuntimeError("the client went away")

    before = open_files()
    async with store.incoming(MIB) as incoming:
        await incoming.write(bytes(300_000))
    with pytest.raises(RuntimeError, match="the client went away"):
        await broken_off()
    assert files(root) == set()
    assert open_files() == before
    with pytest.raises(ValueError, match="already"):
        await incoming.write(b"more")


async def test_a_cancelled_upload_leaves_neither_a_file_nor_a_descriptor(store: FileStore, root: Path) -> None:
    before = open_files()
    for steps in range(1, 12):
        opened = asyncio.Event()

        async def upload(opened: asyncio.Event = opened) -> None:
            async with store.incoming(100 * MIB) as incoming:
                opened.set()
                while True:
                    await incoming.write(bytes(MIB))

        task = asyncio.create_task(upload())
        await opened.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert files(root) == set()
        assert open_files() == before


async def test_the_same_bytes_are_stored_once_and_look_new_again(store: FileStore, root: Path) -> None:
    first = await keep(store, b"the same")
    age(store.path(first.sha256), NOW - 48 * HOUR)
    old = store.path(first.sha256).stat()
    assert await keep(store, b"the same") == first
    new = store.path(first.sha256).stat()
    assert (new.st_ino, new.st_mtime_ns != old.st_mtime_ns) == (old.st_ino, True)
    assert files(root) == {first.sha256}


async def test_a_read_comes_in_small_chunks_and_an_abandoned_one_closes_its_file(store: FileStore) -> None:
    stored = await keep(store, bytes(MIB))
    assert {len(chunk) async for chunk in store.read(stored.sha256)} == {64 * 1024}
    before = open_files()
    reading = store.read(stored.sha256)
    await anext(reading)
    assert open_files() == before + 1
    await reading.aclose()  # type: ignore[attr-defined]  # the promise is an iterator; this one is a generator
    assert open_files() == before


async def test_a_full_disk_is_a_clear_error_and_the_temp_file_goes(store: FileStore, root: Path) -> None:
    async def upload(broken: list[Incoming]) -> None:
        async with store.incoming(100 * MIB) as incoming:
            broken.append(incoming)
            try:
                await incoming.write(bytes(2 * MIB))
            except OSError:
                # Who goes on in spite of it must not get half a file under the name of a whole one.
                with pytest.raises(OSError, match="not whole"):
                    await incoming.keep()
                raise

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    broken: list[Incoming] = []
    # The system's own limit on a file's size: the write stops in the middle, just as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        with pytest.raises(OSError, match="asset store cannot write"):
            await upload(broken)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not broken[0].path.exists()
    assert files(root) == set()


async def test_the_sweep_removes_only_old_files_that_no_row_knows(store: FileStore, root: Path) -> None:
    known = await keep(store, b"known")
    stray = await keep(store, b"stray")
    fresh = await keep(store, b"fresh")
    async with store.incoming(MIB) as old_temp, store.incoming(MIB) as new_temp:
        await old_temp.flush()
        await new_temp.flush()
        foreign = store.path(known.sha256).parent / "README"
        foreign.write_text("not ours")
        for path in (store.path(known.sha256), store.path(stray.sha256), old_temp.path, foreign):
            age(path, NOW - HOUR - 1)
        for path in (store.path(fresh.sha256), new_temp.path):
            age(path, NOW - HOUR)
        asked: list[str] = []

        async def ask(names: Sequence[str]) -> set[str]:
            asked.extend(names)
            return {known.sha256}

        assert await store.sweep(ask, HOUR, NOW) == 2
        assert sorted(asked) == sorted([known.sha256, stray.sha256])
        assert files(root) == {known.sha256, fresh.sha256, "README", new_temp.path.name}


# Runs one upload in a forked child for every call into the system that the store's module makes, and kills the child
# just before that call. Each child works on a folder of its own.
_KILLER = """
import asyncio, json, os, signal, sys, threading
from pathlib import Path
from service.store.files import FileStore

CONTENT = bytes(range(256)) * 2000

def watch(kill_at, calls):
    def profile(frame, event, function):
        if event != "c_call" or not frame.f_code.co_filename.endswith(("files.py", "incoming.py", "pathlib.py")):
            return
        calls.append(function.__name__)
        if len(calls) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    threading.setprofile(profile)

async def upload(root):
    async with FileStore(root).incoming(10_000_000) as incoming:
        for first in range(0, len(CONTENT), 100_000):
            await incoming.write(CONTENT[first : first + 100_000])
        await incoming.keep()

base, kill_at = Path(sys.argv[1]), 0
while True:
    kill_at += 1
    child = os.fork()
    if child == 0:
        calls = []
        watch(kill_at, calls)
        asyncio.run(upload(base / str(kill_at)))
        print(json.dumps(calls), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[str]]:
    """One folder per call that a kill came before, and the names of all the calls in their order."""
    base = tmp_path_factory.mktemp("killed")
    here = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", _KILLER, base], cwd=here, capture_output=True, check=True, timeout=120)
    calls: Sequence[str] = json.loads(done.stdout)
    return base, calls


def roots(base: Path) -> Iterable[Path]:
    return sorted(base.iterdir(), key=lambda path: int(path.name))


async def test_a_kill_at_any_call_leaves_nothing_a_temp_file_or_the_whole_file(
    killed: tuple[Path, Sequence[str]],
) -> None:
    content = bytes(range(256)) * 2000
    name = hashlib.sha256(content).hexdigest()
    outcomes: set[str] = set()
    for root in roots(killed[0]):
        found = files(root)
        temps = files(root / "incoming")
        assert found - temps <= {name}
        if name in found:
            assert await collect(FileStore(root).read(name)) == content
        outcomes.add("whole" if name in found else "temp" if temps else "nothing")
    assert outcomes == {"nothing", "temp", "whole"}


async def test_after_a_kill_at_any_call_the_store_still_takes_and_sweeps(killed: tuple[Path, Sequence[str]]) -> None:
    for root in roots(killed[0]):
        store = FileStore(root)
        stored = await keep(store, b"life goes on")

        async def ask(_: Sequence[str], stored: StoredFile = stored) -> set[str]:
            return {stored.sha256}

        await store.sweep(ask, 0, NOW)
        assert files(root) == {stored.sha256}


async def test_bytes_are_durable_before_they_get_their_name_and_the_name_before_keep_returns(
    killed: tuple[Path, Sequence[str]],
) -> None:
    steps = [call for call in killed[1] if call in {"write", "fsync", "mkdir", "replace", "rename"}]
    last_write = len(steps) - 1 - steps[::-1].index("write")
    # The file; the new folder and then its parent's entry for it; the name; the folder that holds the name.
    assert steps[last_write + 1 :] == ["fsync", "mkdir", "fsync", "replace", "fsync"]
