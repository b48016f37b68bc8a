"""A failed job again: a new one with all of the old one's request, paid for anew, and only on purpose."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.sandbox.vanceai import error
from tests.acceptance.helpers import ENLARGE, done, reached
from tests.acceptance.made import fields, finished, hold_work, leaving_nothing, picture, queue, upload
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, server_of, stand

pytestmark = pytest.mark.anyio

DAY = 24 * 3600.0


@dataclass
class Source:
    """A server that a job's picture comes from; it counts, and it may die."""

    url: str = ""
    asked: int = 0
    data: bytes = field(default_factory=lambda: picture("PNG"))

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=200 if self.data else 404, body=self.data, content_type="image/png")


@asynccontextmanager
async def source() -> AsyncIterator[Source]:
    it, app = Source(), web.Application()
    app.router.add_get("/cat.png", it.answer)
    async with server_of(app) as url:
        it.url = f"{url}/cat.png"
        yield it


async def failed(it: Stand, photo: Path | None, **job: Any) -> dict[str, Any]:
    """A job that the vendor ended badly."""
    it.vanceai.faults.next("transform", error(10013))
    ended = await done(it.client, ENLARGE, photo, **job)
    assert ended["state"] == "failed", ended
    return ended


async def again(it: Stand, job: dict[str, Any], **headers: str) -> tuple[int, Any, Any]:
    return await it.client.call_full("POST", f"/v1/jobs/{job['id']}/retry", headers=headers)


async def test_a_failed_job_is_tried_again_as_a_new_job_with_all_of_its_request(it: Stand, photo: Path) -> None:
    async with receiver() as own, receiver() as shop:
        await it.client.subscribe(shop.url, channels=["store-7"])
        wanted = {
            "params": {"scale": 4, "suppress_noise": 26},
            "extra": {"remove_blur": 10},
            "metadata": {"product_id": "8411"},
            "channels": ["store-7"],
            "webhook": own.url,
            "webhook_events": ["job.queued", "job.succeeded"],
        }
        old = await failed(it, photo, **wanted)
        status, new, headers = await again(it, old, Prefer="wait=20")
        assert (status, new["state"], new["retry_of"]) == (200, "succeeded", old["id"]), new
        assert headers["Location"] == f"/v1/jobs/{new['id']}"
        assert headers["Preference-Applied"] == "wait=20"
        same = ("operation", "inputs", "params", "extra", "metadata", "channels")
        assert {name: new[name] for name in same} == {name: old[name] for name in same}
        assert new["id"] != old["id"]
        assert (await it.client.job(old["id"])) == old, "the old one stays as it ended"
        assert old["retry_of"] is None
        # Its own webhook and the shop hear of the new one, and every event says what it is a retry of.
        event = await own.event_of(new["id"], "job.succeeded")
        assert event["data"]["retry_of"] == old["id"]
        assert (await shop.event_of(new["id"], "job.queued"))["data"]["retry_of"] == old["id"]
        assert {entry.event["type"] for entry in own.got} == {"job.queued", "job.succeeded"}
        _, timeline = await it.client.call("GET", f"/v1/jobs/{new['id']}/timeline")
        assert timeline["data"][0]["retry_of"] == old["id"]
        assert new["billing"] == {"credits": "1.000", "charged": "yes", "possible_duplicate": False}


async def test_the_retry_is_acknowledged_at_once_and_is_there_for_good(it: Stand, photo: Path) -> None:
    old = await failed(it, photo)
    hold = hold_work(it)
    status, new, headers = await again(it, old)
    assert (status, new["state"], headers["Location"]) == (202, "queued", f"/v1/jobs/{new['id']}")
    assert (await it.client.job(new["id"]))["retry_of"] == old["id"]
    assert (await it.client.events(new["id"]))[0]["type"] == "job.queued"
    hold.set()


async def test_a_canceled_job_may_be_had_after_all(it: Stand) -> None:
    waiting = await queue(it)
    await it.client.call("POST", f"/v1/jobs/{waiting['id']}/cancel")
    status, new, _ = await again(it, waiting)
    assert (status, new["retry_of"], new["state"]) == (202, waiting["id"], "queued")
    assert (await it.client.job(waiting["id"]))["state"] == "canceled"


async def test_a_job_that_goes_on_or_went_well_is_not_tried_again(it: Stand, photo: Path) -> None:
    waiting, well = await queue(it), await finished(it, photo)
    for job, states in ((waiting, ("queued", "staging")), (well, ("succeeded",))):
        status, problem, _ = await again(it, job)
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:not_failed")
        assert problem["detail"].endswith(tuple(f"this one is {state}." for state in states))
    _, jobs = await it.client.call("GET", "/v1/jobs")
    assert [job["id"] for job in jobs["data"]] == [well["id"], waiting["id"]]
    assert (await again(it, {"id": "job_0"}))[0] == 404


async def test_one_key_makes_one_retry_and_no_other_request(it: Stand, photo: Path) -> None:
    old, other = await failed(it, photo), await failed(it, photo)
    key = {"Idempotency-Key": "again-1"}
    status, first, _ = await again(it, old, **key, Prefer="wait=20")
    assert (status, first["state"]) == (200, "succeeded")
    status, same, headers = await again(it, old, **key)
    assert (status, same["id"], headers["Location"]) == (200, first["id"], f"/v1/jobs/{first['id']}")
    assert len(it.vanceai.charged) == 1
    async with leaving_nothing(it):
        status, problem, _ = await again(it, other, **key)
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:idempotency_conflict")
        status, problem = await it.client.submit(ENLARGE, photo, headers=key)
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:idempotency_conflict")
    # Without a key every call is meant, and a retry that failed may itself be tried again.
    status, second, _ = await again(it, old, Prefer="wait=20")
    assert (status, second["state"]) == (200, "succeeded")
    assert second["id"] != first["id"]


# --- its pictures ----------------------------------------------------------------------------------------------------


async def test_a_link_that_has_died_since_is_not_needed_again(it: Stand) -> None:
    async with source() as shop:
        old = await failed(it, None, inputs={"image": {"url": shop.url}})
        assert shop.asked == 1
        shop.data = b""
        status, new, _ = await again(it, old, Prefer="wait=20")
        assert (status, new["state"]) == (200, "succeeded"), new
        assert shop.asked == 1, "the picture that was staged is taken"
        assert new["inputs"] == {"image": {"url": shop.url}}


async def test_a_link_whose_picture_never_came_is_tried_anew(it: Stand) -> None:
    async with source() as shop:
        good, shop.data = shop.data, b""
        old = await done(it.client, ENLARGE, None, inputs={"image": {"url": shop.url}})
        assert (old["state"], old["error"]["class"]) == ("failed", "input")
        shop.data = good
        status, new, _ = await again(it, old, Prefer="wait=20")
        assert (status, new["state"], shop.asked) == (200, "succeeded", 2), new


async def test_a_picture_that_has_expired_is_named_and_nothing_is_queued(tmp_path: Path) -> None:
    clock = FastClock(1.0)
    # Within the hour: a file's age is the disk's own, and one that seems older than that may be taken for a stray.
    async with stand(tmp_path, clock=clock, asset_retention_days=0.5 / 24) as it, source() as shop:
        asset = await upload(it, picture())
        of_asset = await failed(it, None, inputs={"image": {"asset": asset["id"]}})
        of_link = await failed(it, None, inputs={"image": {"url": shop.url}})
        clock.jump(0.6 * DAY / 24)
        async with leaving_nothing(it):
            status, problem, _ = await again(it, of_asset)
            assert (status, fields(problem)) == (422, {"inputs.image"})
            assert "expired" in problem["errors"][0]["reason"]
        # A link can be asked once more.
        status, new, _ = await again(it, of_link)
        assert status == 202
        assert (await reached(it.vanceai, "transform", 3)) is not None
        assert shop.asked == 2
        assert (await it.client.job(new["id"]))["retry_of"] == of_link["id"]


async def test_a_retry_of_an_upload_needs_no_second_upload(it: Stand) -> None:
    data = picture("JPEG", (80, 60))
    old = await failed(it, None, inputs={"image": {"asset": (await upload(it, data))["id"]}})
    status, new, _ = await again(it, old, Prefer="wait=20")
    assert (status, new["state"], new["inputs"]) == (200, "succeeded", old["inputs"])
    assert (new["outputs"][0]["width"], new["outputs"][0]["height"]) == (160, 120)


async def test_a_vendor_that_is_gone_meanwhile_is_named(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path) as it:
        old = await failed(it, photo)
    async with stand(tmp_path, vanceai_settings={"api_token": None}) as it:
        async with leaving_nothing(it):
            status, problem, _ = await again(it, old)
        assert (status, fields(problem)) == (422, {"operation"})


async def test_a_retry_may_be_tried_again_and_names_the_last_one(it: Stand, photo: Path) -> None:
    first = await failed(it, photo)
    it.vanceai.faults.next("transform", error(10013))
    _, second, _ = await again(it, first, Prefer="wait=20")
    assert (second["state"], second["retry_of"]) == ("failed", first["id"])
    _, third, _ = await again(it, second, Prefer="wait=20")
    assert (third["state"], third["retry_of"]) == ("succeeded", second["id"])


async def test_only_a_key_that_may_write_tries_again(it: Stand, photo: Path) -> None:
    old = await failed(it, photo)
    _, reader = await it.client.call("POST", "/v1/keys", json={"role": "read"})
    async with leaving_nothing(it):
        status, _ = await it.client.call("POST", f"/v1/jobs/{old['id']}/retry", key=reader["api_key"])
    assert status == 403
