"""What an asset store promises, a folder and a bucket alike: whole files, durable once kept, nothing left over."""

import asyncio
import hashlib
import os
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.asset import StoredFile
from service.pipeline.core import AssetStore
from service.store.database import StoreUnavailable
from service.store.files import OWNER, FileStore
from service.store.incoming import TooLarge, place_of
from service.store.objects import Bucket
from tests.s3 import CREDENTIALS, S3, s3_server

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
NOW = 1_900_000_000_000
MIB = 1024 * 1024


@dataclass
class Place:
    """A store, and what its keeper sees of it from outside."""

    store: AssetStore
    folder: Path
    s3: S3 | None = None

    def kept(self) -> set[str]:
        """The names of the pictures."""
        if self.s3 is not None:
            return {key.rpartition("/")[2] for key in self.s3.keys() if key != OWNER}  # noqa: SIM118 - no mapping
        found = {path.name for path in self.folder.rglob("*") if path.is_file() and path.parent.name != "incoming"}
        return found - {"lock", OWNER}

    def temps(self) -> set[str]:
        return {path.name for path in (self.folder / "incoming").glob("*")}

    def age(self, name: str, now: int) -> None:
        """As if it had last been kept at `now`."""
        if self.s3 is not None and len(name) == 64:
            self.s3.age(place_of(name), now)
            return
        path = self.folder / (place_of(name) if len(name) == 64 else f"incoming/{name}")
        os.utime(path, ns=(now * 1_000_000, now * 1_000_000))

    def damage(self, name: str, content: bytes) -> None:
        if self.s3 is not None:
            self.s3.damage(place_of(name), content)
        else:
            (self.folder / place_of(name)).write_bytes(content)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server("pictures") as it:
        yield it


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    folder = tmp_path / "data"
    if request.param == "folder":
        return Place(FileStore(folder), folder)
    server: S3 = request.getfixturevalue("s3")
    server.empty()
    return Place(Bucket(server.url, folder / "incoming"), folder, server)


async def keep(place: Place, content: bytes) -> StoredFile:
    async with place.store.incoming(100 * MIB) as incoming:
        await incoming.write(content)
        return await incoming.keep()


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def nothing_known(_: Sequence[str]) -> set[str]:
    return set()


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 256 * 1024, MIB + 17])
async def test_what_is_kept_is_read_back_byte_for_byte_under_its_hash(place: Place, size: int) -> None:
    content = os.urandom(size)
    name = hashlib.sha256(content).hexdigest()
    async with place.store.incoming(size) as incoming:
        for first in range(0, size, 10_007):
            await incoming.write(content[first : first + 10_007])
        assert (incoming.sha256, incoming.bytes) == (name, size)
        stored = await incoming.keep()
        assert await incoming.keep() == stored
    assert stored == StoredFile(name, size)
    assert await place.store.exists(stored)
    assert await collect(place.store.read(name)) == content
    assert (place.kept(), place.temps()) == ({name}, set())


async def test_a_picture_too_large_for_one_request_is_kept_and_read_whole(place: Place) -> None:
    content = os.urandom(17 * MIB + 5)
    stored = await keep(place, content)
    assert await place.store.exists(stored)
    assert await collect(place.store.read(stored.sha256)) == content


async def test_after_a_flush_the_temp_file_holds_all_that_was_written(place: Place) -> None:
    async with place.store.incoming(MIB) as incoming:
        await incoming.write(b"one ")
        await incoming.flush()
        await incoming.write(b"two")
        await incoming.flush()
        assert incoming.path.read_bytes() == b"one two"


async def test_one_byte_too_many_is_refused_and_leaves_nothing(place: Place) -> None:
    async with place.store.incoming(MIB) as incoming:
        await incoming.write(bytes(MIB))
        with pytest.raises(TooLarge):
            await incoming.write(b"!")
    assert place.kept() | place.temps() == set()


async def test_what_is_not_kept_is_removed(place: Place) -> None:
    async def broken_off() -> None:
        async with place.store.incoming(MIB) as incoming:
            await incoming.write(bytes(300_000))
            raise RuntimeError("the client went away")

    async with place.store.incoming(MIB) as incoming:
        await incoming.write(bytes(300_000))
    with pytest.raises(RuntimeError, match="the client went away"):
        await broken_off()
    assert place.kept() | place.temps() == set()
    with pytest.raises(ValueError, match="already"):
        await incoming.write(b"more")


async def test_the_same_bytes_are_stored_once_and_look_new_again(place: Place) -> None:
    first = await keep(place, b"the same")
    place.age(first.sha256, NOW - 48 * HOUR)
    assert await keep(place, b"the same") == first
    assert place.kept() == {first.sha256}
    place.age(first.sha256, 0)
    await keep(place, b"the same")
    assert await place.store.sweep(nothing_known, HOUR, 2 * HOUR) == 0, "it looks new"


async def test_many_keeping_the_same_bytes_at_once_all_succeed(place: Place) -> None:
    kept = await asyncio.gather(*(keep(place, b"popular") for _ in range(20)))
    assert len(set(kept)) == 1
    assert place.kept() == {kept[0].sha256}


async def test_a_damaged_file_is_replaced_when_its_bytes_come_again(place: Place) -> None:
    stored = await keep(place, b"whole")
    place.damage(stored.sha256, b"wh")
    assert not await place.store.exists(stored)
    await keep(place, b"whole")
    assert await place.store.exists(stored)
    assert await collect(place.store.read(stored.sha256)) == b"whole"


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (0, 0), (0, 1), (5, None), (65_536, 65_537), (70_000, 600_000), (699_999, None), (700_000, None)],
)
async def test_any_range_can_be_read(place: Place, start: int, end: int | None) -> None:
    content = os.urandom(700_000)
    stored = await keep(place, content)
    assert await collect(place.store.read(stored.sha256, start, end)) == content[start:end]


async def test_a_range_beyond_the_end_is_cut_there(place: Place) -> None:
    stored = await keep(place, b"0123456789")
    assert await collect(place.store.read(stored.sha256, 4, 1_000_000)) == b"456789"


async def test_a_read_comes_in_small_chunks(place: Place) -> None:
    stored = await keep(place, bytes(5 * MIB))
    assert {len(chunk) async for chunk in place.store.read(stored.sha256)} == {64 * 1024}


async def test_a_picture_lies_at_hand_as_a_file(place: Place) -> None:
    content = os.urandom(300_000)
    stored = await keep(place, content)
    async with place.store.local(stored) as path:
        assert path.read_bytes() == content
    assert place.temps() == set()
    assert await place.store.exists(stored)


async def test_a_file_that_is_not_there_is_said_so(place: Place) -> None:
    stored = StoredFile("0" * 64, 3)
    assert not await place.store.exists(stored)
    with pytest.raises(FileNotFoundError):
        await collect(place.store.read(stored.sha256))
    await place.store.delete(stored.sha256)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "a" * 65])
async def test_only_a_sha256_names_a_file(place: Place, name: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        await collect(place.store.read(name))


async def test_deleted_bytes_are_gone(place: Place) -> None:
    stored = await keep(place, b"go away")
    await place.store.delete(stored.sha256)
    assert not await place.store.exists(stored)
    assert place.kept() == set()


async def test_the_sweep_removes_only_old_files_that_no_row_knows(place: Place) -> None:
    known, stray, fresh = [await keep(place, content) for content in (b"known", b"stray", b"fresh")]
    async with place.store.incoming(MIB) as old_temp, place.store.incoming(MIB) as new_temp:
        await old_temp.flush()
        await new_temp.flush()
        for name in (known.sha256, stray.sha256, old_temp.path.name):
            place.age(name, NOW - HOUR - 1000)
        for name in (fresh.sha256, new_temp.path.name):
            place.age(name, NOW - HOUR)
        asked: list[str] = []

        async def ask(names: Sequence[str]) -> set[str]:
            asked.extend(names)
            return {known.sha256}

        assert await place.store.sweep(ask, HOUR, NOW) == 2
        assert sorted(asked) == sorted([known.sha256, stray.sha256])
        assert (place.kept(), place.temps()) == ({known.sha256, fresh.sha256}, {new_temp.path.name})


async def test_the_sweep_asks_in_small_batches(place: Place) -> None:
    kept = await asyncio.gather(*(keep(place, str(number).encode()) for number in range(230)))
    for stored in kept:
        place.age(stored.sha256, NOW - 2 * HOUR)
    sizes: list[int] = []

    async def ask(names: Sequence[str]) -> set[str]:
        sizes.append(len(names))
        return set(names[1:])

    removed = await place.store.sweep(ask, HOUR, NOW)
    assert removed == len(sizes)
    assert (sum(sizes), max(sizes) <= 200) == (230, True)
    assert len(place.kept()) == 230 - removed


async def test_a_file_kept_again_during_the_sweep_is_spared(place: Place) -> None:
    stored = await keep(place, b"wanted again")
    place.age(stored.sha256, 0)

    async def ask(_: Sequence[str]) -> set[str]:
        # No row knows it when the store asks; at this very moment somebody uploads it again.
        await keep(place, b"wanted again")
        return set()

    assert await place.store.sweep(ask, HOUR, 2 * HOUR) == 0
    assert await place.store.exists(stored)


async def test_an_empty_store_is_swept_without_a_word(place: Place) -> None:
    assert await place.store.sweep(nothing_known, HOUR, NOW) == 0


async def test_whose_pictures_these_are_is_told_to_whoever_comes_later(place: Place) -> None:
    assert await place.store.claim("the first") == "the first"
    assert await place.store.claim("the second") == "the first"
    assert await place.store.claim("the first") == "the first"
    assert await place.store.sweep(nothing_known, 0, NOW) == 0, "the mark is no picture"
    assert await place.store.claim("the second") == "the first"


# --- a bucket alone --------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(s3: S3, tmp_path: Path) -> Bucket:
    s3.empty()
    return Bucket(s3.url, tmp_path / "incoming")


async def test_a_bucket_that_is_away_is_told_as_such_and_what_was_taken_in_is_kept_once_it_is_back(
    bucket: Bucket, s3: S3, tmp_path: Path
) -> None:
    content = b"taken in while the bucket was away"
    s3.stop()
    try:
        async with bucket.incoming(MIB) as incoming:
            await incoming.write(content)
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="connection is refused"):
                    await incoming.keep()
            s3.start()
            stored = await incoming.keep()
    finally:
        s3.stop()
        s3.start()
    assert await collect(bucket.read(stored.sha256)) == content
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.usefixtures("s3")
async def test_a_bucket_that_does_not_exist_is_no_missing_picture(tmp_path: Path) -> None:
    nowhere = Bucket("s3://no-such-bucket", tmp_path)
    async with nowhere.incoming(MIB) as incoming:
        await incoming.write(b"bytes")
        with pytest.raises(StoreUnavailable, match="no such bucket"):
            await incoming.keep()
    with pytest.raises(StoreUnavailable, match="no such bucket"):
        await nowhere.claim("me")


async def test_a_damaged_object_never_reaches_a_vendor(bucket: Bucket, s3: S3) -> None:
    async with bucket.incoming(MIB) as incoming:
        await incoming.write(b"paid for by the pixel")
        stored = await incoming.keep()
    s3.damage(place_of(stored.sha256), b"paid for by the PIXEL")
    with pytest.raises(FileNotFoundError, match="damaged"):
        async with bucket.local(stored):
            pass


async def test_what_others_keep_beside_our_pictures_is_never_swept(bucket: Bucket, s3: S3) -> None:
    name = "f" * 64
    foreign = {f"elsewhere/{name}", "ff/notes.txt", name}
    for key in foreign:
        s3.put(key)
        s3.age(key, 0)
    assert await bucket.sweep(nothing_known, HOUR, NOW) == 0
    assert s3.keys() == foreign


async def test_a_refusal_is_told_with_its_code_and_without_a_credential(bucket: Bucket, s3: S3) -> None:
    with s3.refusing(), pytest.raises(StoreUnavailable, match=r"it answers 403 \w+$") as caught:
        await bucket.claim("me")
    told = "".join(traceback.format_exception(caught.value))
    assert not any(secret in told for secret in CREDENTIALS.values() if secret != CREDENTIALS["AWS_REGION"])


async def test_a_process_ends_well_while_the_bucket_is_being_asked(tmp_path: Path) -> None:
    # Questions that are still under way, or were given up, when the interpreter ends.
    code = """
import asyncio, sys
from pathlib import Path
from service.store.objects import Bucket

async def main():
    bucket = Bucket("s3://bucket", Path(sys.argv[1]))
    asking = [asyncio.create_task(bucket.owner()) for _ in range(10)]
    await asyncio.wait(asking, timeout=0.05)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)

asyncio.run(main())
"""
    nobody = {**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    here = Path(__file__).parents[2]

    def run(_: int) -> str:
        ran = subprocess.run(command, cwd=here, env=nobody, capture_output=True, text=True, check=False)
        return f"{ran.returncode} {ran.stderr}"

    assert await asyncio.gather(*(asyncio.to_thread(run, number) for number in range(3))) == ["0 "] * 3
