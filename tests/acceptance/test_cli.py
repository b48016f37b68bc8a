"""The command line as it is used: real commands as processes of their own, against a real `serve --sandbox`."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from service.accounts import KNOWN
from service.commands.codes import Code
from tests.acceptance.command_line import (
    ENLARGE,
    ONE_DATABASE,
    PATIENCE,
    Service,
    environment,
    wirephoto,
    within,
)
from tests.ports import free_port

pytestmark = ONE_DATABASE

TOKEN = {"WIREPHOTO_VANCEAI__API_TOKEN": "a-vendors-token-that-nobody-may-see"}


@pytest.fixture
def receiver() -> Iterator[str]:
    """A subscriber's URL: 204 to all, but 500 under /broken; and it has no pictures."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing: the tests' output is not its log."""

    # The service goes on trying it long after this test: its port is never given to anybody else.
    with HTTPServer(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# --- submit ----------------------------------------------------------------------------------------------------------


def test_submit_waits_and_leaves_a_picture_of_twice_the_size(service: Service, photos: Path) -> None:
    ran = service("submit", photos / "cat.jpg", *ENLARGE, "--wait", "-o", "big.jpg")
    assert ran.returncode == 0, ran.stderr
    assert "succeeded" in ran.stdout
    with Image.open(photos / "cat.jpg") as small, Image.open(service.cwd / "big.jpg") as big:
        assert big.size == (small.width * 2, small.height * 2)


def test_every_output_is_written_beside_the_first(service: Service, photos: Path) -> None:
    target = service.cwd / "faces" / "eileen.png"
    ran = service.within(
        *("submit", "--input", f"image={photos / 'astronaut.jpg'}", "--operation", "picwish/self-face-cutout"),
        *("--metadata", "product_id=8411", "--json", "-o", target),
    )
    assert ran.exit_code == 0, ran.stderr
    job = json.loads(ran.stdout)
    assert job["state"] == "succeeded"
    assert job["metadata"] == {"product_id": "8411"}
    assert sorted(path.name for path in target.parent.iterdir()) == ["eileen-mask.png", "eileen.png"]
    assert job["saved"] == [str(target), str(target.with_name("eileen-mask.png"))]


def test_several_pictures_become_several_jobs_whose_results_never_cover_each_other(
    service: Service, photos: Path
) -> None:
    twin = service.cwd / "elsewhere" / "coffee.jpg"
    twin.parent.mkdir()
    twin.write_bytes((photos / "coffee.jpg").read_bytes())
    ran = service.within("submit", photos / "coffee.jpg", twin, *ENLARGE, "-o", "results")
    assert ran.exit_code == 0, ran.stderr
    saved = sorted(path.name for path in (service.cwd / "results").iterdir())
    assert saved == ["coffee-2-enlarge3.jpg", "coffee-enlarge3.jpg"]


def test_one_bad_picture_is_named_and_harms_no_other(service: Service, photos: Path) -> None:
    ran = service.within("submit", photos / "README.md", photos / "cat.jpg", *ENLARGE, "-o", "mixed")
    assert ran.exit_code == Code.REFUSED
    assert "Error: README: " in ran.stderr
    assert "inputs.image:" in ran.stderr
    assert [path.name for path in (service.cwd / "mixed").iterdir()] == ["cat-enlarge3.jpg"]


def test_the_same_idempotency_key_never_makes_a_second_job(service: Service, photos: Path) -> None:
    again = ("submit", photos / "cat.jpg", *ENLARGE, "--idempotency-key", "order-4711", "--json")
    first, second = service.within(*again), service.within(*again)
    assert first.exit_code == second.exit_code == 0, second.stderr
    assert json.loads(first.stdout)["id"] == json.loads(second.stdout)["id"]


def test_an_unknown_operation_names_the_field(service: Service, photos: Path) -> None:
    ran = service.within("submit", photos / "cat.jpg", "--operation", "vanceai/no-such-thing")
    assert ran.exit_code == Code.REFUSED
    assert "operation:" in ran.stderr
    assert ran.stdout == ""


def test_every_faulty_field_is_told_to_machines_too(service: Service, photos: Path) -> None:
    wrong = ("--param", "scale=3000", "--param", "colour=red", "--json")
    ran = service.within("submit", photos / "cat.jpg", "--operation", "vanceai/enlarge3", *wrong)
    assert ran.exit_code == Code.REFUSED
    problem = json.loads(ran.stderr)
    assert problem["status"] == 422
    assert {fault["field"] for fault in problem["errors"]} == {"params.scale", "params.colour"}


def test_a_job_that_fails_is_no_success(service: Service, receiver: str) -> None:
    ran = service.within("submit", f"{receiver}/gone.jpg", *ENLARGE, "--wait", "-o", "never.jpg", "--json")
    assert ran.exit_code == Code.FAILED
    assert json.loads(ran.stdout)["error"]["class"] == "input"
    assert not (service.cwd / "never.jpg").exists()


def test_a_missing_file_is_told_before_anything_is_sent() -> None:
    ran = within("submit", "no-such.jpg", *ENLARGE, "--key", "wp_0123456789", "--url", "http://127.0.0.1:1")
    assert ran.exit_code == Code.USAGE
    assert "no-such.jpg" in ran.stderr


def test_a_replay_is_counted_and_then_followed_to_its_end(service: Service, receiver: str) -> None:
    # The endpoint is new: nothing of what the others' tests made was ever owed to it.
    assert service.within("submit", "http://127.0.0.1:1/none.jpg", *ENLARGE).exit_code == 0
    made = json.loads(service.within("endpoints", "add", receiver, "--events", "job.queued", "--json").stdout)
    again = ("endpoints", "replay", made["id"], "--since", "1h")
    assert service.within(*again, "--dry-run").stdout == "0 to be sent\n"
    count = json.loads(service.within(*again, "--all", "--dry-run", "--json").stdout)["count"]
    assert count >= 1
    ran = service(*again, "--all")
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(rf"rpl_\w+ finished: {count} of {count} once more, {count} of them settled\n", ran.stdout)
    told = json.loads(service.within(*again, "--all", "--until", "30m", "--no-wait", "--json").stdout)
    assert (told["object"], told["total"], told["only"]) == ("replay", 0, "all")
    for wrong in ("soon", "2 hours", "99999999w"):
        assert service.within("endpoints", "replay", made["id"], "--since", wrong).exit_code == Code.USAGE
    refused = service("endpoints", "replay", made["id"], "--since", "1h", "--until", "2h")
    assert refused.returncode == Code.REFUSED
    assert "since:" in refused.stderr


# --- who is asked, and by whom ---------------------------------------------------------------------------------------


def test_a_wrong_key_is_refused_and_not_repeated(service: Service) -> None:
    wrong = "wp_this-key-was-never-made-0123456789"
    ran = service.within("keys", "list", key=wrong)
    assert ran.exit_code == Code.REFUSED
    assert "WIREPHOTO_KEY" in ran.stderr
    assert wrong not in ran.stdout + ran.stderr


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = wirephoto("endpoints", "list", "--url", url, "--key", "wp_0123456789", cwd=tmp_path)
    assert ran.returncode == Code.UNREACHABLE
    assert url in ran.stderr
    assert "Traceback" not in ran.stderr


def test_no_key_is_told_as_such() -> None:
    ran = within("keys", "list")
    assert ran.exit_code == Code.USAGE
    assert "WIREPHOTO_KEY" in ran.stderr


# --- endpoints and keys ----------------------------------------------------------------------------------------------


def test_an_endpoint_is_added_listed_and_tested(service: Service, receiver: str) -> None:
    added = service.within("endpoints", "add", f"{receiver}/hook", "--events", "job.succeeded, job.failed", "--json")
    assert added.exit_code == 0, added.stderr
    endpoint = json.loads(added.stdout)
    assert endpoint["events"] == ["job.succeeded", "job.failed"]
    assert endpoint["secret"].startswith("whsec_")

    listed = service.within("endpoints", "list")
    assert listed.exit_code == 0, listed.stderr
    assert endpoint["id"] in listed.stdout
    assert f"{receiver}/hook" in listed.stdout
    assert endpoint["secret"] not in listed.stdout

    tested = service("endpoints", "test", endpoint["id"])
    assert tested.returncode == 0, tested.stderr
    assert "204" in tested.stdout


def test_an_endpoints_secret_is_rotated(service: Service, receiver: str) -> None:
    endpoint = json.loads(service.within("endpoints", "add", f"{receiver}/hook", "--json").stdout)
    ran = service.within("endpoints", "rotate", endpoint["id"], "--overlap", "60", "--json")
    assert ran.exit_code == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["secret"].startswith("whsec_")
    assert told["secret"] != endpoint["secret"]
    again = service.within("endpoints", "rotate", endpoint["id"])
    assert again.exit_code == 0, again.stderr
    assert "secret: whsec_" in again.stdout
    assert "signs too until" in again.stdout
    assert service.within("endpoints", "rotate", endpoint["id"], "--overlap", "604801").exit_code == Code.USAGE


def test_a_test_that_the_receiver_refuses_is_no_success(service: Service, receiver: str) -> None:
    endpoint = json.loads(service.within("endpoints", "add", f"{receiver}/broken", "--json").stdout)
    ran = service.within("endpoints", "test", endpoint["id"], "--json")
    assert ran.exit_code == Code.FAILED
    assert json.loads(ran.stdout)["status"] == 500


def test_a_key_is_shown_once_and_worthless_once_revoked(service: Service) -> None:
    made = service("keys", "create", "--role", "admin", "--name", "the shop")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert re.fullmatch(r"wp_\S+", key)

    listed = service.within("keys", "list", "--json", key=key)
    assert listed.exit_code == 0, listed.stderr
    assert key not in listed.stdout
    (entry,) = [entry for entry in json.loads(listed.stdout) if entry["name"] == "the shop"]
    assert entry["role"] == "admin"

    revoked = service.within("keys", "revoke", entry["id"])
    assert revoked.exit_code == 0, revoked.stderr
    assert service.within("keys", "list", key=key).exit_code == Code.REFUSED


def test_the_key_that_signs_is_rotated(service: Service) -> None:
    ran = service("keys", "rotate-signing", "--overlap", "60", "--json")
    assert ran.returncode == 0, ran.stderr
    first = json.loads(ran.stdout)
    assert first["public_key"].startswith("whpk_")
    again = service("keys", "rotate-signing")
    assert again.returncode == 0, again.stderr
    assert "public key: whpk_" in again.stdout
    assert first["public_key"] not in again.stdout
    assert "signs too until" in again.stdout
    leaked = service("keys", "rotate-signing", "--overlap", "0")
    assert leaked.returncode == 0, leaked.stderr
    assert "signs too until" not in leaked.stdout
    assert service("keys", "rotate-signing", "--overlap", "604801").returncode == Code.USAGE


# --- serve, check, version -------------------------------------------------------------------------------------------


def test_a_second_service_on_the_same_data_folder_is_refused_with_2(service: Service) -> None:
    ran = wirephoto("serve", "--sandbox", "--port", "0", "--data-dir", service.data, cwd=service.cwd)
    assert ran.returncode == Code.USAGE
    assert "another Wirephoto is running" in ran.stderr


def test_serve_refuses_an_unknown_setting_by_its_name_with_2(tmp_path: Path) -> None:
    ran = wirephoto("serve", cwd=tmp_path, env={"WIREPHOTO_PROT": "8080"})
    assert ran.returncode == Code.USAGE
    assert "WIREPHOTO_PROT" in ran.stderr


def test_the_help_loads_no_more_than_it_shows(tmp_path: Path) -> None:
    code = "import sys, service.cli; service.cli.main(['--help'], standalone_mode=False); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=True
    )
    assert "submit" in ran.stdout
    assert not {"aiohttp", "pydantic", "rich", "starlette", "PIL"} & set(ran.stdout.split())


def test_version_is_said(tmp_path: Path) -> None:
    ran = wirephoto("version", cwd=tmp_path)
    assert ran.returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", ran.stdout)


# --- the sandboxes and the demo --------------------------------------------------------------------------------------


def test_the_sandboxes_alone_print_settings_that_a_service_takes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "sandbox", "--ports", "vanceai=0,picwish=0,perfectcorp=0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment({}), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            while "PUBLIC_URL" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            pasted = dict(part.split("=", 1) for line in lines[1:] for part in line.removeprefix("export ").split())
            checked = wirephoto("check", cwd=tmp_path, env={**pasted, "WIREPHOTO_PORT": str(free_port())})
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    assert checked.returncode == 0, checked.stdout
    assert {f"WIREPHOTO_{known.name.upper()}__BASE_URL" for known in KNOWN} <= pasted.keys()


def test_the_demo_shows_verified_events_and_leaves_pictures(tmp_path: Path) -> None:
    ran = wirephoto("demo", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(re.findall(r"job\.succeeded .* signature verified", ran.stdout)) == 2
    assert "failed" not in ran.stdout
    found = {}
    for path in (tmp_path / "demo-results").iterdir():
        with Image.open(path) as image:
            found[path.name] = image.size
    assert found == {
        "coffee-enlarge3.jpg": (1200, 800),
        "astronaut-self-face-cutout.png": (512, 512),
        "astronaut-self-face-cutout-mask.png": (512, 512),
    }
