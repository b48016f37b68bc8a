"""Completion in a real bash: commands, options, operations and ids; silent and quick where no service is."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.commands.codes import Code
from tests.acceptance.command_line import ONE_DATABASE, PATIENCE, Service, environment, within
from tests.ports import free_port

pytestmark = ONE_DATABASE


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`wirephoto` on a path of its own, as an installation puts it there."""
    path = tmp_path_factory.mktemp("bin") / "wirephoto"
    start = "from service.cli import main; main(prog_name='wirephoto')"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    path.chmod(0o755)
    return path


def completed(program: Path, *words: str, env: Mapping[str, str] | None = None) -> list[str]:
    """What bash offers for the last word."""
    script = """
        source <(wirephoto completion bash)
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _wirephoto_completion wirephoto
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    own = environment(env or {})
    ran = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", "wirephoto", *words],
        env={**own, "PATH": f"{program.parent}{os.pathsep}{own['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


def test_bash_completes_commands_and_options(program: Path) -> None:
    assert completed(program, "en") == ["endpoints"]
    assert completed(program, "jobs", "") == ["cancel", "list", "retry", "show"]
    assert completed(program, "jobs", "list", "--met") == ["--metadata"]
    assert completed(program, "events", "--type", "job.f") == ["job.failed"]


def test_bash_completes_what_the_service_holds(program: Path, service: Service) -> None:
    made = service.within("submit", "http://127.0.0.1:1/no.jpg", "--operation", "vanceai/enlarge3", "--json")
    job = json.loads(made.stdout)["id"]
    enlargers = ["vanceai/enlarge", "vanceai/enlarge3"]
    assert sorted(completed(program, "submit", "--operation", "vanceai/enl", env=service.env)) == enlargers
    assert job in completed(program, "jobs", "show", "job_", env=service.env)
    # The key may stand in the line itself.
    given = ("--url", service.url, "--key", service.key)
    assert job in completed(program, "jobs", "retry", *given, job[:8])


def test_completion_is_silent_where_nobody_answers(program: Path, service: Service) -> None:
    nobody = {"WIREPHOTO_URL": f"http://127.0.0.1:{free_port()}", "WIREPHOTO_KEY": "wp_0123456789"}
    assert completed(program, "jobs", "show", "", env=nobody) == []
    assert completed(program, "jobs", "show", "") == []
    assert completed(program, "jobs", "show", "", env={**service.env, "WIREPHOTO_KEY": "wp_0123456789"}) == []
    # Whoever takes the connection and never says a word holds nobody up.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        env = {**nobody, "WIREPHOTO_URL": f"http://127.0.0.1:{mute.getsockname()[1]}"}
        assert completed(program, "jobs", "show", "", env=env) == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_served_too(shell: str) -> None:
    ran = within("completion", shell)
    assert ran.exit_code == Code.SUCCESS
    assert f"{shell}_complete" in ran.stdout
    assert "wirephoto" in ran.stdout
