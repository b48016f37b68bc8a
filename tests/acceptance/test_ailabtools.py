"""Photographs' ways through AILabTools: a retouch that answers at once, and a refinement that must be asked for."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image
from pydantic import SecretStr

from handlers.sandbox import faults
from handlers.sandbox.ailabtools import AILabToolsSandbox, error
from handlers.sandbox.ailabtools import AILabToolsSettings as Play
from handlers.vendors.ailabtools import AILabTools
from service.pacing.health import PROBES_MS
from service.vendor_settings import AILabToolsSettings
from tests.acceptance.helpers import (
    asked,
    begun,
    done,
    failed_with,
    heard,
    in_state,
    only_end,
    pictures,
    whole,
)
from tests.acceptance.made import upload
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, stand

pytestmark = pytest.mark.anyio

RETOUCH, REFINE = "ailabtools/photo-retouching", "ailabtools/try-on-clothes-refiner"
BOTH = pytest.mark.parametrize(("operation", "paid_call"), [(RETOUCH, "retouch"), (REFINE, "refine")])
SIZE = (240, 180)
PHOTOS = {
    "image": "astronaut.jpg",
    "style": "coffee.jpg",
    "person_image": "astronaut.jpg",
    "top_garment": "coffee.jpg",
    "coarse_image": "cat.jpg",
    "bottom_garment": "cat.jpg",
}
NAMES = {RETOUCH: ("image", "style"), REFINE: ("person_image", "top_garment", "coarse_image", "bottom_garment")}


@pytest.fixture
def photographs(photos: Path, tmp_path: Path) -> Mapping[str, bytes]:
    return photographs_of(photos, tmp_path)


def photographs_of(photos: Path, tmp_path: Path) -> Mapping[str, bytes]:
    """Real ones, for each input of both operations, larger than 150 pixels and quick."""
    made = {}
    for name, photo in PHOTOS.items():
        path = tmp_path / f"{name}.{'png' if name == 'style' else 'jpg'}"
        with Image.open(photos / photo) as image:
            image.resize(SIZE).save(path)
        made[name] = path.read_bytes()
    return made


@asynccontextmanager
async def sandbox_at(clock: FastClock, **changes: Any) -> AsyncIterator[AILabToolsSandbox]:
    """In the test's time; its advice, a question every five seconds, is kept or noted."""
    async with AILabToolsSandbox(
        Play(**{"work_seconds": 0, **changes}), clock=clock.seconds, monotonic=clock.seconds
    ) as it:
        yield it


@asynccontextmanager
async def service_at(folder: Path, clock: FastClock, vendor: AILabToolsSandbox, **own: Any) -> AsyncIterator[Stand]:
    account = AILabToolsSettings(**{"base_url": vendor.base_url, "api_key": SecretStr(vendor.key), **own})
    async with stand(folder, clock=clock, ailabtools=account) as it:
        yield it


@dataclass
class Scene:
    it: Stand
    vendor: AILabToolsSandbox
    photographs: Mapping[str, bytes]
    clock: FastClock

    async def job(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Of `operation`, with all its pictures."""
        given = {**(await self.inputs(operation)), **fields.pop("inputs", {})}
        params = {"gender": "woman"} if operation == REFINE else {}
        return {"inputs": given, "params": params, **fields}

    async def inputs(self, operation: str) -> dict[str, Any]:
        return {name: {"asset": (await upload(self.it, self.photographs[name]))["id"]} for name in NAMES[operation]}

    async def done(self, operation: str, **fields: Any) -> dict[str, Any]:
        return await done(self.it.client, operation, None, **await self.job(operation, **fields))


@asynccontextmanager
async def scene(
    folder: Path,
    photographs: Mapping[str, bytes],
    speed: float = 100,
    play: Mapping[str, Any] | None = None,
    **own: Any,
) -> AsyncIterator[Scene]:
    clock = FastClock(speed)
    async with sandbox_at(clock, **(play or {})) as vendor, service_at(folder, clock, vendor, **own) as it:
        yield Scene(it, vendor, photographs, clock)


# -- good days ---------------------------------------------------------------------------------------------------------


async def test_a_retouch_goes_in_as_two_files_and_comes_out_as_one_event(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    async with scene(tmp_path, photographs) as at, receiver() as subscriber:
        endpoint = await at.it.client.subscribe(subscriber.url, events=["job.*"])
        form = aiohttp.FormData()
        form.add_field("job", json.dumps({"operation": RETOUCH}), content_type="application/json")
        for name in NAMES[RETOUCH]:
            form.add_field(name, photographs[name], filename=f"{name}.bin")
        status, taken = await at.it.client.call("POST", "/v1/jobs", data=form)
        assert status == 202, taken
        event = await subscriber.event_of(taken["id"], "job.succeeded")
        told = [got.verified(endpoint["secret"]) for got in subscriber.got if got.event["data"]["id"] == taken["id"]]
        assert {entry["type"] for entry in told} == {"job.queued", "job.submitted", "job.succeeded"}
        job = event["data"]
        found = await pictures(at.it.client, job)
        assert (list(found), found["image"].size) == (["image"], SIZE)
        assert heard(job) == [("reply", "succeeded")]
        assert job["billing"] == {"credits": "3", "charged": "yes", "possible_duplicate": False}
        assert at.vendor.charged == [(job["vendor_task_id"], Decimal(3))]
        assert [seen.endpoint for seen in at.vendor.requests] == ["retouch", "result"]
        assert at.vendor.violations == []
        await only_end(at.it.client, job["id"])


async def test_a_refinement_is_asked_for_every_five_seconds_until_it_is_there(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    async with scene(tmp_path, photographs, speed=20) as at, receiver() as subscriber:
        await at.it.client.subscribe(subscriber.url, events=["job.succeeded"])
        at.vendor.play(0, 0, 1, 1, 2)
        job = await at.done(REFINE)
        assert (await subscriber.event_of(job["id"]))["data"]["outputs"] == job["outputs"]
        assert (await pictures(at.it.client, job))["image"].size == SIZE
        assert heard(job) == [("poll", "succeeded")]
        steps = [(name, len(list(times))) for name, times in groupby(seen.endpoint for seen in at.vendor.requests)]
        assert [name for name, _ in steps] == ["refine", "query", "result"]
        assert steps[1][1] >= 5
        assert job["billing"] == {"credits": "25", "charged": "yes", "possible_duplicate": False}
        assert at.vendor.charged == [(job["vendor_task_id"], Decimal(25))]
        assert at.vendor.violations == []


async def test_a_result_can_be_what_the_next_job_begins_with(tmp_path: Path, photographs: Mapping[str, bytes]) -> None:
    async with scene(tmp_path, photographs) as at:
        first = await at.done(RETOUCH)
        second = await at.done(REFINE, inputs={"coarse_image": {"job": first["id"]}})
        assert (await pictures(at.it.client, second))["image"].size == SIZE
        assert "coarse_image.png" in asked(at.vendor, "refine")[0].fields["coarse_image"]
        assert at.vendor.violations == []


async def test_an_answer_without_any_id_is_told_like_every_other(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    async with scene(tmp_path, photographs) as at:
        at.vendor.faults.next("retouch", faults.Fault(change=lambda told: {"error_code": 0, "data": told["data"]}))
        job = await at.done(RETOUCH)
        await pictures(at.it.client, job)
        assert job["vendor_task_id"] is None
        events = await at.it.client.events(job["id"])
        assert [event["type"] for event in events] == ["job.queued", "job.submitted", "job.succeeded"]
        await only_end(at.it.client, job["id"])


async def test_a_result_is_ours_before_the_vendors_link_dies(tmp_path: Path, photographs: Mapping[str, bytes]) -> None:
    clock = FastClock(100)
    async with sandbox_at(clock) as vendor, service_at(tmp_path, clock, vendor) as it:
        job = await Scene(it, vendor, photographs, clock).done(RETOUCH)
        clock.jump(25 * 3600)
        await whole(it.client, job["outputs"][0])
        assert len(asked(vendor, "result")) == 1


async def test_what_is_left_is_told_and_that_there_is_no_history(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    assert set(NAMES) == {operation.id for operation in AILabTools.operations.values()}
    async with scene(tmp_path, photographs) as at:
        await at.done(RETOUCH)
        status, told = await at.it.client.call("GET", "/v1/vendors/ailabtools/credits")
        assert (status, told["balance"]) == (200, "1997.0")
        assert told["details"]["data"][0]["unique_sign"] == "common"
        status, problem = await at.it.client.call("GET", "/v1/vendors/ailabtools/credits/history")
        assert (status, "history" in problem["detail"]) == (404, True)
        assert at.vendor.violations == []


# -- what is refused before it is paid for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "name", "form", "size"),
    [
        (RETOUCH, "style", "BMP", (100, 100)),
        (RETOUCH, "style", "PNG", (32, 100)),
        (RETOUCH, "image", "PNG", (3000, 100)),
        (REFINE, "top_garment", "WEBP", (200, 200)),
        (REFINE, "bottom_garment", "PNG", (150, 200)),
        (REFINE, "person_image", "PNG", (200, 4096)),
    ],
)
async def test_a_picture_beyond_the_documents_limits_is_refused_by_name(
    tmp_path: Path, photographs: Mapping[str, bytes], operation: str, name: str, form: str, size: tuple[int, int]
) -> None:
    path = tmp_path / "unfit"
    Image.new("RGB", size).save(path, form)
    async with scene(tmp_path, {**photographs, name: path.read_bytes()}) as at:
        status, problem = await at.it.client.submit(operation, None, **await at.job(operation))
        assert (status, {fault["field"] for fault in problem["errors"]}) == (422, {f"inputs.{name}.asset"})
        assert at.vendor.requests == []


async def test_a_missing_picture_and_a_missing_gender_are_named_at_once(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    async with scene(tmp_path, photographs) as at:
        given = await at.inputs(REFINE)
        del given["coarse_image"], given["bottom_garment"]
        status, problem = await at.it.client.submit(REFINE, None, inputs=given)
        assert status == 422
        assert {fault["field"] for fault in problem["errors"]} == {"inputs.coarse_image", "params.gender"}


# -- how it says no ----------------------------------------------------------------------------------------------------


@BOTH
async def test_neither_a_full_window_nor_an_empty_account_ends_a_job(
    tmp_path: Path, photographs: Mapping[str, bytes], operation: str, paid_call: str
) -> None:
    async with scene(tmp_path, photographs) as at, receiver() as operator:
        await at.it.client.subscribe(operator.url, events=["vendor.*"])
        at.vendor.faults.next(paid_call, error("EXCEEDING_LIMITS"), times=3)
        job = await at.done(operation)
        await pictures(at.it.client, job)
        assert (len(asked(at.vendor, paid_call)), job["billing"]["possible_duplicate"]) == (4, False)
        at.vendor.settings = replace(at.vendor.settings, credits={"common": Decimal(0)})
        job_id = await begun(at.it.client, operation, None, **await at.job(operation))
        (told,) = await operator.wait_for(1)
        assert told.event["type"] == "vendor.credits_low"
        assert "ERROR_NOT_ENOUGH_CREDITS" in told.event["data"]["reason"]
        job = await in_state(at.it.client, job_id, "queued")
        assert (job["error"], job["billing"]["charged"]) == (None, "no")
        at.vendor.settings = replace(at.vendor.settings, credits={"common": Decimal(100)})
        # However many looks have been in vain, the next one comes now.
        at.clock.jump(PROBES_MS[-1] / 1000)
        job = await in_state(at.it.client, job_id, "succeeded")
        assert job["billing"]["possible_duplicate"] is False
        await operator.wait_for(1, "vendor.recovered")
        assert at.vendor.violations == []


@pytest.mark.parametrize("failure_as_status", [False, True])
async def test_a_failed_task_keeps_its_class_and_its_code(
    tmp_path: Path, photographs: Mapping[str, bytes], failure_as_status: bool
) -> None:
    classes = {
        "ERROR_NO_FACE_IN_FILE": "input",
        "ERROR_CONTENT_NON_COMPLIANCE": "moderation",
        "PROCESSING_FAILURE": "vendor",
        "AI_SERVICE_TIMEOUT": "timeout",
    }
    async with scene(tmp_path, photographs, play={"failure_as_status": failure_as_status}) as at:
        for word, error_class in classes.items():
            at.vendor.play(1, word)
            job = await at.done(REFINE)
            await failed_with(at.it.client, job, error_class, word)
            assert job["billing"]["charged"] == "no"
        at.vendor.play(1, 3)
        await failed_with(at.it.client, await at.done(REFINE), "vendor", "3")
        assert len(asked(at.vendor, "refine")) == len(classes) + 1
        assert at.vendor.violations == []


async def test_a_refused_retouch_ends_and_a_failed_one_is_tried_again(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    async with scene(tmp_path, photographs) as at:
        at.vendor.play("ERROR_BLURRY_FACE")
        await failed_with(at.it.client, await at.done(RETOUCH), "input", "ERROR_BLURRY_FACE")
        at.vendor.play("PROCESSING_FAILURE")
        job = await at.done(RETOUCH)
        await pictures(at.it.client, job)
        # The document charges successful calls alone; but the failure may have come after the work, and that is told.
        assert (job["submissions"], job["billing"]["possible_duplicate"]) == (2, True)
        assert len(at.vendor.charged) == 1


@pytest.mark.parametrize(
    "fault",
    [
        faults.HTML_500,
        faults.NOT_JSON,
        faults.DROPPED_BEFORE_WORK,
        error("EXCEEDING_LIMITS"),
    ],
)
async def test_a_bad_answer_to_a_question_is_asked_again(
    tmp_path: Path, photographs: Mapping[str, bytes], fault: faults.Fault
) -> None:
    async with scene(tmp_path, photographs) as at:
        at.vendor.faults.next("query", fault, times=2)
        job = await at.done(REFINE)
        await pictures(at.it.client, job)
        assert (len(asked(at.vendor, "query")), len(asked(at.vendor, "refine"))) == (3, 1)


async def test_a_task_that_is_not_known_yet_is_asked_for_again(
    tmp_path: Path, photographs: Mapping[str, bytes]
) -> None:
    async with scene(tmp_path, photographs) as at:
        at.vendor.faults.next("query", error("ERROR_RESOURCE_NOT_FOUND"))
        await pictures(at.it.client, await at.done(REFINE))
        assert (len(asked(at.vendor, "query")), len(asked(at.vendor, "refine"))) == (2, 1)


# -- lost answers, and restarts ----------------------------------------------------------------------------------------


@BOTH
async def test_a_lost_answer_is_submitted_once_more_and_that_is_told(
    tmp_path: Path, photographs: Mapping[str, bytes], operation: str, paid_call: str
) -> None:
    async with scene(tmp_path, photographs, speed=400) as at:
        at.vendor.faults.next(paid_call, faults.ANSWER_LOST)
        job = await at.done(operation)
        await pictures(at.it.client, job)
        assert len(asked(at.vendor, paid_call)) == job["submissions"] == 2
        assert job["billing"]["possible_duplicate"]
        await only_end(at.it.client, job["id"])


@BOTH
@pytest.mark.parametrize("unconfirmed", ["resubmit", "fail"])
async def test_an_unconfirmed_submission_is_reported_and_never_a_third_bill(
    tmp_path: Path, photographs: Mapping[str, bytes], operation: str, paid_call: str, unconfirmed: str
) -> None:
    async with scene(tmp_path, photographs, speed=400, unconfirmed=unconfirmed) as at:
        at.vendor.faults.next(paid_call, faults.ANSWER_LOST, times=9)
        job = await at.done(operation)
        await failed_with(at.it.client, job, "unconfirmed", "no_answer")
        calls = 2 if unconfirmed == "resubmit" else 1
        assert len(asked(at.vendor, paid_call)) == job["submissions"] == calls
        assert (job["billing"]["charged"], job["billing"]["possible_duplicate"]) == ("unknown", calls == 2)
