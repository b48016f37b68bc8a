"""What a Zap does: submits jobs of any operation through a form made from its schema, looks at them, finds them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.acceptance.helpers import ENLARGE, SIZE, pictures
from tests.harness import receiver, server_of
from tests.integrations.zapier_rig import Zapier, zapier

pytestmark = pytest.mark.anyio

SEGMENT = "picwish/segmentation"
SUBMIT = "creates.submit_job.perform"


@pytest.fixture
async def zap(tmp_path: Path) -> AsyncIterator[Zapier]:
    async with zapier(tmp_path) as it:
        yield it


async def fields_of(zap: Zapier, operation: str) -> dict[str, dict[str, Any]]:
    """The form as Zapier shows it once the operation is chosen."""
    listed = await zap.run("creates.submit_job.inputFields", inputData={"operation": operation})
    return {field["key"]: field for field in listed}


async def submitted(zap: Zapier, operation: Any = ENLARGE, **filled_in: Any) -> dict[str, Any]:
    job: dict[str, Any] = await zap.run(SUBMIT, inputData={"operation": operation, **filled_in})
    return job


@pytest.fixture
async def picture(photo: Path) -> AsyncIterator[str]:
    """A link to the photograph, as a step before would hand it on."""

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=photo.read_bytes(), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/cat.jpg", show)
    async with server_of(app) as url:
        yield f"{url}/cat.jpg"


# --- the form ---------------------------------------------------------------------------------------------------------


async def test_the_drop_down_has_what_this_installation_can_run_and_nothing_else(zap: Zapier) -> None:
    _, known = await zap.it.client.call("GET", "/v1/operations")
    can = [entry["id"] for entry in known["data"] if entry["configured"] and not entry["declared"]]
    listed = await zap.run("triggers.operation.perform")
    assert [entry["id"] for entry in listed] == can
    assert "AI Image Enlarger (vanceai/enlarge3)" in {entry["label"] for entry in listed}
    assert any(entry["label"].endswith(", deprecated") for entry in listed)


async def test_params_become_fields_with_their_types_choices_limits_and_defaults(zap: Zapier) -> None:
    assert not any(key.startswith(("param_", "input_")) for key in await fields_of(zap, ""))
    form = await fields_of(zap, ENLARGE)
    noise = form["param_suppress_noise"]
    assert (noise["label"], noise["type"], noise["placeholder"]) == ("Suppress Noise", "integer", "40")
    assert noise["helpText"] == "From 0 to 100. Left empty, it is 40."
    assert "default" not in noise, "what Zapier fills in by itself would be a choice that nobody has made"
    assert [choice["value"] for choice in form["param_scale"]["choices"]] == ["2", "4", "6", "8"]
    quality = form["param_out_params_compress_quality"]
    assert (quality["label"], quality["required"]) == ("Out Params: Compress: Quality", False)
    assert {"input_image_url", "input_image_file", "input_image_job"} <= set(form)
    cutout = await fields_of(zap, SEGMENT)
    assert [choice["value"] for choice in cutout["param_sync"]["choices"]] == ["0", "1"]
    assert cutout["param_bg_color"]["type"] == "string"
    steps = (await fields_of(zap, "vanceai/workflow"))["param_steps"]
    assert (steps["type"], steps["required"]) == ("text", True)


async def test_every_operation_has_a_form_that_zapier_takes(zap: Zapier) -> None:
    _, known = await zap.it.client.call("GET", "/v1/operations")
    for operation in known["data"]:
        form = await zap.run("creates.submit_job.inputFields", inputData={"operation": operation["id"]})
        assert len({field["key"] for field in form}) == len(form), operation["id"]
        assert await zap.talk(run="faultyFields", fields=form) == [], operation["id"]


# --- submitting -------------------------------------------------------------------------------------------------------


async def test_a_picture_by_its_link_with_params_as_zapier_hands_them_over(zap: Zapier, picture: str) -> None:
    """What is mapped from an earlier step comes as text, whatever the field's type."""
    job = await submitted(
        zap,
        input_image_url=picture,
        param_scale="4",
        param_suppress_noise="10",
        param_out_params_format="png",
        param_out_params_compress_quality=80,
        metadata={"product_id": "8411"},
        channels=["store-7"],
        wait=True,
    )
    assert job["params"] == {
        "scale": 4,
        "suppress_noise": 10,
        "out_params": {"format": "png", "compress": {"quality": 80}},
    }
    assert (job["state"], job["metadata"], job["channels"]) == ("succeeded", {"product_id": "8411"}, ["store-7"])
    made = await pictures(zap.it.client, job)
    assert made["image"].size == (SIZE[0] * 4, SIZE[1] * 4)
    assert job["image_url"] == job["outputs"][0]["url"]


async def test_a_file_of_an_earlier_step(zap: Zapier, picture: str) -> None:
    job = await submitted(zap, input_image_file=picture, idempotency_key="order-17", wait=True)
    assert (job["state"], list(job["inputs"]["image"])) == ("succeeded", ["asset"])
    again = await submitted(zap, input_image_file=picture, idempotency_key="order-17")
    assert again["id"] == job["id"], "a step that Zapier repeats is not paid for twice"
    assert len((await zap.it.client.call("GET", "/v1/jobs"))[1]["data"]) == 1
    said = await zap.refused(SUBMIT, inputData={"operation": ENLARGE, "input_image_file": f"{picture}.gone"})
    assert said["message"] == "inputs.image: the file could not be read, its address answered 404"


async def test_the_result_of_an_earlier_job(zap: Zapier, picture: str) -> None:
    first = await submitted(zap, input_image_url=picture, wait=True)
    then = await submitted(zap, SEGMENT, input_image_job=first["id"], param_sync="0", wait=True)
    assert then["state"] == "succeeded", then
    assert then["inputs"]["image"]["job"] == first["id"]
    assert then["params"]["sync"] == 0, "of a number that may be a text too, the number"


async def test_params_that_are_lists_of_objects_are_written_as_json(zap: Zapier, picture: str) -> None:
    steps = [{"operation": "sharpen3"}, {"operation": "enlarge3", "params": {"scale": 2}}]
    job = await submitted(zap, "vanceai/workflow", input_image_url=picture, param_steps=json.dumps(steps), wait=True)
    assert (job["state"], job["params"]["steps"]) == ("succeeded", steps)
    wrong = {"operation": "vanceai/workflow", "input_image_url": picture, "param_steps": "[{"}
    assert (await zap.refused(SUBMIT, inputData=wrong))["message"].startswith("Steps is no JSON: ")


async def test_a_webhook_for_one_job_alone(zap: Zapier, picture: str) -> None:
    async with receiver() as own:
        where = {"webhook": own.url, "webhook_events": ["job.queued"]}
        job = await submitted(zap, input_image_url=picture, **where)
        (got,) = await own.wait_for(1)
        assert (got.event["type"], got.event["data"]["id"]) == ("job.queued", job["id"])


async def test_every_faulty_field_is_named_with_its_reason(zap: Zapier, picture: str) -> None:
    said = await zap.refused(
        SUBMIT, inputData={"operation": ENLARGE, "param_scale": "3", "param_suppress_noise": "a lot"}
    )
    assert said["status"] == 422
    for part in ("params.scale: ", "not one of [2, 4, 6, 8]", "params.suppress_noise: 'a lot' is not", "inputs.image"):
        assert part in said["message"], said
    twice = {"operation": ENLARGE, "input_image_url": picture, "input_image_job": "job_1"}
    assert "url and job, not both" in (await zap.refused(SUBMIT, inputData=twice))["message"]
    gone = await zap.refused(SUBMIT, inputData={"operation": "vanceai/gone", "input_image_url": picture})
    assert (gone["status"], gone["message"]) == (404, "There is no such operation.")
    assert "vendor/name" in (await zap.refused(SUBMIT, inputData={"operation": "../me"}))["message"]


async def test_a_service_that_can_not_serve_now_is_tried_again_later(zap: Zapier) -> None:
    for status, after in ((503, "7"), (429, "30")):
        zap.catch.answers = [web.Response(status=status, headers={"Retry-After": after}, text="{}")]
        there = {"base_url": zap.catch.url, "api_key": "wp_"}
        said = await zap.refused("creates.get_job.perform", inputData={"job_id": "job_1"}, authData=there)
        assert said["delay"] == int(after), "Zapier holds the step and tries it again then"


# --- looking ----------------------------------------------------------------------------------------------------------


async def test_a_job_is_looked_at_by_its_id(zap: Zapier, picture: str) -> None:
    job = await submitted(zap, input_image_url=picture, wait=True)
    assert await zap.run("creates.get_job.perform", inputData={"job_id": job["id"]}) == job
    said = await zap.refused("creates.get_job.perform", inputData={"job_id": "job_0"})
    assert (said["status"], said["message"]) == (404, "There is no such job.")
    said = await zap.refused("creates.get_job.perform", inputData={"job_id": "../me"})
    assert said["status"] == 404, "what is filled in leads to no other address"


async def test_jobs_are_found_by_their_metadata_newest_first(zap: Zapier, picture: str) -> None:
    jobs = [
        await submitted(zap, input_image_url=picture, metadata={"product_id": product, "shop": "north"}, wait=True)
        for product in ("8411", "8412", "8411")
    ]
    wanted = {"metadata": {"product_id": "8411", "shop": "north"}}
    found = await zap.run("searches.find_job.perform", inputData=wanted)
    assert found == [jobs[2], jobs[0]]
    for more, expected in (
        ({"state": "failed"}, []),
        ({"state": "succeeded", "operation": ENLARGE}, found),
        ({"operation": SEGMENT}, []),
    ):
        assert await zap.run("searches.find_job.perform", inputData={**wanted, **more}) == expected
    said = await zap.refused("searches.find_job.perform", inputData={"metadata": {"a b": "1"}})
    assert said["status"] == 422
