"""A service that was cut off from its database long enough for another to take its work over must end, not go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stores
from tests.crash.scene import ENLARGE, Launch, scene
from tests.postgres import Server, taken_from_its_service

pytestmark = pytest.mark.anyio


@pytest.fixture
def everywhere(postgres: Server) -> Iterator[str]:
    """One file has one process, for the system itself guards it."""
    stores.use(postgres)
    yield "postgres"
    stores.use(None)


async def test_a_service_whose_work_was_taken_over_ends_and_the_next_start_loses_nothing(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo) as place:
        first = await place.start()
        await place.subscribe()
        done = await place.submit(ENLARGE)
        await place.end_of(done)
        url = stores.url_for(data_dir)
        assert url is not None
        async with taken_from_its_service(url) as other:
            await other.execute("UPDATE nodes SET ended_at = beat_at")
        assert await first.ended() == 3
        assert "another Wirephoto has taken over" in first.lines[-1]
        await place.start()
        await place.end_of(await place.submit(ENLARGE))
