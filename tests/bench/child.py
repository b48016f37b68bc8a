"""Processes of the bench: each does what it is told, one JSON line at a time, and says what CPU that took.

The parent has `Child`; a child calls `obey` with its orders by name.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

Order = Callable[..., Awaitable[Mapping[str, Any] | None]]

ROOT = Path(__file__).parents[2]


class Child:
    """A process of its own, so that its CPU-seconds are nobody else's."""

    def __init__(self, module: str, *args: str) -> None:
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.hello = self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, order: str, **values: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"order": order, **values}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the bench ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # There is nothing to save, and a kind end would wait for what is under way.
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


async def obey(orders: Mapping[str, Order], **hello: Any) -> None:
    """Carry out what comes in, until the parent closes the line. Each answer says the CPU it took."""
    _say(hello)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        told = json.loads(line)
        wall, cpu, thread = time.monotonic(), time.process_time(), time.thread_time()
        answer = await orders[told.pop("order")](**told)
        _say(
            {
                "wall": time.monotonic() - wall,
                "cpu": time.process_time() - cpu,
                "loop": time.thread_time() - thread,
                "cpu_total": time.process_time(),
                **(answer or {}),
            }
        )


def _say(what: Mapping[str, Any]) -> None:
    # Whole, and past whatever else is written to standard output.
    os.write(1, json.dumps(what).encode() + b"\n")
