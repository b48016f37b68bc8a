"""`make bench`: what Wirephoto's own work costs, as a ratio to the bare libraries in the same run. Asserts nothing.

Each figure is per CPU-second of this process (the receiver is another one), the median of five rounds, baseline and
figure in turn, so that a drifting machine moves both.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httptools  # noqa: F401 - the bench measures the fast parser, or says that it is missing
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from handlers import standardwebhooks
from schemas import ids
from schemas.event import EventType
from service import log as log_module
from service.app import Wirephoto, running
from service.pipeline.core import Announced
from service.store import deliveries, endpoints, events
from service.store.database import Tx
from tests.harness import settings_for

ROUNDS = 5
DELIVERIES = 3_000
AT_ONCE = 32

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


async def _per_cpu_second(count: int, work: Callable[[], Awaitable[None]]) -> float:
    started = time.process_time()
    await work()
    return count / (time.process_time() - started)


async def bare(url: str) -> None:
    """The bare aiohttp loop: the same bytes, posted by as many tasks, nothing signed, nothing kept."""
    body = b"x" * 1_100
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post(count: int) -> None:
            for _ in range(count):
                async with session.post(url, data=body) as answer:
                    await answer.read()

        await asyncio.gather(*(post(DELIVERIES // AT_ONCE) for _ in range(AT_ONCE)))


async def _emit(tx: Tx, project: int, node: int, now: int) -> Announced:
    event = await events.add(tx, project, EventType.JOB_SUCCEEDED, SAMPLE, now)
    return Announced(event, await deliveries.fan_out(tx, event, node))


async def _subscribe(it: Wirephoto, url: str, count: int) -> None:
    core = it.core
    for _ in range(count):
        now = core.clock.now()
        public_id = ids.new_id("ep", now)
        headers = core.vault.seal(public_id, "{}")
        fields = endpoints.Changeable(url, ("*",), (), "", (), headers, AT_ONCE)
        secret = core.vault.seal(public_id, standardwebhooks.new_secret())
        await core.db.write(endpoints.add, 1, public_id, "webhook", fields, secret, now, None)


async def deliver(it: Wirephoto, fan_out: int) -> None:
    """Events committed with their deliveries, signed, sent, and every attempt recorded."""
    core = it.core

    async def emit(count: int) -> None:
        for _ in range(count):
            await core.commit(_emit, 1, core.node, core.clock.now())

    total = DELIVERIES // fan_out
    await asyncio.gather(*(emit(total // AT_ONCE) for _ in range(AT_ONCE)))
    while it.site.deliver.pending:  # noqa: ASYNC110 - a signal of its own would be in the figure
        await asyncio.sleep(0.002)


async def _ratio(url: str, fan_out: int, step: Callable[[], None]) -> tuple[float, float, float]:
    baselines, figures = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with running(settings_for(Path(folder))) as it:
            await _subscribe(it, url, fan_out)
            for _ in range(ROUNDS):
                baselines.append(await _per_cpu_second(DELIVERIES, lambda: bare(url)))
                figures.append(await _per_cpu_second(DELIVERIES, lambda: deliver(it, fan_out)))
                step()
    ratio = statistics.median(figure / base for figure, base in zip(figures, baselines, strict=True))
    return statistics.median(baselines), statistics.median(figures), ratio


async def measure(url: str) -> Table:
    log_module.configure(json=True, level=40)
    table = Table("figure", "baseline /CPU-s", "Wirephoto /CPU-s", "ratio", title="SQLite, synchronous=FULL, uvloop")
    with Progress() as progress:
        for fan_out in (10, 1):
            name = f"deliveries, fan-out {fan_out}"
            task = progress.add_task(name, total=ROUNDS)
            base, figure, ratio = await _ratio(url, fan_out, lambda task=task: progress.advance(task))  # type: ignore[misc]
            table.add_row(name, f"{base:,.0f}", f"{figure:,.0f}", f"{ratio:.2f}")
    return table


def main() -> None:
    receiver = subprocess.Popen([sys.executable, "-m", "tests.bench.receiver"], stdout=subprocess.PIPE, text=True)
    with receiver:
        try:
            assert receiver.stdout is not None
            Console(width=100).print(uvloop.run(measure(f"http://127.0.0.1:{int(receiver.stdout.readline())}/")))
        finally:
            receiver.terminate()


if __name__ == "__main__":
    main()
