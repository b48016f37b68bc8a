"""Our example flow in a real Node-RED: it receives our signed events, believes them, and calls back."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests import node_tools
from tests.acceptance.helpers import ENLARGE, done
from tests.harness import API_KEY, PATIENCE, Receiver, Stand, receiver, stand
from tests.integrations.node import INTEGRATIONS, environment
from tests.integrations.software import PACKAGES
from tests.ports import free_port

pytestmark = pytest.mark.anyio

FLOW = INTEGRATIONS / "node-red" / "wirephoto.json"
SETTINGS = Path(__file__).with_name("node_red_settings.cjs")
START = 60.0
NEXT = "picwish/segmentation"


@dataclass
class NodeRed:
    it: Stand
    url: str
    endpoint: dict[str, Any]
    slack: Receiver  # stands for Slack's address
    told: Receiver  # somebody else who subscribes to everything, so that a test hears when something happens


async def started(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(START):
        while line := (await process.stdout.readline()).decode():
            lines.append(line)
            if "Started flows" in line:
                return
    raise AssertionError("".join(lines))


async def drained(stream: asyncio.StreamReader | None) -> None:
    """Who is not read stands still when the pipe is full."""
    assert stream is not None
    while await stream.read(1 << 16):
        pass


@asynccontextmanager
async def node_red(folder: Path) -> AsyncIterator[NodeRed]:
    async with stand(folder / "wirephoto") as it, receiver() as slack, receiver() as told:
        port = free_port()
        url = f"http://127.0.0.1:{port}/wirephoto"
        events = ["job.succeeded", "job.failed"]
        endpoint = await it.client.subscribe(url, events=events, format="flat", retry_schedule=[])
        await it.client.subscribe(told.url, events=["*"])
        home = folder / "node-red"
        home.mkdir()
        shutil.copy(FLOW, home / "flows.json")
        known = {
            "WIREPHOTO_URL": it.client.url,
            "WIREPHOTO_KEY": API_KEY,
            "WIREPHOTO_SECRET": endpoint["secret"],
            "SLACK_WEBHOOK_URL": slack.url,
        }
        process = await asyncio.create_subprocess_exec(
            node_tools.program("node"),
            str(PACKAGES / "node-red" / "node_modules" / "node-red" / "red.js"),
            *("--userDir", str(home), "--settings", str(SETTINGS), "--port", str(port)),
            env=environment("node-red", **known),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            await started(process)
            async with asyncio.TaskGroup() as group:
                group.create_task(drained(process.stdout))
                yield NodeRed(it, url, endpoint, slack, told)
                process.terminate()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def red(tmp_path: Path) -> AsyncIterator[NodeRed]:
    async with node_red(tmp_path) as it:
        yield it


async def jobs_after(red: NodeRed, job_id: str) -> list[dict[str, Any]]:
    status, found = await red.it.client.call("GET", f"/v1/jobs?metadata.after={job_id}")
    assert status == 200
    jobs: list[dict[str, Any]] = found["data"]
    return jobs


async def end_of_next(red: NodeRed) -> dict[str, Any]:
    """The event that tells of the end of the job that Node-RED has begun."""

    def found() -> dict[str, Any] | None:
        events = (got.event for got in red.told.got)
        ends = (event for event in events if event["type"] == "job.succeeded")
        return next((event for event in ends if event["data"]["operation"] == NEXT), None)

    await red.told.until(lambda: found() is not None)
    event = found()
    assert event is not None
    return event


async def deliveries(red: NodeRed, count: int) -> list[dict[str, Any]]:
    """What the ledger says of Node-RED, once that many have ended."""
    async with asyncio.timeout(PATIENCE):
        while True:
            _, found = await red.it.client.call("GET", f"/v1/deliveries?endpoint={red.endpoint['id']}")
            ended: list[dict[str, Any]] = [entry for entry in found["data"] if entry["state"] != "pending"]
            if len(ended) >= count:
                return ended


async def test_a_finished_picture_goes_on_into_the_next_job(red: NodeRed, photo: Path) -> None:
    job = await done(red.it.client, ENLARGE, photo)
    end = await end_of_next(red)
    (after,) = await jobs_after(red, job["id"])
    assert end["data"]["id"] == after["id"]
    assert (after["operation"], after["state"], after["inputs"]["image"]["job"]) == (NEXT, "succeeded", job["id"])
    # The end of the second was heard of too, and led to no third.
    ended = await deliveries(red, 2)
    assert [entry["state"] for entry in ended] == ["delivered", "delivered"]
    assert await jobs_after(red, after["id"]) == []

    # The same delivery once more is taken, and is no second job.
    _, once_more = await red.it.client.call("POST", f"/v1/deliveries/{ended[-1]['id']}/redeliver")
    async with asyncio.timeout(PATIENCE):
        while True:
            _, delivery = await red.it.client.call("GET", f"/v1/deliveries/{once_more['id']}")
            if delivery["attempt_count"] == 2 and delivery["state"] == "delivered":
                break
    assert [attempt["status"] for attempt in delivery["attempts"]] == [204, 204]
    assert await jobs_after(red, job["id"]) == [after]


async def test_a_failed_job_is_posted_to_slack_in_words(red: NodeRed) -> None:
    red.slack.answers = [web.Response(text="ok")]
    no_picture = {"image": {"url": f"{red.it.client.url}/openapi.json"}}
    status, job = await red.it.client.submit(ENLARGE, inputs=no_picture, metadata={"shop": "<north> & sons"})
    assert status == 202
    (got,) = await red.slack.wait_for(1)
    failed = await red.it.client.job(job["id"])
    assert list(got.event) == ["text"], "Slack takes nothing else"
    text = got.event["text"]
    assert text.startswith(f"Job {job['id']} ({ENLARGE}) has failed: {failed['error']['message']}")
    assert text.endswith("[input/not_an_image], shop=&lt;north&gt; &amp; sons")
    assert got.headers["content-type"] == "application/json"
    assert "authorization" not in got.headers, "our key is for our service alone"


async def test_what_is_not_signed_is_refused_and_nothing_is_done(red: NodeRed) -> None:
    forged = json.dumps({"id": "evt_1", "type": "job.succeeded", "job_id": "job_1"}).encode()
    signed = {"webhook-id": "evt_1", "webhook-timestamp": "1614265330", "webhook-signature": "v1,AAAA"}
    for headers in ({}, signed, {**signed, "webhook-timestamp": str(2**31)}, {**signed, "webhook-timestamp": "x"}):
        status, _ = await red.it.client.call("POST", red.url, key="", data=forged, headers=headers)
        assert status == 401, headers
    _, listed = await red.it.client.call("GET", "/v1/jobs")
    assert listed["data"] == []
