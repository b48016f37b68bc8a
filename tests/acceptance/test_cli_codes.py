"""How commands end: one number for each way, and one clear line for people or a problem for machines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import CONTENTS
from service.commands.codes import MEANINGS, Code, together
from tests.acceptance.command_line import ONE_DATABASE, PATIENCE, Service, environment, within
from tests.ports import free_port

pytestmark = ONE_DATABASE

WRONG_KEY = {"WIREPHOTO_KEY": "wp_this-key-was-never-made-0123456789"}


def problem(text: str) -> dict[str, object]:
    """All of standard error is one problem."""
    (line,) = text.splitlines()
    told: dict[str, object] = json.loads(line)
    assert {"type", "detail"} <= told.keys()
    return told


def test_success_is_0_and_json_is_one_document(service: Service) -> None:
    ran = service.within("jobs", "list", "--json")
    assert ran.exit_code == Code.SUCCESS
    assert isinstance(json.loads(ran.stdout), list)
    assert ran.stderr == ""


def test_a_bad_outcome_is_1(service: Service) -> None:
    made = service.within("endpoints", "add", f"http://127.0.0.1:{free_port()}/hook", "--json")
    ran = service.within("endpoints", "test", json.loads(made.stdout)["id"], "--json")
    assert ran.exit_code == Code.FAILED
    assert json.loads(ran.stdout)["delivered"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "list"),  # without a key
        ("jobs", "list", "--key", "wp_0123456789", "--metadata", "no-equals-sign"),
        ("events", "--key", "wp_0123456789", "--after", "1", "--last", "1"),
        ("jobs", "list", "--key", "wp_0123456789", "--url", "ftp://example.com"),
        ("no-such-command",),
    ],
)
def test_a_wrong_use_is_2(arguments: tuple[str, ...]) -> None:
    ran = within(*arguments)
    assert ran.exit_code == Code.USAGE
    assert ran.stderr.splitlines()[-1].startswith("Error: ")
    as_json = within(*arguments, "--json")
    assert as_json.exit_code == Code.USAGE
    problem(as_json.stderr)


def test_nobody_there_is_3() -> None:
    there = ("--url", f"http://127.0.0.1:{free_port()}", "--key", "wp_0123456789")
    for command in (("jobs", "list"), ("events", "--follow"), ("jobs", "retry", "job_1", "--wait"), ("keys", "list")):
        ran = within(*command, *there)
        assert ran.exit_code == Code.UNREACHABLE, command
        (line,) = ran.stderr.splitlines()
        assert line.startswith("Error: no answer from http://127.0.0.1:")
    problem(within("jobs", "list", *there, "--json").stderr)


def test_a_refusal_is_4(service: Service) -> None:
    for command in (("jobs", "show", "job_none"), ("jobs", "list", "--state", "asleep"), ("endpoints", "test", "ep_1")):
        assert service.within(*command).exit_code == Code.REFUSED
        told = problem(service.within(*command, "--json").stderr)
        assert told["status"] in (404, 422)
    assert within("jobs", "list", env={**service.env, **WRONG_KEY}).exit_code == Code.REFUSED


def test_a_file_that_cannot_be_written_is_5(service: Service, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("not a folder")
    target = tmp_path / "a-file" / "big.jpg"
    ran = service.within("submit", photos / "cat.jpg", "--operation", "vanceai/matting", "-o", target, "--json")
    assert ran.exit_code == Code.FILE
    problem(ran.stderr)


def test_ctrl_c_is_130(photos: Path, service: Service) -> None:
    # The signal comes while the job is waited for.
    code = (
        "import os, signal, threading, service.client as client, service.cli as cli\n"
        "asked = client.Client.wait\n"
        "async def wait(*args):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return await asked(*args)\n"
        "client.Client.wait = wait\n"
        "cli.main()\n"
    )
    submit = ["submit", str(photos / "cat.jpg"), "--operation", "vanceai/enlarge3", "--wait"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *submit],
        env=environment(service.env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == Code.INTERRUPTED
    assert "Traceback" not in ran.stderr


def test_several_works_that_fail_alike_end_with_their_code() -> None:
    assert together([]) == Code.SUCCESS
    assert together([Code.SUCCESS, Code.REFUSED, Code.REFUSED]) == Code.REFUSED
    assert together([Code.REFUSED, Code.FILE]) == Code.FAILED


def test_whoever_stops_reading_is_no_error(service: Service) -> None:
    service.within("submit", "http://127.0.0.1:1/no.jpg", "--operation", "vanceai/enlarge3")
    pipe = f"{sys.executable} -m service.cli events --after 0 --json | head -c 1"
    ran = subprocess.run(
        ["bash", "-c", pipe], env=environment(service.env), capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert ran.stderr == ""


def test_the_help_lists_every_code_and_every_command() -> None:
    told = within("--help").stdout
    section = told.split("Exit codes:")[1]
    for code in Code:
        assert f"  {int(code)} " in section
    assert set(MEANINGS) == set(Code)
    assert all(f"\n  {name} " in told for name in CONTENTS)
