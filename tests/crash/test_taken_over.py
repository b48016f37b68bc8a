"""A service that was cut off from its database long enough for another to take its work over must end, not go on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from service.store.postgres_guard import LOCK
from tests import stores
from tests.crash.scene import ENLARGE, Launch, scene
from tests.harness import PATIENCE
from tests.postgres import Server

pytestmark = pytest.mark.anyio

WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1"
END_GUARD = """
    SELECT pg_terminate_backend(pg_locks.pid) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


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
        admin, other = await asyncpg.connect(url), await asyncpg.connect(url)
        # As a second service does that waits at the door, and comes in when the first one's session breaks off.
        taking = asyncio.create_task(other.execute("SELECT pg_advisory_lock($1)", LOCK))
        async with asyncio.timeout(PATIENCE):
            while not await admin.fetchval(WAITS, other.get_server_pid()):
                pass
            await admin.execute(END_GUARD)
            await taking
        await other.execute("UPDATE nodes SET ended_at = beat_at")
        await other.close()
        await admin.close()
        assert await first.ended() == 3
        assert "another Wirephoto has taken over" in first.lines[-1]
        await place.start()
        await place.end_of(await place.submit(ENLARGE))
