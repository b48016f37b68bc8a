"""`wirephoto check`: every fault that it can find, found through the command, with how it is mended and no secret."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from service import secret_key
from service.app import running
from service.checkup.findings import Level
from service.checkup.machine import space
from service.config import SECTIONS, Settings
from tests.acceptance.checked import Checked, checked
from tests.acceptance.command_line import ONE_DATABASE, SECRET_KEY, Service, environment, serving, within
from tests.acceptance.neighbours import Neighbour, neighbour, vendors
from tests.ports import free_port
from tests.s3 import S3

# On a server of databases: `test_check_postgres.py`.
pytestmark = ONE_DATABASE


@pytest.fixture(scope="module")
def vendor_settings() -> Iterator[dict[str, str]]:
    with vendors() as settings:
        yield settings


@pytest.fixture
def check(tmp_path: Path, vendor_settings: dict[str, str]) -> Checked:
    return checked(tmp_path, vendor_settings)


@pytest.fixture
def started(check: Checked) -> Checked:
    check.start_once()
    return check


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as it:
        yield it


@pytest.fixture
def beside(service: Service, vendor_settings: dict[str, str], tmp_path: Path) -> Checked:
    """Checks with the settings of a service that is up."""
    own = {
        "PORT": service.url.rpartition(":")[2],
        "DATA_DIR": str(service.data),
        "SECRET_KEY": SECRET_KEY,
        "PUBLIC_URL": service.url,
        "ALLOW_NETWORKS": "127.0.0.0/8",
    }
    return Checked(tmp_path, {**vendor_settings, **{f"WIREPHOTO_{name}": value for name, value in own.items()}})


@pytest.fixture
def other() -> Iterator[Neighbour]:
    with neighbour() as it:
        yield it


# --- settings and this machine ---------------------------------------------------------------------------------------


def test_a_new_installation_is_fit_and_nothing_is_made(check: Checked) -> None:
    code, findings, told = check()
    assert code == 0, told
    assert {about for about, finding in findings.items() if finding["level"] == Level.NOTE} <= {"public URL", "disk"}
    for about in ("data folder", "store", "asset store"):
        assert "will be made at the first start" in findings[about]["says"]
    assert list(check.folder.iterdir()) == []


def test_a_store_at_rest_is_left_as_it_was(started: Checked) -> None:
    def all_files() -> dict[str, bytes]:
        found = {str(path): path for path in started.data.rglob("*") if path.is_file()}
        # Beside the database lies what its readers share; it holds no data.
        return {name: b"" if name.endswith("-shm") else path.read_bytes() for name, path in found.items()}

    before = all_files()
    started.fit("store", "no process works on it")
    assert all_files() == before


def test_every_faulty_setting_is_named_at_once_and_none_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('prot = 8080\n[perfectcorp]\nclient_idd = "hunter2"\n')
    wrong = {"WIREPHOTO_PORT": "hunter2", "WIREPHOTO_VANCEAI__TOKEN": "hunter2", "WIREPHOTO_ASSETS_URL": "hunter2"}
    ran = within("check", "--config", file, env=wrong)
    assert ran.exit_code == 1
    names = ("PROT", "PERFECTCORP__CLIENT_IDD", "PORT", "VANCEAI__TOKEN", "ASSETS_URL")
    assert all(f"WIREPHOTO_{name}: " in ran.stdout for name in names)
    assert ran.stdout.count("FAULT settings") == len(names)
    assert "hunter2" not in ran.output


def test_a_port_that_somebody_else_has_is_found(check: Checked, other: Neighbour) -> None:
    check.wrong("address", "can't be listened on", PORT=other.url.rpartition(":")[2])


def test_a_data_folder_that_can_be_none_is_found(check: Checked) -> None:
    (check.folder / "file").touch()
    check.wrong("data folder", "is not a folder", DATA_DIR=str(check.folder / "file"))
    check.wrong("data folder", "can't be written to", DATA_DIR="/proc/wirephoto")


def test_a_data_folder_that_others_may_enter_is_told(started: Checked) -> None:
    started.data.chmod(0o755)
    started.fit("data folder", "open to other users", Level.NOTE)


@pytest.mark.parametrize(("free", "level"), [(299, Level.FAULT), (300, Level.NOTE), (5_000, Level.OK)])
def test_a_disk_without_room_for_an_upload_and_a_result_is_a_fault(free: int, level: Level) -> None:
    assert space(free * 1_000_000, 300_000_000).level is level


def test_a_ca_file_without_roots_is_found(check: Checked) -> None:
    roots = check.folder / "roots.pem"
    roots.write_text("no certificate")
    check.wrong("CA file", "can't be used", CA_FILE=str(roots))
    check.wrong("CA file", "No such file", CA_FILE=str(check.folder / "nowhere.pem"))


# --- the store and the key -------------------------------------------------------------------------------------------


def test_the_store_of_the_service_that_is_up_is_read_beside_it(beside: Checked) -> None:
    beside.fit("store", "in use by the Wirephoto that is up")
    beside.fit("public URL", "reaches this service")
    beside.fit("schema", "as this version knows it")


def test_who_works_on_the_store_while_nobody_answers_is_a_fault(beside: Checked) -> None:
    beside.wrong("store", "another process works on it", PORT=str(free_port()))


def test_another_installations_service_on_our_port_is_found(started: Checked, service: Service) -> None:
    started.wrong("address", "another installation's", PORT=service.url.rpartition(":")[2])


def test_a_file_that_is_no_database_is_found(check: Checked) -> None:
    check.data.mkdir()
    (check.data / "wirephoto.sqlite3").write_bytes(b"not a database" * 100)
    check.wrong("store", "can't be read")


def test_a_file_that_a_first_start_left_empty_is_no_fault(check: Checked) -> None:
    check.data.mkdir(mode=0o700)
    sqlite3.connect(check.data / "wirephoto.sqlite3").close()
    (check.data / "wirephoto.sqlite3").touch()
    check.fit("store", "will be made at the first start")


def test_how_the_schema_stands_to_this_version_is_told(started: Checked) -> None:
    started.change("INSERT INTO migrations VALUES (9999, '9999_later.sql', 'x', 0)")
    started.fit("schema", "9999, made by a newer version", Level.NOTE)
    started.change("DELETE FROM migrations")
    started.fit("schema", "the next start of this version brings it to", Level.NOTE)
    started.change("INSERT INTO migrations VALUES (1, '0001_first.sql', 'other', 0)")
    started.wrong("schema", "0001_first.sql differs")


def test_a_key_that_is_not_the_stores_is_found(started: Checked) -> None:
    started.fit("secret key", "fingerprint")
    started.wrong("secret key", "were sealed with", SECRET_KEY=SECRET_KEY[::-1])
    started.fit("secret key", "fingerprint", SECRET_KEY=SECRET_KEY, SECRET_KEYS_OLD=SECRET_KEY[::-1])
    del started.settings["WIREPHOTO_SECRET_KEY"]
    started.wrong("secret key", "none is given")


def test_how_far_a_change_of_the_key_has_come_is_told(started: Checked) -> None:
    new = {"SECRET_KEY": SECRET_KEY[::-1], "SECRET_KEYS_OLD": SECRET_KEY}
    started.fit("old secret keys", "are still needed: for 1 of projects' webhook secrets", Level.NOTE, **new)

    async def start() -> None:
        newest, old = SecretStr(SECRET_KEY[::-1]), [SecretStr(SECRET_KEY)]
        async with running(Settings(data_dir=started.data, secret_key=newest, secret_keys_old=old)) as it:
            while await it.core.db.read(secret_key.needed) != {it.core.vault.fingerprint}:
                pass

    asyncio.run(start())
    started.fit("old secret keys", "are needed for no secret", Level.NOTE, **new)
    started.fit("secret key", "fingerprint", SECRET_KEY=SECRET_KEY[::-1])
    started.wrong("secret key", "were sealed with")


def test_a_key_file_that_others_may_read_or_that_is_no_key_is_found(check: Checked) -> None:
    del check.settings["WIREPHOTO_SECRET_KEY"]
    check.data.mkdir(mode=0o700)
    file = check.data / "secret.key"
    file.write_text(SECRET_KEY)
    file.chmod(0o644)
    check.wrong("secret key", "can be read by other users")
    file.chmod(0o600)
    check.fit("secret key", "fingerprint")
    file.write_text("hunter2")
    check.wrong("secret key", "at least 32 characters")


# --- the asset store -------------------------------------------------------------------------------------------------


def test_a_bucket_that_takes_gives_and_removes_is_fit_and_left_as_it_was(check: Checked, s3: S3) -> None:
    check.fit("asset store", "takes, gives and removes", ASSETS_URL=s3.url)
    assert s3.keys() == set()


def test_a_folder_of_its_own_is_tried_too(check: Checked, tmp_path: Path) -> None:
    folder = tmp_path / "pictures of ours"
    folder.mkdir()
    check.fit("asset store", "takes, gives and removes", ASSETS_URL=folder.as_uri())
    (folder / "file").touch()
    check.wrong("asset store", "is not a folder", ASSETS_URL=(folder / "file").as_uri())
    check.wrong("asset store", "can't be written to", ASSETS_URL="file:///proc/pictures")


def test_a_bucket_that_is_missing_away_or_refuses_us_is_found(check: Checked, s3: S3) -> None:
    check.wrong("asset store", "no such bucket", ASSETS_URL="s3://no-such-bucket")
    with s3.refusing():
        check.wrong("asset store", "403", ASSETS_URL=s3.url)
    s3.stop()
    check.wrong("asset store", "connection is refused", ASSETS_URL=s3.url)


def test_an_environment_that_no_bucket_can_be_reached_with_is_found(
    check: Checked, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = check.folder / "roots.pem"
    roots.write_text("no certificate")
    check.wrong("asset store", "CA_FILE holds no certificates", ASSETS_URL=s3.url, CA_FILE=str(roots))
    with monkeypatch.context() as environment:
        environment.setenv("AWS_CHECKSUM_ALGORITHM", "hunter2")
        check.wrong("asset store", "one of the AWS_… variables", ASSETS_URL=s3.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "")
    check.wrong("asset store", "needs AWS_ALLOW_HTTP=true", ASSETS_URL=s3.url)


def test_a_bucket_of_another_installation_is_found(started: Checked, s3: S3) -> None:
    s3.put("owner")
    started.wrong("asset store", "another installation's pictures", ASSETS_URL=s3.url)


def test_a_bucket_without_the_library_names_the_extra(check: Checked) -> None:
    code = "import sys; sys.modules['obstore'] = None; from service.cli import main; main(sys.argv[1:])"
    env = environment({**check.settings, "WIREPHOTO_ASSETS_URL": "s3://anywhere"})
    for command, says in (("check", "FAULT asset store: "), ("serve", "Error: ")):
        ran = subprocess.run(
            [sys.executable, "-c", code, command],
            cwd=check.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode in (1, 2)
        assert f"{says}WIREPHOTO_ASSETS_URL: s3:// needs the extra s3" in ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr


# --- vendors and the public URL --------------------------------------------------------------------------------------


def _without(check: Checked, *vendors: str) -> None:
    """No account at these."""
    for name in vendors:
        for part in SECTIONS[name].CREDENTIALS:
            del check.settings[f"WIREPHOTO_{name.upper()}__{part.upper()}"]


@pytest.mark.parametrize(
    ("vendor", "credential"), [("vanceai", "API_TOKEN"), ("picwish", "API_KEY"), ("ailabtools", "API_KEY")]
)
def test_credentials_that_a_vendor_refuses_are_found_by_a_free_call(
    check: Checked, vendor: str, credential: str
) -> None:
    check.fit(f"vendor {vendor}", "takes the credentials")
    check.wrong(f"vendor {vendor}", "refuses the credentials", **{f"{vendor.upper()}__{credential}": "hunter2-of-us"})


@pytest.mark.parametrize("vendor", ["vanceai", "picwish", "ailabtools"])
def test_a_base_url_that_is_not_the_vendors_is_found(check: Checked, other: Neighbour, vendor: str) -> None:
    for status in (200, 404):
        other.answer(b"<html>a captive portal</html>", status, "text/html")
        check.wrong(f"vendor {vendor}", "can't be asked", **{f"{vendor.upper()}__BASE_URL": other.url})
    nobody = f"http://127.0.0.1:{free_port()}"
    check.wrong(f"vendor {vendor}", "can't be asked", **{f"{vendor.upper()}__BASE_URL": nobody})


def test_a_vendor_whose_window_is_full_says_nothing_against_us(check: Checked, other: Neighbour) -> None:
    other.answer(b'{"status": 429, "message": "slower"}', 429)
    check.fit("vendor picwish", "asked too often", Level.NOTE, PICWISH__BASE_URL=other.url)


def test_a_clock_that_receivers_would_not_believe_is_found(check: Checked, other: Neighbour) -> None:
    other.answer(b'{"status": 404, "message": "no such task"}', 404, Date="Thu, 01 Jan 2026 00:00:00 GMT")
    _without(check, *SECTIONS.keys() - {"picwish"})
    check.wrong("clock", "seconds ahead of the vendors'", PICWISH__BASE_URL=other.url)


def test_without_any_vendor_no_job_can_run(check: Checked) -> None:
    _without(check, *SECTIONS)
    check.wrong("vendors", "none is configured")


def test_a_public_url_that_leads_elsewhere_is_found(beside: Checked, other: Neighbour) -> None:
    other.answer(b"<html>it works!</html>", 200, "text/html")
    beside.wrong("public URL", "not a Wirephoto", PUBLIC_URL=other.url)
    other.answer(b'{"status": "ok", "installation": "another"}')
    beside.wrong("public URL", "another Wirephoto", PUBLIC_URL=other.url)


def test_a_public_url_that_cannot_be_judged_from_here_is_no_fault(beside: Checked, check: Checked) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    beside.fit("public URL", "can't be reached from here", Level.NOTE, PUBLIC_URL=nobody)
    check.fit("public URL", "the service is not up", Level.NOTE, PUBLIC_URL=nobody)
    beside.fit("public URL", "not https", Level.NOTE, ALLOW_NETWORKS="")
