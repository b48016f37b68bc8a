"""The service that is measured: all of it, in a process of its own, told what to do over its standard input.

`python -m tests.bench.subject FOLDER [DATABASE_URL]`
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import uvloop
from pydantic import SecretStr

from handlers import standardwebhooks
from schemas import ids
from schemas.endpoint import Scheme, Terms
from schemas.event import EventType
from service import log as log_module
from service.app import Wirephoto, running
from service.config import Settings
from service.pipeline.core import Announced
from service.pipeline.signing import signing_key
from service.server import listen, serving
from service.store import deliveries, endpoints, events
from service.store.database import Tx
from service.vendor_settings import VanceAISettings
from tests.bench.child import obey
from tests.harness import API_KEY, settings_for

WRITER = "sqlite-writer"

# About the size of a real job.succeeded.
SAMPLE: dict[str, Any] = {
    "id": "job_01kbs35cg0jzw71grgcest15j2",
    "object": "job",
    "operation": "vanceai/enlarge3",
    "vendor": "vanceai",
    "state": "succeeded",
    "metadata": {"product_id": "8411"},
    "outputs": [{"name": "image", "url": "https://example.com/" + "x" * 150, "width": 2400, "height": 2400}],
    "billing": {"credits": "1.000", "charged": "yes", "possible_duplicate": False},
    "padding": "x" * 500,
}


async def _emit(tx: Tx, project: int, node: int, now: int) -> Announced:
    event = await events.add(tx, project, EventType.JOB_SUCCEEDED, SAMPLE, now)
    return Announced(event, await deliveries.fan_out(tx, event, node))


def _writer_cpu() -> float:
    """CPU-seconds of SQLite's writer; 0 where there is none."""
    writer = next((thread for thread in threading.enumerate() if thread.name == WRITER), None)
    if writer is None or writer.ident is None:
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(writer.ident))


class Subject:
    """The orders that it knows."""

    def __init__(self, it: Wirephoto) -> None:
        self._it = it
        self._core = it.core
        self._committed: dict[str, int] = {}

    async def subscribe(self, url: str, count: int, at_once: int, signatures: Sequence[str] = ("v1",)) -> None:
        if "v1a" in signatures:
            await self._core.db.write(signing_key, self._core, 1)
        for _ in range(count):
            now = self._core.clock.now()
            public_id = ids.new_id("ep", now)
            headers = self._core.vault.seal(public_id, "{}")
            terms = Terms(url, headers, max_in_flight=at_once, signatures=tuple(map(Scheme, signatures)))
            secret = self._core.vault.seal(public_id, standardwebhooks.new_secret())
            await self._core.db.write(endpoints.add, 1, public_id, "webhook", terms, secret, now, None)

    async def deliver(self, count: int, fan_out: int, at_once: int) -> Mapping[str, Any]:
        """Events committed with their deliveries; every one signed, sent, and its attempt recorded."""
        writer = _writer_cpu()
        await self._emit_all(count // fan_out, at_once)
        await self._until_delivered()
        return {"writer": _writer_cpu() - writer}

    async def _until_delivered(self) -> None:
        while self._it.site.deliver.pending:  # noqa: ASYNC110 - a signal of its own would be in the figure
            await asyncio.sleep(0.002)

    async def pend(self, count: int, fan_out: int) -> None:
        """Deliveries that nobody takes."""
        await self._emit_all(count // fan_out, 32)

    async def _emit_all(self, count: int, at_once: int) -> None:
        async def some(number: int) -> None:
            for _ in range(number):
                await self._core.commit(_emit, 1, self._core.node, self._core.clock.now())

        share, rest = divmod(count, at_once)
        await asyncio.gather(*(some(share + (n < rest)) for n in range(at_once)))

    async def trickle(self, count: int, each_ms: float) -> Mapping[str, Any]:
        """Events at an even pace; when each was known to be committed, in nanoseconds of the machine's clock."""
        committed: dict[str, int] = {}
        before = self._core.hand_over

        def noted(announced: Announced) -> None:
            committed[announced.event.id] = time.monotonic_ns()
            before(announced)

        self._core.hand_over = noted
        loop = asyncio.get_running_loop()
        start = loop.time()
        tasks = []
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number * each_ms / 1000 - loop.time()))
            tasks.append(asyncio.create_task(self._core.commit(_emit, 1, self._core.node, self._core.clock.now())))
        await asyncio.gather(*tasks)
        await self._until_delivered()
        self._core.hand_over = before
        return {"committed": committed}

    async def memory(self) -> Mapping[str, Any]:
        return {"rss": psutil.Process().memory_info().rss}

    async def nothing(self) -> Mapping[str, Any]:
        return {"writer_total": _writer_cpu()}


async def main(folder: Path, database_url: str | None) -> None:
    log_module.configure(json=True, level=logging.WARNING)
    # A vendor that takes each connection and never answers: what is measured is the way in.
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    vendor = VanceAISettings(
        base_url=f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", api_token=SecretStr("none")
    )
    changes: dict[str, Any] = {} if database_url is None else {"database_url": SecretStr(database_url)}
    settings: Settings = settings_for(folder, vanceai=None, **changes).model_copy(update={"vanceai": vendor})
    sock = listen(settings)
    async with running(settings) as it, serving(it, sock):
        subject = Subject(it)
        orders = {
            name: getattr(subject, name) for name in ("subscribe", "deliver", "pend", "trickle", "memory", "nothing")
        }
        await obey(orders, url=f"http://127.0.0.1:{sock.getsockname()[1]}", key=API_KEY)
    sock.close()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
