"""`wirephoto events`: the log from where one wishes, and what happens now, through outages and restarts."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from service.commands.codes import Code
from tests.acceptance.command_line import ONE_DATABASE, PATIENCE, Service, environment, serving
from tests.ports import free_port

pytestmark = ONE_DATABASE


def sequences(service: Service, *options: str) -> list[int]:
    ran = service.within("events", "--json", *options)
    assert ran.exit_code == Code.SUCCESS, ran.stderr
    return [json.loads(line)["sequence"] for line in ran.stdout.splitlines()]


def submit(service: Service, photo: Path) -> None:
    ran = service.within("submit", photo, "--operation", "vanceai/enlarge3", "--wait")
    assert ran.exit_code == Code.SUCCESS, ran.stderr


def test_the_log_begins_where_one_wishes(service: Service, photos: Path) -> None:
    for _ in range(2):
        submit(service, photos / "cat.jpg")
    all_of_them = sequences(service, "--after", "0")
    newest = all_of_them[-1]
    assert all_of_them == list(range(1, newest + 1))
    assert sequences(service, "--last", "4") == all_of_them[-4:]
    assert sequences(service, "--last", "0") == []
    assert sequences(service, "--after", str(newest - 2)) == all_of_them[-2:]
    succeeded = sequences(service, "--after", "0", "--type", "job.succeeded")
    assert sequences(service, "--last", "2", "--type", "job.succeeded") == succeeded[-2:]
    assert len(succeeded) >= 2

    for_people = service.within("events", "--last", "1").stdout
    assert for_people.split()[0] == str(newest)


@contextmanager
def follower(service: Service, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "service.cli", "events", "--follow", *options]
    env = environment(service.env)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next one; a follower that ended tells why."""
    assert process.stdout is not None
    told = process.stdout.readline()
    assert told, process.communicate(timeout=PATIENCE)
    return told


def test_following_outlives_a_restart_and_tells_everything_once(tmp_path: Path, photos: Path) -> None:
    port = free_port()
    with serving(tmp_path, port) as first:
        submit(first, photos / "cat.jpg")
    with ExitStack() as services:
        services.enter_context(serving(tmp_path, port, first.key))
        with follower(first, "--after", "0", "--json") as process:
            heard = [json.loads(line(process)) for _ in range(3)]
            services.close()
            services.enter_context(serving(tmp_path, port, first.key))
            submit(first, photos / "cat.jpg")
            heard += [json.loads(line(process)) for _ in range(3)]
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=PATIENCE)
    assert rest == ""
    assert process.returncode == Code.SUCCESS
    assert [event["sequence"] for event in heard] == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_says_how_to_go_on(service: Service, photos: Path) -> None:
    submit(service, photos / "cat.jpg")
    with follower(service, "--last", "1") as process:
        last = line(process).split()[0]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == Code.SUCCESS
    assert f"--after {last}" in errors
    assert "Traceback" not in errors
