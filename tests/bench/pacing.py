"""The pacer in virtual time, beside fixed-interval polling and plain policies: `python -m tests.bench.pacing`.

Three stories, each with several seeds: Perfect Corp at the limits of its document, PicWish at its two requests a
second, and a vendor that is to be asked every five seconds. How long tasks live is learned in the run, not given.
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from handlers.vendors import ailabtools, perfectcorp, picwish
from handlers.vendors.contract import Pace, Purpose
from tests.bench import pacing_baselines as baselines
from tests.bench import pacing_report
from tests.bench.pacing_baselines import ACCOUNT, Arrivals
from tests.pacing_node import running, work
from tests.pacing_world import Job, Ways, World
from tests.virtual_time import run

SEEDS = 7
WAYS = Ways((50, 150), (100, 300))
# The document's polling_interval, and its way to ask the vendor without windows.
PERFECT_SECONDS, AILAB_SECONDS = 1.0, 5.0
SHARED = 9


@dataclass(frozen=True)
class Size:
    perfect: int = 200
    picwish: int = 300
    ailab: int = 300


QUICK = Size(perfect=25, picwish=60, ailab=60)


@dataclass(frozen=True)
class Outcome:
    """One run. `seconds` until the last job ended; `delay`: from a task's end until it was seen, on average."""

    lost: int
    refused: int
    requests: int
    polls: int
    seconds: float
    delay: float
    bounds: Mapping[str, float] = field(default_factory=dict)


def lives(seed: int, count: int, median: float, spread: float) -> list[float]:
    dice = random.Random(seed)
    return [median * math.exp(dice.gauss(0, spread)) for _ in range(count)]


def _outcome(world: World, bounds: Mapping[str, float] | None = None) -> Outcome:
    works = world.vendor.works
    found = [job for job in world.store.jobs if job.ended == "succeeded"]
    return Outcome(
        lost=sum(1 for job in world.store.jobs if job.ended != "succeeded"),
        refused=len(world.vendor.refusals),
        requests=world.vendor.requests,
        polls=world.sent[Purpose.POLL],
        seconds=max(job.ended_at for job in world.store.jobs) / 1000,
        delay=statistics.fmean((job.ended_at - works[job.name].done_at) / 1000 for job in found) if found else math.nan,
        bounds=bounds or {},
    )


def _told(
    seed: int,
    pace: Pace,
    act: Callable[[World], Awaitable[None]],
    *,
    shared: int = 0,
    bounds: Mapping[str, float] | None = None,
) -> Outcome:
    async def story() -> World:
        world = World(seed, {ACCOUNT: pace}, WAYS, shared=shared)
        await act(world)
        return world

    return _outcome(run(story), bounds)


def _ours(jobs: Arrivals) -> Callable[[World], Awaitable[None]]:
    async def act(world: World) -> None:
        async with running(world) as node:
            await work(node, jobs)

    return act


def _at_once(told: Sequence[float]) -> list[tuple[float, Job]]:
    return [(0, Job(number, life, account=ACCOUNT)) for number, life in enumerate(told)]


def _by_and_by(seed: int, told: Sequence[float], rate: float) -> list[tuple[float, Job]]:
    dice = random.Random(f"arrivals {seed}")
    return [(dice.expovariate(rate), Job(number, life, account=ACCOUNT)) for number, life in enumerate(told)]


def perfect(seed: int, size: Size) -> dict[str, Outcome]:
    """Jobs at once, a file call, a run and one question each ten seconds at least; lives log-normal, median 9 s."""
    told = lives(seed, size.perfect, 9, 0.6)
    pace = replace(perfectcorp.PACE, max_concurrent=32)
    window, keep_alive = pace.windows[0], pace.keep_alive or 0
    must = sum(2 + max(1, math.ceil(life / keep_alive)) for life in told)
    bounds = {
        "requests": must,
        # The first hundred are free, the others come at the allowed rate.
        "bound": max(must - window.requests, 1) / (window.requests / window.seconds),
        # A hundred in five minutes means so many whole windows: sooner than that nobody is ready.
        "floor": window.seconds * ((must - 1) // window.requests),
    }
    return {
        "ours": _told(seed, pace, _ours(_at_once(told)), shared=SHARED, bounds=bounds),
        "a file call each": _told(seed, pace, _ours(_at_once(told)), bounds=bounds),
        "plain": _told(
            seed, pace, lambda world: baselines.plain(world, [job for _, job in _at_once(told)], pace), bounds=bounds
        ),
        "fixed": _told(
            seed,
            pace,
            lambda world: baselines.fixed(world, _at_once(told), PERFECT_SECONDS, uploads=True),
            bounds=bounds,
        ),
    }


def two_a_second(seed: int, size: Size) -> dict[str, Outcome]:
    """One job in two seconds, as it happens; lives log-normal, median 10 s."""
    told, pace = lives(seed, size.picwish, 10, 0.35), replace(picwish.PACE, max_concurrent=64)
    return {
        "ours": _told(seed, pace, _ours(_by_and_by(seed, told, 0.5))),
        "round-robin": _told(seed, pace, lambda world: baselines.round_robin(world, _by_and_by(seed, told, 0.5), pace)),
    }


def every_five_seconds(seed: int, size: Size) -> dict[str, Outcome]:
    """One job in two seconds; lives log-normal, median 20 s."""
    told, pace = lives(seed, size.ailab, 20, 0.3), replace(ailabtools.PACE, max_concurrent=64)
    return {
        "ours": _told(seed, pace, _ours(_by_and_by(seed, told, 0.5))),
        "fixed": _told(
            seed,
            pace,
            lambda world: baselines.fixed(world, _by_and_by(seed, told, 0.5), AILAB_SECONDS, uploads=False),
        ),
    }


STORIES: Mapping[str, Callable[[int, Size], dict[str, Outcome]]] = {
    "perfectcorp": perfect,
    "picwish": two_a_second,
    "ailabtools": every_five_seconds,
}


def measure(seeds: Sequence[int], size: Size, only: Sequence[str] = ()) -> pacing_report.Measured:
    """By story and policy, one entry for each seed."""
    measured: dict[str, dict[str, list[dict[str, object]]]] = {}
    for name in only or STORIES:
        by_policy = measured.setdefault(name, {})
        for seed in seeds:
            for policy, outcome in STORIES[name](seed, size).items():
                by_policy.setdefault(policy, []).append(asdict(outcome))
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pacing", description=__doc__)
    parser.add_argument("--only", action="append", choices=STORIES, help="this story; may be given again")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"so many runs of each; default {SEEDS}")
    parser.add_argument("--quick", action="store_true", help="few jobs: only to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios there, as SVG")
    given = parser.parse_args(arguments)
    measured = measure(range(1, given.seeds + 1), QUICK if given.quick else Size(), given.only or ())
    print(pacing_report.markdown(measured))
    if given.json is not None:
        given.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if given.plot is not None:
        pacing_report.plot(measured, given.plot)


if __name__ == "__main__":
    main()
