"""What a backup leaves alone, what it tells, and which ones can't be restored; nothing of a bad one is loaded."""

import asyncio
import hashlib
import json
import secrets
import shutil
import sqlite3
import tarfile
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.backup import Progress
from service.commands.codes import Code
from service.restore import restore
from service.store import copying, sqlite
from tests.acceptance.command_line import ONE_DATABASE, Service, within
from tests.acceptance.helpers import ENLARGE, done, small
from tests.conftest import PHOTOS
from tests.harness import PATIENCE, settings_for, stand
from tests.postgres import Server

pytestmark = ONE_DATABASE


@dataclass(frozen=True)
class Made:
    """A small store at rest, and its backup; not to be changed."""

    data: Path
    file: Path

    def copied(self, target: Path) -> Path:
        """The store once more, to be changed."""
        shutil.copytree(self.data, target)
        return target


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")

    async def once() -> None:
        async with stand(folder / "old") as it:
            await done(it.client, ENLARGE, small(PHOTOS, folder))

    asyncio.run(once())
    ran = within("backup", folder / "made.tar", "--data-dir", folder / "old")
    assert ran.exit_code == Code.SUCCESS, ran.stderr
    return Made(folder / "old", folder / "made.tar")


def pictures_in(data: Path) -> list[Path]:
    return [path for path in (data / "assets").glob("??/*") if path.is_file()]


def test_a_backup_is_its_owners_alone_and_covers_none_unasked(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    assert within("backup", file, "--data-dir", made.data).exit_code == Code.SUCCESS
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    file.write_bytes(b"something else")
    ran = within("backup", file, "--data-dir", made.data)
    assert ran.exit_code == Code.FILE
    assert "--force" in ran.stderr
    assert file.read_bytes() == b"something else"
    assert within("backup", file, "--data-dir", made.data, "--force").exit_code == Code.SUCCESS
    assert within("restore", file, "--data-dir", tmp_path / "new").exit_code == Code.SUCCESS


def test_what_is_swept_meanwhile_is_listed_and_no_hindrance(made: Made, tmp_path: Path) -> None:
    old = made.copied(tmp_path / "old")
    gone, *_ = pictures_in(old)
    gone.unlink()
    ran = within("backup", tmp_path / "b.tar", "--data-dir", old, "--json")
    assert ran.exit_code == Code.SUCCESS
    assert "missing" in ran.stderr
    assert json.loads(ran.stdout)["missing"] == [gone.name]
    ran = within("restore", tmp_path / "b.tar", "--data-dir", tmp_path / "new")
    assert ran.exit_code == Code.SUCCESS, ran.stderr


def test_a_picture_that_rotted_on_disk_is_told_and_the_rest_can_be_restored(made: Made, tmp_path: Path) -> None:
    old = made.copied(tmp_path / "old")
    rotten, *others = pictures_in(old)
    rotten.write_bytes(secrets.token_bytes(rotten.stat().st_size))
    ran = within("backup", tmp_path / "b.tar", "--data-dir", old, "--json")
    assert "damaged" in ran.stderr
    assert json.loads(ran.stdout)["damaged"] == [rotten.name]
    ran = within("restore", tmp_path / "b.tar", "--data-dir", tmp_path / "new")
    assert ran.exit_code == Code.SUCCESS, ran.stderr
    assert {path.name for path in pictures_in(tmp_path / "new")} == {path.name for path in others}


def test_where_no_store_is_nothing_is_made(tmp_path: Path) -> None:
    ran = within("backup", tmp_path / "b.tar", "--data-dir", tmp_path / "nowhere")
    assert ran.exit_code == Code.REFUSED
    assert "nowhere" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_holds_something_is_left_alone(made: Made, tmp_path: Path) -> None:
    old = made.copied(tmp_path / "old")
    before = hashlib.sha256((old / "wirephoto.sqlite3").read_bytes()).digest()
    ran = within("restore", made.file, "--data-dir", old)
    assert ran.exit_code == Code.REFUSED
    assert "not empty" in ran.stderr
    assert hashlib.sha256((old / "wirephoto.sqlite3").read_bytes()).digest() == before


def test_a_store_in_use_is_left_alone(made: Made, service: Service) -> None:
    ran = within("restore", made.file, "--data-dir", service.data)
    assert ran.exit_code == Code.REFUSED
    assert "another Wirephoto is running" in ran.stderr


def altered(made: Made, target: Path, change: str) -> Path:
    """A copy with its database changed by a statement, or with one byte of a picture changed."""
    database = target.with_suffix(".sqlite3")
    with tarfile.open(made.file) as tar, tarfile.open(target, "w") as out:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            if member.name == "wirephoto.sqlite3" and change != "picture":
                database.write_bytes(content.read())
                with closing(sqlite3.connect(database, isolation_level=None)) as connection:
                    connection.execute(change)
                out.add(database, member.name)
                continue
            body = bytearray(content.read())
            if member.name.startswith("assets/") and change == "picture":
                body[len(body) // 2] ^= 1
            changed = target.with_suffix(".part")
            changed.write_bytes(body)
            out.add(changed, member.name)
    return target


def test_a_backup_of_a_newer_release_is_refused(made: Made, tmp_path: Path) -> None:
    newer = "INSERT INTO migrations (number, name, checksum, applied_at) VALUES (9999, '9999_later.sql', 'x', 0)"
    file = altered(made, tmp_path / "newer.tar", newer)
    ran = within("restore", file, "--data-dir", tmp_path / "new")
    assert ran.exit_code == Code.REFUSED
    assert "newer" in ran.stderr


def test_nothing_of_a_damaged_backup_is_loaded_and_a_good_one_still_fits(made: Made, tmp_path: Path) -> None:
    whole = made.file.read_bytes()
    bad: dict[str, Path] = {
        "a picture": altered(made, tmp_path / "picture.tar", "picture"),
        "the database": altered(made, tmp_path / "database.tar", "DELETE FROM keys"),
        "a reference": altered(made, tmp_path / "reference.tar", "UPDATE results SET asset_id = 999"),
    }
    for name, part in (("none", b""), ("head", whole[:700]), ("half", whole[: len(whole) // 2])):
        bad[name] = tmp_path / f"{name}.tar"
        bad[name].write_bytes(part)
    # Without its end, at the very border between two entries.
    with tarfile.open(made.file) as tar:
        manifest = tar.getmember("manifest.json")
    bad["no manifest"] = tmp_path / "end.tar"
    bad["no manifest"].write_bytes(whole[: manifest.offset] + bytes(1024))
    for name, file in bad.items():
        ran = within("restore", file, "--data-dir", tmp_path / "new")
        assert ran.exit_code == Code.FILE, (name, ran.stderr)
        assert ran.stderr.startswith("Error: "), name
        assert "Traceback" not in ran.stderr
    ran = within("restore", made.file, "--data-dir", tmp_path / "new")
    assert ran.exit_code == Code.SUCCESS, ran.stderr
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith(".wirephoto")]


def test_restore_says_which_key_must_be_brought(made: Made, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "secret.key").write_text("another key, of more than thirty-two characters")
    ran = within("restore", made.file, "--data-dir", new, "--json")
    assert ran.exit_code == Code.SUCCESS
    told = json.loads(ran.stdout)
    assert told["key_fits"] is False
    assert told["key_fingerprints"][0] in ran.stderr


def test_a_restore_that_is_interrupted_leaves_nothing(made: Made, tmp_path: Path) -> None:
    async def interrupted() -> None:
        loop = asyncio.get_running_loop()
        canceled = threading.Event()

        async def cancel() -> None:
            task.cancel()
            for _ in range(10):  # the loop's rounds until the task has heard of it
                await asyncio.sleep(0)
            canceled.set()

        def told(progress: Progress) -> None:
            if progress.doing == "rows" and not canceled.is_set():
                asyncio.run_coroutine_threadsafe(cancel(), loop)
                canceled.wait(PATIENCE)

        task = asyncio.create_task(restore(settings_for(tmp_path / "new"), made.file, 0, told))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert canceled.is_set()

    asyncio.run(interrupted())
    ran = within("restore", made.file, "--data-dir", tmp_path / "new")
    assert ran.exit_code == Code.SUCCESS, ran.stderr


def test_a_store_changes_its_kind_and_back_without_a_row_changed(made: Made, postgres: Server, tmp_path: Path) -> None:
    url = {"WIREPHOTO_DATABASE_URL": postgres.new_database()}
    there = within("restore", made.file, "--data-dir", tmp_path / "there", env=url)
    assert there.exit_code == Code.SUCCESS, there.stderr
    again = within("restore", made.file, "--data-dir", tmp_path / "there", env=url)
    assert again.exit_code == Code.REFUSED
    assert "not empty" in again.stderr
    back = within("backup", tmp_path / "back.tar.gz", "--data-dir", tmp_path / "there", env=url)
    assert back.exit_code == Code.SUCCESS, back.stderr
    assert within("restore", tmp_path / "back.tar.gz", "--data-dir", tmp_path / "here").exit_code == Code.SUCCESS
    assert asyncio.run(rows_of(tmp_path / "here")) == asyncio.run(rows_of(made.data))
    assert {path.name for path in pictures_in(tmp_path / "here")} == {path.name for path in pictures_in(made.data)}


async def rows_of(data: Path) -> list[tuple[str, list[dict[str, object]]]]:
    with sqlite.alone(data / "wirephoto.sqlite3") as reader:
        names = [table.name for table in await copying.tables(reader)]
        # By the first column, the key: what has no number of its own comes back in the key's order.
        select = "SELECT * FROM {} ORDER BY 1, 2"
        return [(name, [dict(row) for row in await reader.all(select.format(name), {})]) for name in names]


def test_what_postgresql_cannot_hold_is_replaced_and_no_hindrance(made: Made, postgres: Server, tmp_path: Path) -> None:
    old = made.copied(tmp_path / "old")
    with closing(sqlite3.connect(old / "wirephoto.sqlite3", isolation_level=None)) as connection:
        connection.execute("UPDATE callbacks SET body = ?", ("half\0half",))
    assert within("backup", tmp_path / "b.tar", "--data-dir", old).exit_code == Code.SUCCESS
    name = postgres.new_database()
    ran = within("restore", tmp_path / "b.tar", "--data-dir", tmp_path / "new", env={"WIREPHOTO_DATABASE_URL": name})
    assert ran.exit_code == Code.SUCCESS, ran.stderr
    assert "half\ufffdhalf" in postgres.dump(name)


def test_a_database_without_a_store_in_it_is_told_as_such(postgres: Server, tmp_path: Path) -> None:
    url = {"WIREPHOTO_DATABASE_URL": postgres.new_database()}
    (tmp_path / "empty").mkdir()
    with closing(sqlite3.connect(tmp_path / "empty" / "wirephoto.sqlite3")) as connection:
        connection.execute("PRAGMA user_version = 1")
    for data, env in ((tmp_path / "nothing", url), (tmp_path / "empty", {})):
        ran = within("backup", tmp_path / "b.tar", "--data-dir", data, env=env)
        assert ran.exit_code == Code.REFUSED, ran.stderr
        assert "nothing of a Wirephoto" in ran.stderr


def test_a_database_that_cannot_be_reached_is_3(made: Made, tmp_path: Path) -> None:
    url = {"WIREPHOTO_DATABASE_URL": "postgresql://nobody:hush@127.0.0.1:1/none"}
    ran = within("backup", tmp_path / "b.tar", "--data-dir", made.data, env=url)
    assert ran.exit_code == Code.UNREACHABLE
    assert "hush" not in ran.stderr
    assert list(tmp_path.iterdir()) == []
