"""`wirephoto jobs`: found by what one knows of them, looked at, and tried again."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.commands.codes import Code
from tests.acceptance.command_line import ENLARGE, ONE_DATABASE, Service
from tests.ports import free_port

pytestmark = ONE_DATABASE


@pytest.fixture
def shy(photos: Path) -> Iterator[str]:
    """A picture's URL that is not there at first, and is there from the second look on."""
    looks = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal looks
            looks += 1
            if looks == 1:
                self.send_error(404)
                return
            body = (photos / "cat.jpg").read_bytes()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the tests' output is not its log."""

    # The service goes on trying it long after this test: its port is never given to anybody else.
    with HTTPServer(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/shy.jpg"
        server.shutdown()
        thread.join()


def submitted(service: Service, source: str | Path, *options: str) -> dict[str, Any]:
    ran = service.within("submit", source, *ENLARGE, "--json", *options)
    job: dict[str, Any] = json.loads(ran.stdout)
    return job


def listed(service: Service, *options: str) -> list[str]:
    ran = service.within("jobs", "list", "--json", *options)
    assert ran.exit_code == Code.SUCCESS, ran.stderr
    return [job["id"] for job in json.loads(ran.stdout)]


def test_jobs_are_found_by_state_operation_and_metadata(service: Service, photos: Path) -> None:
    done = submitted(service, photos / "cat.jpg", "--metadata", "shelf=a=1", "--metadata", "row=7", "--wait")["id"]
    other = submitted(service, photos / "cat.jpg", "--metadata", "shelf=b", "--wait")["id"]
    assert listed(service, "--metadata", "shelf=a=1") == [done]
    assert listed(service, "--metadata", "shelf=a=1", "--metadata", "row=7") == [done]
    assert listed(service, "--metadata", "shelf=a=1", "--metadata", "row=8") == []
    found = listed(service, "--state", "succeeded", "--operation", "vanceai/enlarge3", "--vendor", "vanceai", "--all")
    assert found.index(other) < found.index(done)
    assert listed(service, "--limit", "1") == found[:1]
    assert done not in listed(service, "--operation", "vanceai/matting", "--all")

    for_people = service.within("jobs", "list", "--limit", "1")
    assert found[0] in for_people.stdout
    assert "--all" in for_people.stderr


def test_a_job_is_shown_with_every_step(service: Service, photos: Path) -> None:
    job = submitted(service, photos / "cat.jpg", "--metadata", "product_id=8411", "--wait")
    told = json.loads(service.within("jobs", "show", job["id"], "--timeline", "--json").stdout)
    steps = [step["step"] for step in told["timeline"]]
    assert (steps[0], told["state"]) == ("accepted", "succeeded")
    assert {"submitted", "callback", "fetched", "event"} <= set(steps)
    assert "timeline" not in json.loads(service.within("jobs", "show", job["id"], "--json").stdout)

    for_people = service.within("jobs", "show", job["id"], "--timeline").stdout
    assert "product_id=8411" in for_people
    assert job["outputs"][0]["url"] in for_people.split()
    assert all(step in for_people for step in steps)


def test_a_failed_job_is_shown_as_what_it_is_and_that_is_no_failure(service: Service, shy: str) -> None:
    job = submitted(service, shy, "--wait")
    ran = service.within("jobs", "show", job["id"])
    assert ran.exit_code == Code.SUCCESS
    assert "input/" in ran.stdout


def test_a_failed_job_tried_again_leaves_its_picture(service: Service, shy: str) -> None:
    failed = submitted(service, shy, "--wait")
    assert failed["state"] == "failed"
    target = service.cwd / "at-last.jpg"
    once = ("jobs", "retry", failed["id"], "--idempotency-key", failed["id"], "-o", target, "--json")
    ran = service.within(*once)
    assert ran.exit_code == Code.SUCCESS, ran.stderr
    again = json.loads(ran.stdout)
    assert json.loads(service.within(*once).stdout)["id"] == again["id"]
    assert again["retry_of"] == failed["id"] != again["id"]
    assert (again["state"], again["saved"]) == ("succeeded", [str(target)])
    with Image.open(target) as image:
        assert image.size == (again["outputs"][0]["width"], again["outputs"][0]["height"])


def test_only_what_failed_is_tried_again(service: Service, photos: Path) -> None:
    job = submitted(service, photos / "cat.jpg", "--wait")
    ran = service.within("jobs", "retry", job["id"])
    assert ran.exit_code == Code.REFUSED
    assert ran.stdout == ""
    assert service.within("jobs", "cancel", job["id"]).exit_code == Code.REFUSED
