"""A replay that is killed at any commit goes on where it was: it leaves out no event and owes none twice."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.pipeline.replay import PAGE
from tests.crash.scene import ENLARGE, Launch, Scene, scene
from tests.harness import PATIENCE

pytestmark = pytest.mark.anyio

EVERYTHING = {"since": "2020-01-01T00:00:00Z", "only": "all"}
NOBODY = {"image": {"url": "http://127.0.0.1:9/none.jpg"}}


async def _log_is_full(place: Scene) -> list[str]:
    """More events than a step takes, in the log before there is a subscriber; their ids."""
    life = await place.start()
    count = PAGE // 2 + 10
    answers = await asyncio.gather(*(place.client.submit(ENLARGE, inputs=NOBODY) for _ in range(count)))
    assert {status for status, _ in answers} == {202}
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while len(events) < 2 * count:
            after = events[-1]["sequence"] if events else 0
            _, page = await place.client.call("GET", f"/v1/events?limit=200&after={after}&wait=10")
            events += page["data"]
    life.terminate()
    assert await life.ended() == 0
    return [event["id"] for event in events]


async def _replayed(place: Scene, die: str) -> tuple[dict[str, Any], bool]:
    """A replay of everything, begun by a service that dies on the way, and its end; whether it has died."""
    mortal = await place.begin(die)
    if not await mortal.ready():
        await mortal.killed()
        await place.start()
    path = "/v1/endpoints"
    subscription = {"url": place.receiver.url, "events": ["job.*"]}
    _, endpoints = await _insist(place, "GET", path)
    if not endpoints["data"]:
        await _insist(place, "POST", path, json=subscription)
    _, endpoints = await _insist(place, "GET", path)
    (endpoint, *_) = endpoints["data"]
    # Whoever got no answer looks whether there is one before he asks again.
    status, made = await _insist(place, "POST", f"{path}/{endpoint['id']}/replay", json=EVERYTHING)
    assert status in (202, 409), made
    replay: dict[str, Any] = {"pending": 1}
    while replay["pending"] or replay["state"] == "running":
        _, page = await _insist(place, "GET", f"/v1/replays?endpoint={endpoint['id']}")
        (replay,) = page["data"]
    last = place.children[-1]
    last.terminate()
    code = await last.ended()
    assert code in (0, -signal.SIGKILL)
    died = await mortal.ended() == -signal.SIGKILL
    await place.start()
    return replay, died


async def _insist(place: Scene, method: str, path: str, **body: Any) -> tuple[int, Any]:
    """As a client does; but what may have begun a replay is not asked for twice."""
    try:
        return await place.client.call(method, path, **body)
    except aiohttp.ClientError:
        await place.children[-1].killed()
        await place.start()
    if path.endswith("/replay"):
        _, page = await place.client.call("GET", "/v1/replays")
        if page["data"]:
            return 202, page["data"][0]
    elif method == "POST":
        _, page = await place.client.call("GET", path)
        if page["data"]:
            return 201, page["data"][0]
    return await place.client.call(method, path, **body)


async def _each_was_owed_once(place: Scene, events: list[str], replay: dict[str, Any]) -> None:
    assert (replay["state"], replay["total"], replay["owed"]) == ("finished", len(events), len(events))
    deliveries: list[dict[str, Any]] = []
    path = "/v1/deliveries?limit=200"
    while path:
        _, page = await place.client.call("GET", path)
        deliveries += page["data"]
        path = "" if page["next"] is None else f"/v1/deliveries?limit=200&after={page['next']}"
    assert Counter(delivery["event"] for delivery in deliveries) == Counter(events)
    assert {(delivery["state"], delivery["attempt_count"]) for delivery in deliveries} == {("delivered", 1)}
    assert {entry.headers["webhook-id"] for entry in place.receiver.got} == set(events)


# Each is three lives of a service: two in the suite, all of them in the slow run.
MOMENTS = [
    "after:replay.step:1",
    "before:record.write_down:2",
    *(
        pytest.param(moment, marks=pytest.mark.slow)
        for moment in (
            "before:replay.begin:1",
            "after:replay.begin:1",
            "before:replay.step:1",
            "before:replay.step:2",
            "after:replay.step:2",
            "after:deliveries.claim:1",
            "after:record.write_down:1",
        )
    ),
]


@pytest.mark.parametrize("die", MOMENTS)
async def test_a_replay_that_is_killed_goes_on_and_doubles_nothing(
    launch: Launch, data_dir: Path, photo: Path, die: str
) -> None:
    async with scene(launch, data_dir, photo) as place:
        events = await _log_is_full(place)
        replay, died = await _replayed(place, die)
        assert died
        await _each_was_owed_once(place, events, replay)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_replay_survives_a_kill_at_any_commit(
    launch: Launch, data_dir: Path, photo: Path, everywhere: str, when: str
) -> None:
    # What one leaves behind after a commit is what another leaves before the next: each gap once. On PostgreSQL, where
    # the commits are the same, every second of them.
    first, step = 1 if when == "before" else 2, 2 if everywhere == "sqlite" else 4
    for nth in range(first, 120, step):
        async with scene(launch, data_dir / str(nth), photo) as place:
            events = await _log_is_full(place)
            replay, died = await _replayed(place, f"{when}:*:{nth}")
            await _each_was_owed_once(place, events, replay)
        if not died:
            break
    else:
        pytest.fail("it never lived to its end")
    assert nth > 8
    print(f"a replay: killed {when} its commits up to the {nth}th")
