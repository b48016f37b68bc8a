"""`/metrics`: what happened is counted, Prometheus can read it, and it tells nothing of anybody."""

import asyncio
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from pydantic import SecretStr

from service.metrics import PREFIX, Metrics
from tests.acceptance.delivery_rig import rig
from tests.acceptance.helpers import CUTOUT, ENLARGE
from tests.acceptance.made import queue
from tests.acceptance.sse import stream
from tests.faulty_store import away, troubled_store
from tests.harness import PATIENCE, Stand, receiver, stand

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


async def scraped(it: Stand, **headers: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Each series by its name and its labels' values, in the order of their names, as Prometheus' own parser reads."""
    status, body, got = await it.client.call_full("GET", "/metrics", key="", headers=headers)
    assert status == 200
    read = read_openmetrics if "openmetrics" in got["Content-Type"] else read_text
    series: dict[str, dict[tuple[str, ...], float]] = {}
    for family in read(body.decode()):
        for sample in family.samples:
            series.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = (
                sample.value
            )
    return series


async def when(it: Stand, name: str, count: int) -> dict[str, dict[tuple[str, ...], float]]:
    """What is scraped as soon as the counts of this name come to `count`; each look is a request of its own."""
    async with asyncio.timeout(PATIENCE):
        while total((found := await scraped(it)).get(name, {})) < count:
            pass
    return found


def total(of: Mapping[tuple[str, ...], float]) -> float:
    return sum(of.values())


async def test_what_happened_is_counted(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, retry_schedule=[0.01]) as it, receiver() as there, receiver() as bad:
        await it.client.subscribe(there.url)
        bad.answers = [web.Response(status=500), web.Response(status=500)]
        await it.client.subscribe(bad.url, events=["job.canceled"])
        waiting = {"Prefer": "wait=20"}
        await it.client.submit(ENLARGE, photo, headers=waiting)
        await it.client.submit(CUTOUT, photo, headers=waiting)
        await it.client.submit(ENLARGE, inputs={"image": {"url": it.vanceai.base_url}}, headers=waiting)
        stuck = await queue(it)
        await it.client.call("POST", f"/v1/jobs/{stuck['id']}/cancel")
        await there.wait_for(1, "delivery.exhausted")
        log = await it.client.events()
        # Counted when they are written down, after the receiver has them: one for each event, and the bad one's.
        found = await when(it, "wirephoto_first_attempt_delay_seconds_count", len(log) + 1)
        assert found["wirephoto_jobs_accepted_total"] == {(ENLARGE, "vanceai"): 3, (CUTOUT, "picwish"): 1}
        assert found["wirephoto_jobs_concluded_total"] == {
            ("", "succeeded", "vanceai"): 1,
            ("", "succeeded", "picwish"): 1,
            ("input", "failed", "vanceai"): 1,
            ("", "canceled", "vanceai"): 1,
        }
        assert total(found["wirephoto_job_seconds_count"]) == 4
        assert set(found["wirephoto_callbacks_total"]) == {
            ("vanceai", "webhook"),
            ("vanceai", "poll"),
            ("picwish", "poll"),
        }
        assert total(found["wirephoto_events_total"]) == len(log)
        assert found["wirephoto_events_total"][("job.queued",)] == 4
        assert found["wirephoto_attempt_seconds_count"][("retry",)] == 2
        assert found["wirephoto_deliveries_total"][("exhausted",)] == 1
        requests = found["wirephoto_vendor_requests_total"]
        assert requests[("answered", "submit", "picwish")] == 1
        assert {vendor for _, _, vendor in requests} == {"vanceai", "picwish"}
        assert found["wirephoto_store_commit_units_count"][()] > 10
        assert found["wirephoto_store_commit_units_sum"][()] >= found["wirephoto_store_commit_units_count"][()]
        assert found["wirephoto_store_commit_seconds_sum"][()] > 0
        assert found["process_resident_memory_bytes"][()] > 0


async def test_a_vendor_that_gives_no_answer_is_told_from_one_that_does(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path) as it:
        await it.picwish.stop()
        await it.client.submit(CUTOUT, photo)
        found = await when(it, "wirephoto_vendor_requests_total", 1)
        assert set(found["wirephoto_vendor_requests_total"]) == {("vendor", "submit", "picwish")}


async def test_how_things_stand_is_read_from_the_store(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, receiver() as there:
        there.answers = [web.Response(status=500), web.Response(status=500)]
        await it.client.subscribe(there.url, events=["job.queued"])
        job = await queue(it)
        await there.wait_for(1)
        found = await when(it, "wirephoto_deliveries_waiting", 1)
        assert found["wirephoto_deliveries_overdue_seconds"][()] == 0
        staged = {**found.get("wirephoto_jobs_in_hand", {}), **found.get("wirephoto_jobs_waiting", {})}
        assert staged == {("stage", "vanceai"): 1}
        assert found["wirephoto_store_up"][()] == 1
        assert found["wirephoto_build_info"] == {(platform.python_version(), version("wirephoto")): 1}
        assert found["wirephoto_node"][()] == it.wirephoto.core.node
        await it.client.call("POST", f"/v1/jobs/{job['id']}/cancel")
        assert "wirephoto_jobs_waiting" not in await scraped(it)


async def test_what_was_counted_is_told_while_the_store_is_away(tmp_path: Path) -> None:
    async with troubled_store(tmp_path) as store, stand(tmp_path, database=store) as it:
        await queue(it)
        assert (await scraped(it))["wirephoto_store_up"][()] == 1
        store.trouble = away
        found = await scraped(it)
        store.trouble = None
        assert found["wirephoto_store_up"][()] == 0
        assert total(found["wirephoto_jobs_accepted_total"]) == 1
        assert "wirephoto_deliveries_waiting" not in found, "what is not known now is not told"


async def test_both_of_prometheus_formats_are_spoken(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        text = await scraped(it, Accept="text/plain")
        open_metrics = await scraped(it, Accept="application/openmetrics-text; version=1.0.0")
        assert set(text) == set(open_metrics)


async def test_metrics_have_a_token_of_their_own(tmp_path: Path) -> None:
    token = "a-token-of-prometheus"
    async with stand(tmp_path, metrics_token=SecretStr(token)) as it:
        for key in ("", "wrong", it.client.key, token + "x"):
            status, problem, headers = await it.client.call_full("GET", "/metrics", key=key)
            assert (status, problem["type"]) == (401, "urn:wirephoto:problem:unauthenticated")
            assert headers["WWW-Authenticate"].startswith("Bearer")
        assert (await it.client.call("GET", "/metrics", key=token))[0] == 200
        # And it opens nothing else.
        assert (await it.client.call("GET", "/v1/jobs", key=token))[0] == 401


async def test_metrics_name_no_tenant_and_no_id(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path) as it, receiver() as there:
        await it.client.call("POST", "/v1/projects", json={"name": "a-tenants-name"})
        await it.client.subscribe(there.url)
        job = (await it.client.submit(ENLARGE, photo, headers={"Prefer": "wait=20"}, metadata={"who": "somebody"}))[1]
        await there.event_of(job["id"], "job.succeeded")
        text = (await it.client.call("GET", "/metrics", key=""))[1].decode()
        assert re.search(r"(job|ast|evt|ep|dlv|prj|key)_0", text) is None
        for secret in ("a-tenants-name", "somebody", it.client.key, there.url, it.vanceai.key):
            assert secret not in text


async def test_two_services_in_one_process_count_apart(tmp_path: Path) -> None:
    async with stand(tmp_path / "one") as one, stand(tmp_path / "two") as two:
        await queue(one)
        assert total((await scraped(one))["wirephoto_jobs_accepted_total"]) == 1
        assert "wirephoto_jobs_accepted_total" not in await scraped(two)


async def test_the_readme_lists_every_metric_and_no_other(tmp_path: Path) -> None:
    """By what Prometheus' own parser reads: name, kind and labels."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Metrics")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(wirephoto_\w+)` \|([^|]*)\| (\w+): .", table, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, labels, kind in rows}
    assert len(told) == len(rows) == table.count("| `wirephoto_")
    async with stand(tmp_path) as it:
        text = (await it.client.call("GET", "/metrics", key=""))[1].decode()
    kinds = {family.name: family.type for family in read_text(text) if family.name.startswith(PREFIX)}
    labels = {instrument.name: instrument.labels for instrument in Metrics().instruments}
    assert {name: (kind, labels[name]) for name, kind in kinds.items()} == told
    names = {family.name for family in read_text(text)}
    assert all(name.startswith((PREFIX, "process_")) for name in names), "and whose else"


async def test_names_and_units_are_as_prometheus_wants_them(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        _, body, _ = await it.client.call_full("GET", "/metrics", key="")
    for family in read_text(body.decode()):
        assert re.fullmatch(r"[a-z][a-z0-9_]+", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|millis\w*|minutes|kb|mb)$", family.name), "base units only"
        assert family.type != "histogram" or family.name.endswith(("_seconds", "_units"))


async def test_how_long_what_is_owed_has_been_kept_is_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as there:
        endpoint = await it.client.subscribe(there.url, events=["job.queued"])
        there.answers = [web.Response(status=410)]
        first = await it.event()
        await it.until(first, endpoint, lambda found: found["state"] == "held")
        it.clock.leap(60_000)
        await it.event()
        found = await scraped(it.stand)
        assert found["wirephoto_deliveries_held"][()] == 2
        assert found["wirephoto_deliveries_held_oldest_seconds"][()] == 60
        assert found["wirephoto_deliveries_queued"][()] == 0
        assert found["wirephoto_attempts_total"] == {("4xx", "gone"): 1}


async def test_attempts_are_counted_by_what_came_back(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, receiver() as there:
        there.answers = [web.Response(status=503), web.Response(status=301), web.Response(status=204)]
        for _ in range(3):
            await it.client.subscribe(there.url, events=["job.queued"])
        await it.client.subscribe("http://127.0.0.1:1/", events=["job.queued"])
        await queue(it)
        found = await when(it, "wirephoto_attempts_total", 4)
        assert found["wirephoto_attempts_total"] == {
            ("5xx", "slow_down"): 1,
            ("3xx", "retry"): 1,
            ("2xx", "delivered"): 1,
            ("connect", "retry"): 1,
        }


async def test_who_waits_for_an_answer_is_counted(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        waiting = asyncio.create_task(it.client.call("GET", "/v1/events?wait=20"))
        found = await when(it, "wirephoto_requests_waiting", 1)
        assert found["wirephoto_requests_waiting"][()] == 1
        await queue(it)
        assert (await waiting)[0] == 200
        assert (await scraped(it))["wirephoto_requests_waiting"][()] == 0


async def test_open_streams_are_counted(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        assert (await scraped(it))["wirephoto_streams"] == {("events",): 0, ("deliveries",): 0}
        _, endpoint = await it.client.call("POST", "/v1/endpoints", json={"kind": "stream"})
        log, owed = "/v1/events/stream", f"/v1/endpoints/{endpoint['id']}/stream"
        async with stream(it.client, log), stream(it.client, log), stream(it.client, owed):
            found = await when(it, "wirephoto_streams", 3)
            assert found["wirephoto_streams"] == {("events",): 2, ("deliveries",): 1}


async def test_the_time_from_a_vendors_last_word_to_the_event_is_told(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path) as it:
        for operation in (ENLARGE, CUTOUT):
            await it.client.submit(operation, photo, headers={"Prefer": "wait=20"})
        stuck = await queue(it)
        await it.client.call("POST", f"/v1/jobs/{stuck['id']}/cancel")
        found = await scraped(it)
        # The one that no vendor has spoken of is not in it.
        assert found["wirephoto_completion_to_event_seconds_count"] == {("vanceai",): 1, ("picwish",): 1}
        assert total(found["wirephoto_completion_to_event_seconds_sum"]) < total(found["wirephoto_job_seconds_sum"])


async def test_a_vendors_windows_are_told_with_their_size(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        found = await scraped(it)
        assert found["wirephoto_vendor_window_size"].keys() == found["wirephoto_vendor_window_left"].keys()
        assert found["wirephoto_vendor_window_size"][("account", "1", "picwish")] == 2
