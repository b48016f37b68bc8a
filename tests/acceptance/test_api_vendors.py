"""GET /v1/vendors: which vendors work, what is left of their limits, and what is under way there."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.vanceai import error
from service.accounts import KNOWN
from service.vendor_settings import Limit
from tests.acceptance.helpers import ENLARGE, begun, done, fast_stand, reached
from tests.acceptance.made import finished, hold_work, queue
from tests.acceptance.test_api_tenants import tenant
from tests.fast_clock import FastClock
from tests.harness import PATIENCE, Stand, receiver, stand

pytestmark = pytest.mark.anyio


def limit(requests: int, seconds: float = 3600) -> Limit:
    return Limit(requests=requests, seconds=seconds)


async def vendors(it: Stand) -> dict[str, Any]:
    status, page = await it.client.call("GET", "/v1/vendors")
    assert status == 200, page
    assert page["next"] is None
    return {vendor["id"]: vendor for vendor in page["data"]}


async def health(it: Stand, name: str) -> tuple[Any, Any, Any]:
    vendor = (await vendors(it))[name]
    return vendor["healthy"], vendor["reason"], vendor["since"]


# --- is it there, does it work? --------------------------------------------------------------------------------------


async def test_each_vendor_says_whether_it_is_configured_and_how_it_is_heard(tmp_path: Path) -> None:
    async with stand(tmp_path, picwish_settings={"api_key": None}) as it:
        shown = await vendors(it)
        assert set(shown) == {known.name for known in KNOWN} >= {"vanceai", "picwish"}
        assert (shown["vanceai"]["configured"], shown["vanceai"]["announces"]) == (True, "webhook")
        assert (shown["vanceai"]["healthy"], shown["vanceai"]["reason"]) == (None, None), "nothing was heard yet"
        assert shown["picwish"]["configured"] is False
        assert "credentials" in shown["picwish"]["reason"]
        assert (shown["picwish"]["announces"], shown["picwish"]["windows"]) == ("poll", [])
    async with stand(tmp_path, reachable=False) as it:
        assert (await vendors(it))["vanceai"]["announces"] == "poll"


async def test_a_vendor_that_does_its_work_is_healthy(it: Stand, photo: Path) -> None:
    await finished(it, photo)
    assert await health(it, "vanceai") == (True, None, None)
    assert (await health(it, "picwish"))[0] is None


@pytest.mark.parametrize(
    ("endpoint", "code", "wrong"),
    [
        ("upload", 30001, "auth: the vendor refuses our key (30001)"),
        ("transform", 30004, "credits: the account at the vendor is empty (30004)"),
    ],
)
async def test_what_is_wrong_with_an_account_is_told_until_the_same_call_goes_well(
    tmp_path: Path, photo: Path, endpoint: str, code: int, wrong: str
) -> None:
    clock = FastClock(1.0)
    async with fast_stand(tmp_path, clock) as it:
        it.vanceai.faults.next(endpoint, error(code))
        job = await begun(it.client, ENLARGE, photo)
        async with asyncio.timeout(PATIENCE):
            while (found := (await vendors(it))["vanceai"])["state"] != "paused":
                pass
        assert (found["healthy"], found["reason"]) == (False, wrong)
        assert (await it.client.job(job))["created_at"] <= found["since"] < found["next_probe_at"]
        async with asyncio.timeout(PATIENCE):
            while (await it.client.job(job))["state"] != "succeeded":
                # Whenever its next step is due.
                clock.jump(5)
        assert await health(it, "vanceai") == (True, None, None)


async def test_a_vendor_is_down_after_the_third_error_in_a_row_and_up_with_its_next_answer(
    tmp_path: Path, photo: Path
) -> None:
    async with stand(tmp_path, clock=FastClock(50.0)) as it:
        it.vanceai.faults.next("upload", faults.HTML_500, times=2)
        it.vanceai.faults.next("upload", replace(faults.HTML_500, hold=True))
        it.vanceai.faults.next("upload", faults.HANG)
        job = await begun(it.client, ENLARGE, photo)
        await reached(it.vanceai, "upload", 3)
        assert await health(it, "vanceai") == (None, None, None), "two errors say little"
        it.vanceai.faults.release()
        await reached(it.vanceai, "upload", 4)
        healthy, reason, since = await health(it, "vanceai")
        assert (healthy, reason) == (False, "vendor: the vendor gives no answers, or only errors (500)")
        assert since >= (await it.client.job(job))["created_at"]
        it.vanceai.faults.release()
        assert (await done(it.client, ENLARGE, photo))["state"] == "succeeded"
        assert await health(it, "vanceai") == (True, None, None)


async def test_what_is_wrong_with_a_job_says_nothing_against_its_vendor(it: Stand, photo: Path) -> None:
    for _ in range(4):
        it.vanceai.faults.next("transform", error(10012))
        assert (await done(it.client, ENLARGE, photo))["error"]["class"] == "input"
    assert await health(it, "vanceai") == (True, None, None)


async def test_a_worker_that_has_died_here_is_told(it: Stand) -> None:
    await it.wirephoto.site.alive["submit vanceai"].stop(0)
    healthy, reason, _ = await health(it, "vanceai")
    assert healthy is False
    assert "submit vanceai" in reason
    assert (await health(it, "picwish"))[0] is None


# --- limits and what is under way ------------------------------------------------------------------------------------


async def test_windows_tell_what_is_used_and_when_the_next_request_may_go(tmp_path: Path, photo: Path) -> None:
    limits = {"limits": [limit(5), limit(100, 7200)]}
    async with stand(tmp_path, vanceai_settings=limits) as it:
        (tight, wide) = (await vendors(it))["vanceai"]["windows"]
        assert tight == {"scope": "account", "requests": 5, "seconds": 3600, "used": 0, "left": 5, "free_at": None}
        await finished(it, photo)
        sent = len(it.vanceai.requests)
        (tight, wide) = (await vendors(it))["vanceai"]["windows"]
        assert (tight["used"], wide["used"]) == (sent, sent)
        assert (tight["left"], wide["left"]) == (5 - sent, 100 - sent)
    # The count is durable.
    async with stand(tmp_path, vanceai_settings=limits) as it:
        assert (await vendors(it))["vanceai"]["windows"][1]["used"] == sent


async def test_a_full_window_says_when_it_opens(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, vanceai_settings={"limits": [limit(1)]}) as it:
        await begun(it.client, ENLARGE, photo)
        await reached(it.vanceai, "upload")
        (window,) = (await vendors(it))["vanceai"]["windows"]
        assert (window["used"], window["left"]) == (1, 0)
        job = (await it.client.call("GET", "/v1/jobs"))[1]["data"][0]
        assert window["free_at"] > job["created_at"]


async def test_what_is_under_way_is_counted(it: Stand, photo: Path) -> None:
    async with receiver() as shop:
        await it.client.subscribe(shop.url, events=["job.submitted"])
        hold = hold_work(it)
        running = await begun(it.client, ENLARGE, photo)
        await shop.event_of(running, "job.submitted")
        # In the queue until a source answers.
        await queue(it)
        vendor = (await vendors(it))["vanceai"]
        assert (vendor["in_flight"], vendor["queued"], vendor["jobs"]["running"]) == (1, 1, 1)
        assert set(vendor["jobs"]) == {"queued", "staging", "submitting", "running", "fetching"}
        assert vendor["next_poll_at"] is not None
        assert vendor["max_concurrent"] == it.wirephoto.site.vendors.get("vanceai").max_concurrent  # type: ignore[union-attr]
        assert vendors_idle((await vendors(it))["picwish"])
        await it.client.subscribe(shop.url, events=["job.succeeded"])
        hold.set()
        await shop.event_of(running, "job.succeeded")
        vendor = (await vendors(it))["vanceai"]
        assert (vendor["in_flight"], vendor["queued"], vendor["jobs"]["running"]) == (0, 1, 0)


def vendors_idle(vendor: dict[str, Any]) -> bool:
    return (vendor["in_flight"], vendor["queued"], sum(vendor["jobs"].values())) == (0, 0, 0)


async def test_another_project_sees_the_limits_and_counts_of_its_own_jobs_alone(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, vanceai_settings={"limits": [limit(50)]}) as it, receiver() as shop:
        await it.client.subscribe(shop.url, events=["job.submitted"])
        hold = hold_work(it)
        job = await begun(it.client, ENLARGE, photo)
        await shop.event_of(job, "job.submitted")
        await queue(it)
        stranger = await tenant(it)
        own = (await vendors(it))["vanceai"]
        theirs = (await vendors(stranger))["vanceai"]
        assert (own["in_flight"], own["queued"]) == (1, 1)
        assert (theirs["in_flight"], theirs["queued"], theirs["next_poll_at"]) == (0, 0, None)
        assert sum(theirs["jobs"].values()) == 0
        assert theirs["windows"] == [
            {"scope": "account", "requests": 50, "seconds": 3600, "used": None, "left": None, "free_at": None}
        ]
        assert own["windows"][0]["used"] > 0
        await queue(stranger)
        assert (await vendors(stranger))["vanceai"]["queued"] == 1
        assert (await vendors(it))["vanceai"]["queued"] == 2
        hold.set()


async def test_no_answer_holds_a_secret(it: Stand, photo: Path) -> None:
    it.vanceai.faults.next("upload", error(30001, f"the token {it.vanceai.key} is refused"))
    await begun(it.client, ENLARGE, photo)
    async with asyncio.timeout(PATIENCE):
        while "30001" not in (shown := str(await vendors(it))):
            pass
    for secret in (it.vanceai.key, it.picwish.key, it.vanceai.base_url):
        assert secret not in shown
