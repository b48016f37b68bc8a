"""What meets on one row must leave nothing behind: a 410 and an event, a stale verdict and a job's new owner."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.event import EventType
from service.pipeline.core import Announced
from service.store import deliveries, events
from service.store.database import Database, Tx, Unit
from tests.acceptance.delivery_rig import QUEUED, Gate, Rig, rig, says
from tests.acceptance.helpers import ENLARGE
from tests.harness import PATIENCE, receiver, stand
from tests.store.rows import one_row, run
from tests.stores import Passing

pytestmark = pytest.mark.anyio


async def states(it: Rig, endpoint: dict[str, Any]) -> list[str]:
    status, listed = await it.client.call("GET", f"/v1/deliveries?endpoint={endpoint['id']}")
    assert status == 200
    return [entry["state"] for entry in listed["data"]]


async def test_an_event_that_is_being_written_while_its_receiver_says_410_is_held_and_sent_once_enabled(
    tmp_path: Path, everywhere: str
) -> None:
    async with rig(tmp_path) as it, receiver() as gone:
        gate = Gate()

        async def refuse(request: web.Request) -> web.Response:
            await gate(request)
            return await says(410)(request)

        gone.answers = [refuse]
        endpoint = await it.client.subscribe(gone.url, events=QUEUED, max_in_flight=1)
        await it.event()
        await gate.holds(1)
        core, project = it.stand.wirephoto.core, 1
        owed, go_on = asyncio.Event(), asyncio.Event()

        async def writes_an_event(tx: Tx) -> Announced:
            # As a job's unit: counter, event, fan-out; on PostgreSQL its commit may take its time.
            event = await events.add(tx, project, EventType.JOB_QUEUED, {"id": "of this test"}, core.clock.now())
            announced = Announced(event, await deliveries.fan_out(tx, event, core.node))
            owed.set()
            if everywhere == "postgres":
                await go_on.wait()
            return announced

        committing = asyncio.create_task(core.commit(writes_an_event))
        if everywhere == "postgres":
            await owed.wait()
        gate.opened.set()
        if everywhere == "postgres":
            # The 410 is being written down, and waits for the project's lock.
            async with asyncio.timeout(PATIENCE):
                while not (await core.db.read(one_row, WAITING, {}))["count"]:
                    pass
        go_on.set()
        assert await committing
        async with asyncio.timeout(PATIENCE):
            while (await it.endpoint(endpoint))["state"] != "disabled" or "pending" in await states(it, endpoint):
                pass
        status, _ = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable")
        assert status == 200
        async with asyncio.timeout(PATIENCE):
            while set(await states(it, endpoint)) != {"delivered"}:
                pass


WAITING = """
    SELECT COUNT(*) AS count FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_an_endpoint_that_is_deleted_while_its_deliveries_are_recorded_stops_nobody(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as busy:
        for _ in range(4):
            endpoint = await it.client.subscribe(busy.url, events=QUEUED)
            made = [asyncio.create_task(it.event()) for _ in range(12)]
            await busy.wait_for(len(busy.got) + 1)
            status, _ = await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}")
            assert status == 204
            await asyncio.gather(*made)
            async with asyncio.timeout(PATIENCE):
                while {"pending", "held"} & set(await states(it, endpoint)):
                    pass


class Watched(Passing):
    """A store that tells when a unit of this name has run."""

    def __init__(self, inner: Database, unit: str) -> None:
        super().__init__(inner)
        self._unit = unit
        self.has_run = asyncio.Event()

    async def write(self, unit: Unit[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = await super().write(unit, *args, **kwargs)
        if unit.__name__ == self._unit:
            self.has_run.set()
        return result


async def test_a_stale_no_does_not_end_a_job_that_another_node_works_on(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, receiver() as host:
        gate = Gate()

        async def is_missing(request: web.Request) -> web.Response:
            await gate(request)
            return web.Response(status=404)

        host.answers = [is_missing]
        status, job = await it.client.submit(ENLARGE, inputs={"image": {"url": host.url}})
        assert status == 202, job
        await gate.holds(1)
        core = it.wirephoto.core
        watched = core.db = Watched(core.db, "fail_job")
        assert await core.db.write(run, "UPDATE jobs SET node = 999 WHERE node IS NOT NULL", {}) == 1
        gate.opened.set()
        async with asyncio.timeout(PATIENCE):
            await watched.has_run.wait()
        assert (await it.client.job(job["id"]))["state"] == "staging"
