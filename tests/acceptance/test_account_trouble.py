"""A vendor says no to the account: jobs wait instead of failing, it is told once, and a probe opens it again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from handlers.sandbox import faults
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.vanceai import VanceAISandbox, error
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from service.pacing.health import IN_A_ROW, PROBES_MS
from service.pacing.purse import LOOKS_MS
from tests.acceptance.helpers import CUTOUT, ENLARGE, asked, begun, fast_stand, in_state, play, reached
from tests.acceptance.made import finished
from tests.acceptance.test_api_tenants import tenant
from tests.acceptance.test_event_types import keeps, published
from tests.fast_clock import FastClock
from tests.harness import PATIENCE, Client, Stand, receiver, stand

pytestmark = pytest.mark.anyio

FIRST_PROBE = PROBES_MS[0] / 1000


async def vendor_events(client: Client) -> list[dict[str, Any]]:
    """All of them; each keeps its published schema."""
    kinds = await published(client)
    found: list[dict[str, Any]] = []
    for kind in sorted(kinds):
        if kind.startswith("vendor."):
            _, log = await client.call("GET", f"/v1/events?limit=200&type={kind}")
            found += log["data"]
    for event in found:
        keeps(kinds[event["type"]]["schema"], event)
    return sorted(found, key=lambda event: int(event["sequence"]))


async def told(client: Client, *wanted: str) -> list[dict[str, Any]]:
    """These and no others, in this order; the last of them may be on its way."""
    async with asyncio.timeout(PATIENCE):
        while len(events := await vendor_events(client)) < len(wanted):
            pass
    assert [event["type"] for event in events] == list(wanted)
    return events


async def shown(client: Client, name: str = "vanceai") -> dict[str, Any]:
    _, page = await client.call("GET", "/v1/vendors")
    found: dict[str, Any] = next(vendor for vendor in page["data"] if vendor["id"] == name)
    return found


async def until_shown(client: Client, name: str = "vanceai", **wanted: Any) -> dict[str, Any]:
    """What is told of the vendor as soon as it is so; each look is a request of its own."""
    async with asyncio.timeout(PATIENCE):
        while not wanted.items() <= (found := await shown(client, name)).items():
            pass
    return found


async def until_probed(client: Client, before: dict[str, Any]) -> dict[str, Any]:
    """Wait until the next probe is another than it was."""
    async with asyncio.timeout(PATIENCE):
        while (now := await shown(client, before["id"]))["next_probe_at"] == before["next_probe_at"]:
            pass
    return now


async def states(client: Client) -> Counter[str]:
    _, page = await client.call("GET", "/v1/jobs?limit=200")
    return Counter(job["state"] for job in page["data"])


async def settled(it: Stand, **wanted: int) -> None:
    """Wait until as many jobs as `wanted` are in these states, and none in any other."""
    async with asyncio.timeout(PATIENCE):
        while await states(it.client) != Counter(wanted):
            pass


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


# --- credits --------------------------------------------------------------------------------------------------------


async def test_credits_that_end_pause_fifty_jobs_and_fail_none(tmp_path: Path, photo: Path) -> None:
    """VanceAI is paid with the work here: each submission beyond the third is refused."""
    clock = FastClock(1.0)
    async with fast_stand(tmp_path, clock) as it, receiver() as operator:
        await it.client.subscribe(operator.url, events=["vendor.*"])
        play(it.vanceai, credits=Decimal(3), point_type="job")
        status, asset = await it.client.call("POST", "/v1/assets", data=photo.read_bytes())
        assert status == 201
        for _ in range(50):
            await begun(it.client, ENLARGE, None, inputs={"image": {"asset": asset["id"]}})
        await settled(it, succeeded=3, queued=47)
        paused = await until_shown(it.client, state="paused")
        assert (paused["healthy"], paused["queued"], paused["in_flight"]) == (False, 47, 0)
        assert paused["reason"] == "credits: the account at the vendor is empty (30004)"
        (event,) = await told(it.client, "vendor.credits_low")
        assert (event["data"]["healthy"], event["data"]["reason"]) == (False, paused["reason"])
        assert b'wirephoto_vendor_paused{vendor="vanceai"} 1.0' in (await it.client.call("GET", "/metrics", key=""))[1]
        tried = len(asked(it.vanceai, "transform"))
        assert tried <= 3 + it.wirephoto.site.vendors.get("vanceai").max_concurrent  # type: ignore[union-attr]

        # Still nothing there: the vendor says so for free, nobody is told again, and the next look is later.
        clock.jump(FIRST_PROBE)
        again = await until_probed(it.client, paused)
        await reached(it.vanceai, "point")
        assert again["next_probe_at"] > paused["next_probe_at"]
        assert (again["state"], again["since"]) == ("paused", paused["since"])
        assert len(asked(it.vanceai, "transform")) == tried

        play(it.vanceai, credits=Decimal(500))
        clock.jump(PROBES_MS[1] / 1000)
        await settled(it, succeeded=50)
        await told(it.client, "vendor.credits_low", "vendor.recovered")
        assert len(it.vanceai.charged) == 50
        assert it.vanceai.violations == []
        _, page = await it.client.call("GET", "/v1/jobs?limit=200")
        assert {str(job["billing"]) for job in page["data"]} == {
            str({"credits": "1.000", "charged": "yes", "possible_duplicate": False})
        }
        assert b'wirephoto_vendor_paused{vendor="vanceai"} 0.0' in (await it.client.call("GET", "/metrics", key=""))[1]
        well = await shown(it.client)
        assert (well["state"], well["reason"], well["next_probe_at"]) == ("ok", None, None)
        got = await operator.wait_for(2)
        assert types([entry.event for entry in got]) == ["vendor.credits_low", "vendor.recovered"]


async def test_results_that_cannot_be_paid_for_are_fetched_once_they_can(tmp_path: Path, photo: Path) -> None:
    """VanceAI is paid with the download here: what was done before the credits ended waits in its place."""
    clock = FastClock(1.0)
    async with fast_stand(tmp_path, clock) as it:
        play(it.vanceai, credits=Decimal(1), work_seconds=(release := asyncio.Event()).wait)
        for _ in range(4):
            await begun(it.client, ENLARGE, photo)
        await settled(it, running=4)
        release.set()
        await settled(it, succeeded=1, fetching=3)
        paused = await until_shown(it.client, state="paused")
        await begun(it.client, ENLARGE, photo)
        await settled(it, succeeded=1, fetching=3, queued=1)
        # Their own downloads are the probe: nothing more is begun for it.
        clock.jump(FIRST_PROBE)
        await until_probed(it.client, paused)
        await settled(it, succeeded=1, fetching=3, queued=1)
        assert len(asked(it.vanceai, "transform")) == 4
        play(it.vanceai, credits=Decimal(500), work_seconds=0)
        clock.jump(PROBES_MS[1] / 1000)
        await settled(it, succeeded=5)
        await told(it.client, "vendor.credits_low", "vendor.recovered")
        assert len(it.vanceai.charged) == 5


# --- the key --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sandboxes(clock: FastClock) -> AsyncIterator[dict[str, Any]]:
    """Both of them, for several starts of the service."""
    vance = VanceAISandbox(VanceAIPlay(work_seconds=0, poll_seconds=0), clock=clock.seconds, monotonic=clock.seconds)
    play_ = PicWishPlay(work_seconds=0, poll_seconds=0, qps=1000)
    pic = PicWishSandbox(play_, clock=clock.seconds, monotonic=clock.seconds)
    async with vance, pic:
        yield {"vanceai": vance, "picwish": pic}


@pytest.mark.parametrize(("name", "operation", "call"), [("vanceai", ENLARGE, "upload"), ("picwish", CUTOUT, "create")])
async def test_a_refused_key_pauses_across_a_restart_and_is_told_once(
    tmp_path: Path, photo: Path, name: str, operation: str, call: str
) -> None:
    clock = FastClock(1.0)
    async with sandboxes(clock) as both:
        sandbox = both[name]
        good = sandbox.key
        own: dict[str, Any] = {
            "vanceai_settings": {"api_token": SecretStr(good)},
            "picwish_settings": {"api_key": SecretStr(good), "limits": []},
        }
        async with stand(tmp_path, clock=clock, **both, **own) as it:
            sandbox.key = "another"
            for _ in range(8):
                await begun(it.client, operation, photo)
            await settled(it, queued=8)
            before = await until_shown(it.client, name, state="paused", in_flight=0)
            await told(it.client, "vendor.unavailable")
        tried = len(asked(sandbox, call))
        async with stand(tmp_path, clock=clock, **both, **own) as it:
            after = await shown(it.client, name)
            assert (after["state"], after["healthy"], after["since"]) == ("paused", False, before["since"])
            assert after["next_probe_at"] == before["next_probe_at"]
            clock.jump(FIRST_PROBE)
            # The free call is refused too: no job is sent after it.
            await until_probed(it.client, before)
            await settled(it, queued=8)
            sandbox.key = good
            clock.jump(PROBES_MS[1] / 1000)
            await settled(it, succeeded=8)
            assert len(asked(sandbox, call)) == tried + 8, "nothing was sent while it was paused"
            await told(it.client, "vendor.unavailable", "vendor.recovered")
            assert len(sandbox.charged) == 8


async def test_other_credentials_are_another_account_which_is_not_paused(tmp_path: Path, photo: Path) -> None:
    clock = FastClock(1.0)
    async with sandboxes(clock) as both:
        async with stand(tmp_path, clock=clock, **both, vanceai_settings={"api_token": SecretStr("old")}) as it:
            await begun(it.client, ENLARGE, photo)
            await until_shown(it.client, state="paused")
        async with stand(tmp_path, clock=clock, **both) as it:
            await settled(it, succeeded=1)
            await told(it.client, "vendor.unavailable", "vendor.recovered")
        async with stand(tmp_path, clock=clock, **both) as it:
            assert len(await vendor_events(it.client)) == 2


async def test_a_key_that_is_mended_while_nobody_waits_is_told_too(tmp_path: Path, photo: Path) -> None:
    clock = FastClock(1.0)
    async with fast_stand(tmp_path, clock) as it:
        it.vanceai.faults.next("upload", error(30001))
        job = await begun(it.client, ENLARGE, photo)
        await until_shown(it.client, state="paused")
        status, canceled = await it.client.call("POST", f"/v1/jobs/{job}/cancel")
        assert (status, canceled["state"]) == (200, "canceled")
        clock.jump(FIRST_PROBE)
        await until_shown(it.client, state="ok")
        await told(it.client, "vendor.unavailable", "vendor.recovered")


async def test_who_waits_for_a_job_of_a_paused_vendor_is_told_that_it_waits(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(50.0)) as it:
        it.vanceai.key = "another"
        status, job = await it.client.submit(ENLARGE, photo, headers={"Prefer": "wait=2"})
        assert (status, job["state"], job["error"]) == (202, "queued", None)
        assert job["billing"]["charged"] == "no"
        # Another vendor's jobs know nothing of it.
        status, job = await it.client.submit(CUTOUT, photo, headers={"Prefer": "wait=60"})
        assert (status, job["state"]) == (200, "succeeded")


async def test_the_operator_who_has_mended_something_can_have_it_looked_at_at_once(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(1.0)) as it:
        it.vanceai.faults.next("upload", error(30001))
        await begun(it.client, ENLARGE, photo)
        await until_shown(it.client, state="paused")
        path = "/v1/vendors/vanceai/probe"
        stranger = await tenant(it)
        assert (await stranger.client.call("POST", path))[0] == 403
        assert (await it.client.call("POST", "/v1/vendors/nobody/probe"))[0] == 404
        assert (await shown(it.client))["state"] == "paused"
        status, vendor = await it.client.call("POST", path)
        assert (status, vendor["id"]) == (202, "vanceai")
        await settled(it, succeeded=1)
        await told(it.client, "vendor.unavailable", "vendor.recovered")


# --- down, and low ----------------------------------------------------------------------------------------------------


async def test_a_vendor_that_is_down_is_told_once_and_nothing_is_paused(tmp_path: Path, photo: Path) -> None:
    clock = FastClock(200.0)
    async with fast_stand(tmp_path, clock) as it, receiver() as operator:
        await it.client.subscribe(operator.url, events=["vendor.*"])
        it.vanceai.faults.next("upload", faults.HTML_500, times=IN_A_ROW + 2)
        job = await begun(it.client, ENLARGE, photo)
        (came,) = await operator.wait_for(1)
        assert came.event["type"] == "vendor.unavailable"
        assert came.event["data"]["reason"] == "vendor: the vendor gives no answers, or only errors (500)"
        assert b'wirephoto_vendor_paused{vendor="vanceai"} 0.0' in (await it.client.call("GET", "/metrics", key=""))[1]
        await operator.wait_for(1, "vendor.recovered")
        await in_state(it.client, job, "succeeded")
        assert len(asked(it.vanceai, "upload")) == IN_A_ROW + 3
        await told(it.client, "vendor.unavailable", "vendor.recovered")


async def test_an_account_that_runs_low_is_told_before_it_is_empty(tmp_path: Path, photo: Path) -> None:
    clock = FastClock(1.0)
    low = {"vanceai_settings": {"credits_low": Decimal(10)}}
    async with fast_stand(tmp_path, clock, **low) as it, receiver() as operator:
        await it.client.subscribe(operator.url, events=["vendor.*"])
        await reached(it.vanceai, "point")
        play(it.vanceai, credits=Decimal("5.5"))
        await finished(it, photo)
        assert len(asked(it.vanceai, "point")) == 1, "it was asked at the start, and not again so soon"
        clock.jump(LOOKS_MS / 1000)
        await finished(it, photo)
        (came,) = await operator.wait_for(1)
        assert came.event["type"] == "vendor.credits_low"
        assert came.event["data"]["healthy"] is True
        assert Decimal(came.event["data"]["credits"]) < 10
        assert came.event["data"]["reason"] == "credits: fewer are left than CREDITS_LOW"
        well = await shown(it.client)
        assert (well["state"], well["healthy"]) == ("ok", True)
        play(it.vanceai, credits=Decimal(500))
        clock.jump(LOOKS_MS / 1000)
        await finished(it, photo)
        await operator.wait_for(1, "vendor.recovered")
        assert len(asked(it.vanceai, "point")) == 3
        assert len(await vendor_events(it.client)) == 2


async def test_a_vendor_that_does_not_tell_what_is_left_is_tried_by_one_job_at_a_time(
    tmp_path: Path, photo: Path
) -> None:
    clock = FastClock(1.0)
    async with fast_stand(tmp_path, clock) as it:
        empty = faults.answering({"status": 402, "message": "Insufficient balance"}, 402)
        it.picwish.faults.next("create", empty, times=2)
        await begun(it.client, CUTOUT, photo)
        first = await until_shown(it.client, "picwish", state="paused")
        for _ in range(2):
            await begun(it.client, CUTOUT, photo)
        clock.jump(FIRST_PROBE)
        # One is let through and refused: silently, and the others are not tried after it.
        await reached(it.picwish, "create", 2)
        await until_probed(it.client, first)
        await settled(it, queued=3)
        await until_shown(it.client, "picwish", state="paused", in_flight=0)
        assert len(asked(it.picwish, "create")) == 2
        clock.jump(PROBES_MS[1] / 1000)
        await settled(it, succeeded=3)
        await told(it.client, "vendor.credits_low", "vendor.recovered")
        assert len(it.picwish.charged) == 3


# --- who is told ----------------------------------------------------------------------------------------------------


async def test_another_project_sees_that_a_vendor_cannot_be_used_and_nothing_of_the_account(
    tmp_path: Path, photo: Path
) -> None:
    clock = FastClock(1.0)
    async with fast_stand(tmp_path, clock) as it, receiver() as theirs, receiver() as ours:
        stranger = await tenant(it)
        await stranger.client.subscribe(theirs.url)
        await it.client.subscribe(ours.url, events=["vendor.*"])
        it.vanceai.faults.next("transform", error(30004))
        # The job that meets it is theirs.
        job = await begun(stranger.client, ENLARGE, photo)
        await until_shown(it.client, state="paused")
        seen = await shown(stranger.client)
        assert (seen["state"], seen["healthy"], seen["reason"]) == ("down", False, "it can't be used now")
        assert (seen["since"], seen["next_probe_at"]) == (None, None)
        (came,) = await ours.wait_for(1, "vendor.credits_low")
        assert "30004" in str(came.event)
        clock.jump(FIRST_PROBE)
        await theirs.event_of(job, "job.succeeded")
        await ours.wait_for(1, "vendor.recovered")
        assert await vendor_events(stranger.client) == []
        assert {entry.event["type"].split(".")[0] for entry in theirs.got} == {"job"}
        assert (await shown(stranger.client))["state"] == "ok"
