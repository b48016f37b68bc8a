"""The pacer, in virtual time, before a vendor that forgives nothing: for any jobs, lives, ways and faults.

The turns, the host and the workers are the service's own; see tests/pacing_node.py.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from handlers.vendors.contract import Pace, Window
from tests.pacing_node import Node, ended, running, taken_up, work
from tests.pacing_world import Job, Ways, World
from tests.virtual_time import run

KEEP_ALIVE = 10.0
# What a window keeps back for requests that nobody foresaw (service/pacing/keeping.py), at least.
KEPT_BACK = 1
LONGEST_SECONDS = 4 * 3600


@dataclass(frozen=True)
class Case:
    """Everything that a story is made of; times in seconds."""

    seed: int
    pace: Pace
    accounts: Sequence[str]
    jobs: Sequence[tuple[float, Job]]
    looks: Sequence[tuple[float, str]]
    ways: Ways
    shared: int
    token_seconds: float | None

    def world(self) -> World:
        paces = dict.fromkeys(self.accounts, self.pace)
        return World(self.seed, paces, self.ways, shared=self.shared, token_seconds=self.token_seconds)

    @property
    def may_be_kept(self) -> bool:
        """Whether the windows are large enough for one task that lives to its deadline, and some more."""
        span = self.pace.deadline + 20
        return all(w.requests - 2 >= 4 + min(w.seconds, span) / (KEEP_ALIVE - 3.5) for w in self.pace.windows)


KINDS = ("short", "long", "mixed", "some nine")


def lives(dice: random.Random, deadline: float, kind: str) -> float:
    long, short = dice.uniform(deadline * 0.5, deadline * 1.2), dice.uniform(0.1, 9)
    many = {
        "long": long,
        "short": short,
        "mixed": dice.choice([long, short]),
        "some nine": 9 * math.exp(dice.gauss(0, 0.6)),
    }
    return many[kind]


def made(seed: int, many_accounts: int, kind: str, count: int) -> Case:
    dice = random.Random(seed)
    windows = [Window("ip", dice.randint(12, 60), float(dice.choice([20, 60, 100, 300])))]
    if dice.random() < 0.7:
        windows.append(Window("account", dice.randint(12, 40), float(dice.choice([5, 10, 30, 60]))))
    deadline = float(dice.choice([15, 25, 40, 60, 120]))
    pace = Pace(5, 5, deadline, 30, 30, windows=tuple(windows), keep_alive=KEEP_ALIVE, least=1.0, max_concurrent=16)
    accounts = ("first", "second")[:many_accounts]
    jobs = [
        (
            dice.choice([0, 0, 0, dice.uniform(0, 20)]),
            Job(
                number,
                lives(dice, deadline, kind),
                f"op{dice.randint(0, 1)}",
                dice.randint(1, 2),
                dice.choice(accounts),
            ),
        )
        for number in range(count)
    ]
    slowest = dice.uniform(2, 250)
    ways = Ways((slowest * dice.random(), slowest), (0, dice.choice([300, 300, 5_000, 20_000])))
    looks = [(dice.uniform(0, 30), dice.choice(accounts)) for _ in range(dice.randint(0, 4))]
    token = dice.choice([None, None, 1_000.0])
    return Case(seed, pace, accounts, jobs, looks, ways, dice.choice([0, 9]), token)


def cases() -> st.SearchStrategy[Case]:
    return st.builds(made, st.integers(0, 2**32), st.integers(1, 2), st.sampled_from(KINDS), st.integers(2, 24))


def told(case: Case) -> tuple[World, Node]:
    async def story() -> tuple[World, Node]:
        world = case.world()
        async with running(world) as node, asyncio.timeout(LONGEST_SECONDS):
            await work(node, case.jobs, looks=case.looks)
        return world, node

    return run(story)


def unfaulted(world: World) -> list[str]:
    return [task.name for task in world.vendor.lost if task.name not in world.store.faulted]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cases())
def test_no_window_is_exceeded_and_no_keep_alive_missed(case: Case) -> None:
    assume(case.may_be_kept)
    world, node = told(case)
    assert world.vendor.refusals == []
    assert world.vendor.lost == []
    assert world.vendor.too_early == 0
    assert {job.ended for job in world.store.jobs} <= {"succeeded", "timeout"}
    assert len(world.looked) == len(case.looks), "whoever wants to see something is served"
    assert node.pacer.choices <= 15 * world.vendor.requests, "nobody looks around without end"


@settings(max_examples=15, deadline=None, derandomize=True)
@given(cases(), st.sampled_from(["lost", "refused", "slow"]))
def test_who_suffers_from_a_fault_pays_for_it_alone(case: Case, fault: str) -> None:
    assume(case.may_be_kept)
    ways = {
        "lost": replace(case.ways, lost=50, most=KEPT_BACK),
        "refused": replace(case.ways, refused=50, most=KEPT_BACK),
        "slow": replace(case.ways, slow=50, most=KEPT_BACK),
    }
    world, _ = told(replace(case, ways=ways[fault]))
    assert world.vendor.refusals == []
    assert unfaulted(world) == []
    assert world.vendor.too_early == 0


@settings(max_examples=15, deadline=None, derandomize=True)
@given(cases(), st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 10))
def test_whatever_goes_wrong_all_jobs_end_and_no_window_is_exceeded(
    case: Case, lost: int, refused: int, slow: int, told_when: int
) -> None:
    ways = replace(case.ways, lost=lost, refused=refused, slow=slow, told=told_when)
    world, _ = told(replace(case, ways=ways))
    assert world.vendor.refusals == []
    assert world.vendor.too_early == 0
    assert all(job.ended for job in world.store.jobs)


# Its windows have no place for a question that need not be asked: once all were asked at the start nevertheless.
@example(made(0, 1, "long", 3), 1.0, 0.0)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cases(), st.floats(0.5, 60), st.floats(0, 0.3))
def test_a_kill_and_a_start_lose_no_task(case: Case, at: float, down: float) -> None:
    assume(case.may_be_kept)

    async def story() -> World:
        world = case.world()
        async with asyncio.timeout(LONGEST_SECONDS):
            async with running(world) as node:
                adding = asyncio.create_task(added(node, case.jobs))
                await asyncio.sleep(at)
                adding.cancel()
                await asyncio.gather(adding, return_exceptions=True)
            await asyncio.sleep(down)
            taken_up(world)
            async with running(world) as node:
                await ended(node)
        return world

    world = run(story)
    assert world.vendor.refusals == []
    assert world.vendor.lost == []
    assert world.vendor.too_early == 0


async def added(node: Node, jobs: Sequence[tuple[float, Job]]) -> None:
    for pause, job in jobs:
        await asyncio.sleep(pause)
        node.add(job)
