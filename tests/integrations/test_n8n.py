"""Our n8n nodes, run with n8n's own types, helpers and errors against the running service."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from tests import node_tools
from tests.harness import API_KEY, stand
from tests.integrations.node import environment
from tests.integrations.software import PACKAGES

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).with_name("n8n")
PATIENCE = 120


@pytest.mark.parametrize("file", ["trigger.test.cjs", "node.test.cjs"])
async def test_the_nodes_keep_their_promises(tmp_path: Path, photo: Path, file: str) -> None:
    """The promises are told in the file, by name."""
    async with (
        VanceAISandbox(VanceAIPlay(work_seconds=1.5, poll_seconds=0)) as vanceai,
        stand(tmp_path, vanceai=vanceai) as it,
    ):
        ran = await asyncio.create_subprocess_exec(
            node_tools.program("node"),
            "--test",
            "--test-reporter=spec",
            str(TESTS / file),
            env=environment("n8n", WIREPHOTO_URL=it.client.url, WIREPHOTO_KEY=API_KEY, PHOTO=str(photo)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            told = (await ran.communicate())[0].decode()
    written = (TESTS / file).read_text().count("\ntest(")
    counted = {
        name: int(count) for name, count in re.findall(r"^ℹ (pass|fail|skipped|todo) (\d+)$", told, re.MULTILINE)
    }
    assert counted == {"pass": written, "fail": 0, "skipped": 0, "todo": 0}, told
    assert ran.returncode == 0, told


def test_the_nodes_are_what_the_types_of_n8n_say() -> None:
    folder = node_tools.installed(PACKAGES / "n8n")
    ran = subprocess.run(
        [node_tools.program("node"), "node_modules/typescript/bin/tsc", "-p", "tsconfig.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout
