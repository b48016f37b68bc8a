"""Killed while a receiver rests that asked for it: whoever comes next leaves it alone, too."""

from pathlib import Path

import pytest

from tests.acceptance.delivery_rig import says
from tests.crash.scene import ENLARGE, Launch, scene
from tests.harness import receiver

pytestmark = pytest.mark.anyio


async def test_a_receiver_that_asked_for_an_hour_is_left_alone_after_a_kill(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo) as place, receiver() as tired:
        # The commit that holds the attempt holds the rest; nobody has been told of it.
        service = await place.start("after:record.write_down:1")
        tired.answers = [says(503, Retry_After="3600")]
        resting = await place.client.subscribe(tired.url, events=["job.queued"])
        await place.submit(ENLARGE)
        await service.killed()
        await place.start()
        await place.subscribe("job.*")
        job = await place.submit(ENLARGE)
        # What happened first was told first.
        await place.receiver.event_of(job, "job.succeeded")
        _, listed = await place.client.call("GET", f"/v1/deliveries?endpoint={resting['id']}")
        assert [(owed["state"], owed["attempt_count"]) for owed in listed["data"]] == [("pending", 0), ("pending", 1)]
        assert len(tired.got) == 1
