"""`wirephoto listen`: what a webhook would bring comes to one's own machine, and its answer is the attempt."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from standardwebhooks import Webhook

from service.commands.codes import Code
from tests.acceptance.command_line import ONE_DATABASE, PATIENCE, Service, environment, serving
from tests.ports import free_port

pytestmark = ONE_DATABASE


@dataclass(frozen=True)
class Got:
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Laptop:
    """A receiver on the user's own machine. `answers` are given in turn, then 204 for ever."""

    url: str = ""
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    got: "queue.Queue[Got]" = field(default_factory=queue.Queue)


@contextmanager
def laptop(port: int = 0) -> Iterator[Laptop]:
    it = Laptop()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            it.got.put(Got({name.lower(): value for name, value in self.headers.items()}, body))
            status, headers, answer = it.answers.pop(0) if it.answers else (204, {}, b"")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        it.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield it
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def listener(service: Service, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "service.cli", "listen", *options]
    env = environment(service.env)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next one; a listener that ended tells why."""
    assert process.stdout is not None
    told = process.stdout.readline()
    assert told, process.communicate(timeout=PATIENCE)
    return told


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it still says once Ctrl-C has ended it, which is a success."""
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == Code.SUCCESS, rest
    return rest


def ask(service: Service, path: str) -> Any:
    request = Request(service.url + path, headers={"Authorization": f"Bearer {service.key}"})
    with urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def submit(service: Service, photo: Path) -> None:
    ran = service.within("submit", photo, "--operation", "vanceai/enlarge3", "--wait")
    assert ran.exit_code == Code.SUCCESS, ran.stderr


def test_deliveries_come_byte_for_byte_and_their_signature_holds(service: Service, photos: Path) -> None:
    with laptop() as it:
        it.answers = [(200, {}, b"thanks")]
        with listener(service, "--forward-to", it.url, "--events", "job.succeeded", "--json") as process:
            endpoint = json.loads(line(process))
            assert (endpoint["kind"], endpoint["events"]) == ("stream", ["job.succeeded"])
            submit(service, photos / "cat.jpg")
            told = json.loads(line(process))
            got = it.got.get(timeout=PATIENCE)
            event = Webhook(endpoint["secret"]).verify(got.body, dict(got.headers))
            assert (event["id"], event["type"]) == (told["event"], "job.succeeded")
            assert got.headers["content-type"] == "application/json"
            assert got.headers["user-agent"].startswith("Wirephoto/1")
            assert (told["status"], told["outcome"], told["attempt"]) == (200, "delivered", 1)
            delivery = ask(service, f"/v1/deliveries/{told['delivery']}")
            (attempt,) = delivery["attempts"]
            assert (delivery["state"], attempt["status"], attempt["response_head"]) == ("delivered", 200, "thanks")
            assert attempt["ms"] == told["ms"]
            ended(process)
    assert endpoint["id"] not in [entry["id"] for entry in ask(service, "/v1/endpoints")["data"]], "deleted"


def test_a_person_sees_the_secret_each_answer_and_what_was_sent(service: Service, photos: Path) -> None:
    with laptop() as it:
        it.answers = [(500, {}, b""), (429, {"Retry-After": "77"}, b"")]
        options = ("--forward-to", it.url, "--events", "job.queued,job.submitted", "--print")
        with listener(service, *options) as process:
            assert it.url in line(process)
            assert line(process).startswith("secret: whsec_")
            submit(service, photos / "cat.jpg")
            told = [line(process) for _ in range(4)]
            answers, bodies = told[::2], told[1::2]
            assert {json.loads(body)["type"] for body in bodies} == {"job.queued", "job.submitted"}
            (failed,) = (text for text in answers if " 500 in " in text)
            assert "retry, again at 20" in failed
            (slow,) = (text for text in answers if " 429 in " in text)
            assert "slow_down, again at 20" in slow
            ended(process)


def test_without_a_receiver_events_are_only_printed(service: Service, photos: Path) -> None:
    with listener(service, "--events", "job.succeeded", "--print", "--json") as process:
        endpoint = json.loads(line(process))
        submit(service, photos / "cat.jpg")
        told = json.loads(line(process))
        Webhook(endpoint["secret"]).verify(told["body"], told["headers"])
        assert told["outcome"] == "delivered"
        ended(process)


def test_where_nobody_listens_the_attempt_has_failed_and_is_told_of(service: Service, photos: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/hook"
    with listener(service, "--forward-to", url, "--events", "job.succeeded", "--json") as process:
        line(process)
        submit(service, photos / "cat.jpg")
        told = json.loads(line(process))
        assert (told["status"], told["outcome"]) == (None, "retry")
        assert told["error"].startswith("connect: ")
        (attempt,) = ask(service, f"/v1/deliveries/{told['delivery']}")["attempts"]
        assert (attempt["status"], attempt["error"]) == (None, told["error"])
        ended(process)


def test_listening_outlives_a_restart_of_the_service(tmp_path: Path, photos: Path) -> None:
    port = free_port()
    with ExitStack() as services, laptop() as it:
        first = services.enter_context(serving(tmp_path, port))
        with listener(first, "--forward-to", it.url, "--events", "job.succeeded", "--json") as process:
            endpoint = json.loads(line(process))
            submit(first, photos / "cat.jpg")
            one = json.loads(line(process))
            services.close()
            again = services.enter_context(serving(tmp_path, port, first.key))
            submit(again, photos / "cat.jpg")
            two = json.loads(line(process))
            assert [told["outcome"] for told in (one, two)] == ["delivered", "delivered"]
            assert one["event"] != two["event"]
            got = [it.got.get(timeout=PATIENCE) for _ in range(2)]
            assert [Webhook(endpoint["secret"]).verify(each.body, dict(each.headers))["id"] for each in got] == [
                one["event"],
                two["event"],
            ]
            ended(process)


@pytest.mark.parametrize(
    ("answer", "says"), [((410, {}, b""), "wants no more"), ((200, {"webhook-delivery": "disable"}, b""), "no more")]
)
def test_a_receiver_that_wants_no_more_ends_it(
    service: Service, photos: Path, answer: tuple[int, dict[str, str], bytes], says: str
) -> None:
    with laptop() as it:
        it.answers = [answer]
        with listener(service, "--forward-to", it.url, "--events", "job.succeeded", "--json") as process:
            line(process)
            submit(service, photos / "cat.jpg")
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == Code.REFUSED
            assert says in json.loads(errors)["detail"]


def test_what_can_not_be_used_is_refused_before_anything_is_made(service: Service) -> None:
    before = ask(service, "/v1/endpoints")
    for options in ((), ("--forward-to", "localhost:3000"), ("--events", "job.succeeded")):
        assert service.within("listen", *options).exit_code == Code.USAGE, options
    ran = service.within("listen", "--print", "--events", "job.done")
    assert ran.exit_code == Code.REFUSED
    assert "events.0" in ran.stderr
    assert ask(service, "/v1/endpoints") == before
