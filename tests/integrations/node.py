"""A Node program that the tests talk with: a line of JSON each way, one at a time."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import node_tools
from tests.harness import PATIENCE
from tests.integrations.software import PACKAGES

INTEGRATIONS = Path(__file__).parents[2] / "handlers" / "integrations"
LONGEST_LINE = 1 << 26


def environment(package: str, **more: str) -> dict[str, str]:
    """What a Node program of ours is run with: it finds the packages, whatever folder it lies in itself."""
    modules = node_tools.installed(PACKAGES / package) / "node_modules"
    # In a test Zapier's checks of what comes out of an app are failures, elsewhere lines in a log.
    return {**os.environ, "NODE_PATH": str(modules), "NODE_ENV": "test", "NO_COLOR": "1", **more}


class Refused(Exception):
    """What was thrown on the other side, in its words."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(f"{told['name']}: {told['message']}")
        self.name, self.message = str(told["name"]), str(told["message"])

    @property
    def said(self) -> dict[str, Any]:
        """Zapier writes its errors as JSON into their messages."""
        said: dict[str, Any] = json.loads(self.message)
        return said


@dataclass
class Talk:
    process: asyncio.subprocess.Process

    async def __call__(self, **asked: Any) -> Any:
        """Raises Refused."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self.process.stdin.drain()
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        assert line, "the program has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer.get("result")


@asynccontextmanager
async def talking(program: Path, package: str) -> AsyncIterator[Talk]:
    process = await asyncio.create_subprocess_exec(
        node_tools.program("node"),
        str(program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(package),
        limit=LONGEST_LINE,
    )
    try:
        yield Talk(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await process.wait()
