"""Killed while a client has come for its deliveries: it comes back, and goes on where it was."""

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.sse import stream
from tests.crash.scene import ENLARGE, Launch, Scene, scene

pytestmark = pytest.mark.anyio

LOG = "/v1/events/stream"


async def _say(place: Scene, endpoint: dict[str, Any], handed: dict[str, Any]) -> int:
    said = {"delivery": handed["delivery"], "status": 204, "ms": 1}
    status, _ = await place.client.call("POST", f"/v1/endpoints/{endpoint['id']}/answers", json=said)
    return status


async def test_what_a_stream_was_handed_and_nobody_answered_is_handed_again(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        body = {"kind": "stream", "events": ["job.queued", "job.succeeded"], "max_in_flight": 1}
        _, endpoint = await place.client.call("POST", "/v1/endpoints", json=body)
        path = f"/v1/endpoints/{endpoint['id']}/stream"
        async with stream(place.client, path) as deliveries:
            await place.submit(ENLARGE)
            first = (await deliveries.next()).json
            await service.kill()
        await place.start()
        got = []
        async with stream(place.client, path) as deliveries:
            for _ in range(2):
                handed = (await deliveries.next()).json
                got.append(handed)
                assert await _say(place, endpoint, handed) == 200
        assert (got[0]["delivery"], got[0]["attempt"]) == (first["delivery"], 1), "it was not tried"
        _, listed = await place.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}")
        assert [(entry["state"], entry["attempt_count"]) for entry in listed["data"]] == [("delivered", 1)] * 2


async def test_a_reader_of_the_log_goes_on_after_a_kill_with_the_cursor_that_it_had(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        async with stream(place.client, LOG) as log:
            assert log.last_id == "0"
            await place.submit(ENLARGE)
            seen = [int((await log.next()).id)]
            await service.kill()
        await place.start()
        async with stream(place.client, LOG, {"Last-Event-ID": log.last_id}) as log:
            seen += [int((await log.next()).id) for _ in range(2)]
        assert seen == [1, 2, 3]
