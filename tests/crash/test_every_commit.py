"""A job's whole life, killed before and after each single commit in turn, from the first start on an empty folder.

The rows of the crash table are chosen by people; here nobody chooses. However the service is changed, its new units
are killed here too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest
from aiohttp import web

from tests.crash.scene import CUTOUT, ENLARGE, ONCE, Launch, Scene, scene
from tests.harness import TERMINAL, server_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

T = TypeVar("T")
# With the first start a job has some thirty commits: fewer, and we pass over some; many more, and it never ends.
LEAST, MOST = 20, 120


async def insist(place: Scene, call: Callable[[], Awaitable[tuple[int, T]]]) -> T:
    """As a client does: what got no answer is asked again when the service is back."""
    try:
        status, body = await call()
    except aiohttp.ClientError:
        await place.children[-1].killed()
        await place.start()
        status, body = await call()
    assert status < 300, body
    return body


async def life(place: Scene, die: str, operation: str, source: str | None) -> bool:
    """One job from the first start to its end; whether the service was killed on the way."""
    mortal = await place.begin(die)
    if not await mortal.ready():
        await mortal.killed()
        await place.start()
    client, subscription = place.client, {"url": place.receiver.url, "events": ["job.*"]}
    await insist(place, lambda: client.call("POST", "/v1/endpoints", json=subscription))
    inputs = {} if source is None else {"inputs": {"image": {"url": source}}}
    photo = place.photo if source is None else None
    job_id = (await insist(place, lambda: client.submit(operation, photo, headers=ONCE, **inputs)))["id"]
    ways_out = {
        asyncio.create_task(mortal.ended()),
        asyncio.create_task(place.receiver.event_of(job_id, *TERMINAL)),
    }
    _, open_ = await asyncio.wait(ways_out, return_when=asyncio.FIRST_COMPLETED)
    for way in open_:
        way.cancel()
    await asyncio.gather(*ways_out, return_exceptions=True)
    # What is still to be written is written in a kind end, and killed there.
    last = place.children[-1]
    if last is not mortal or last.alive:
        last.terminate()
        await last.ended()
    await place.start()
    job = await place.end_of(job_id)
    await place.pictures_are_whole(job)
    assert place.charges == 1 or job["billing"]["possible_duplicate"] is True
    assert place.charges <= 2
    _, jobs = await client.call("GET", "/v1/jobs")
    assert [entry["id"] for entry in jobs["data"]] == [job_id]
    return await mortal.ended() != 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", [ENLARGE, CUTOUT])
async def test_a_job_survives_a_kill_at_any_commit(
    launch: Launch, data_dir: Path, photo: Path, operation: str, when: str
) -> None:
    picture = photo.read_bytes()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=picture, content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/photo.jpg", serve)
    async with server_of(app) as url:
        for nth in range(1, MOST):
            # One vendor's job is staged from a link, the other's is uploaded.
            source = f"{url}/photo.jpg" if operation == ENLARGE else None
            async with scene(
                launch,
                data_dir / str(nth),
                photo,
                qps=10,
                VANCEAI__WATCHDOG_SECONDS="0.5",
                PICWISH__CALL_SECONDS="1.5",
            ) as place:
                killed = await life(place, f"{when}:*:{nth}", operation, source)
            if not killed:
                break
        else:
            pytest.fail("it never lived to its end")
    assert nth > LEAST
    print(f"{operation}: killed {when} each of {nth - 1} commits")
