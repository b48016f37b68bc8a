"""Every operation of a vendor runs once with a real photograph: a new row of its table is tested by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from handlers.vendors.picwish import PicWish
from handlers.vendors.vanceai import VanceAI
from tests.acceptance.helpers import done, fast_stand, only_end, pictures
from tests.acceptance.made import form, noise, picture
from tests.fast_clock import FastClock

pytestmark = pytest.mark.anyio

OPERATIONS = {operation.id: operation for vendor in (VanceAI, PicWish) for operation in vendor.operations.values()}
# For operations that do nothing without being told what.
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "vanceai/workflow": {
        "steps": [
            {"operation": "sharpen3", "params": {"blur_type": 1}},
            {"operation": "codeformer", "out_params": {"compress": {"quality": 80}, "format": "jpg"}},
        ]
    },
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_it_gives_a_picture_that_opens_and_one_event(tmp_path: Path, photo: Path, name: str) -> None:
    operation = OPERATIONS[name]
    async with fast_stand(tmp_path, FastClock(20)) as it:
        status, asset = await it.client.call("POST", "/v1/assets", data=photo.read_bytes())
        assert status == 201, asset
        inputs = {spec.name: {"asset": asset["id"]} for spec in operation.inputs if spec.required}
        job = await done(it.client, name, None, inputs=inputs, params=PARAMS.get(name, {}))
        found = await pictures(it.client, job)
        assert found
        assert set(found) <= {output.name for output in operation.outputs}
        assert all(image.width > 1 and image.height > 1 for image in found.values())
        assert (job["billing"]["charged"], job["billing"]["credits"]) == ("yes", operation.credits)
        await only_end(it.client, job["id"])
        for sandbox in (it.vanceai, it.picwish):
            assert sandbox.violations == []


async def test_a_picture_beyond_the_limits_of_its_operation_is_refused_before_anything_is_queued(
    tmp_path: Path,
) -> None:
    """VanceAI: 34 megapixels, 10 MB, JPG or PNG. PicWish: 4096 pixels a side, 20 MB, no GIF."""
    wide, heavy = picture(size=(4097, 10), mode="1"), noise((2600, 2600))
    async with fast_stand(tmp_path, FastClock(20)) as it:
        for name, operation in OPERATIONS.items():
            for data, word in (
                (picture("GIF", mode="P"), "image/gif; taken are"),
                (wide, "4097") if operation.vendor == "picwish" else (picture(size=(7000, 5000), mode="1"), "35000000"),
            ):
                status, problem = await it.client.call(
                    "POST", "/v1/jobs", data=form({"operation": name, "params": PARAMS.get(name, {})}, image=data)
                )
                assert status == 422, name
                assert [error["field"] for error in problem["errors"]] == ["inputs.image"]
                assert word in problem["errors"][0]["reason"]
        for name, most in (("vanceai/codeformer", 10_000_000), ("picwish/scale", 20_000_000)):
            _, problem = await it.client.call("POST", "/v1/jobs", data=form({"operation": name}, image=heavy))
            assert f"at most {most}" in problem["errors"][0]["reason"]
        assert (it.vanceai.requests, it.picwish.requests) == ([], [])


async def test_a_faulty_step_of_a_workflow_is_named_before_anything_is_queued(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        steps = [{"operation": "matting"}, {"operation": "enlarge3", "params": {"scale": 3, "sharpness": 1}}]
        status, problem = await it.client.submit("vanceai/workflow", photo, params={"steps": steps})
        assert status == 422
        fields = {error["field"] for error in problem["errors"]}
        assert fields == {"params.steps.1.params.scale", "params.steps.1.params.sharpness"}
        assert it.vanceai.requests == []


async def test_a_second_picture_guides_an_anime(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        _, asset = await it.client.call("POST", "/v1/assets", data=photo.read_bytes())
        inputs = {"image": {"asset": asset["id"]}, "control": {"asset": asset["id"]}}
        params = {"model_name": "disney_girl", "cn_configs": [{"cn_name": "more_real_lineart"}]}
        await pictures(it.client, await done(it.client, "vanceai/img2anime", None, inputs=inputs, params=params))
        assert len([seen for seen in it.vanceai.requests if seen.endpoint == "upload"]) == 2
        assert it.vanceai.violations == []


@pytest.mark.parametrize("sync", [0, 1])
async def test_a_mask_alone_is_a_result_where_it_was_asked_for(tmp_path: Path, photo: Path, sync: int) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        job = await done(it.client, "picwish/segmentation", photo, params={"sync": sync, "output_type": 3})
        assert list(await pictures(it.client, job)) == ["mask"]
        assert it.picwish.violations == []


async def test_a_control_picture_of_no_use_fails_the_job_before_it_costs(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        params = {"cn_configs": [{"cn_name": "cartoon_tile", "image_uid": "control"}]}
        job = await done(it.client, "vanceai/img2anime", photo, params=params)
        assert (job["state"], job["error"]["class"], job["error"]["code"]) == ("failed", "input", "control_input")
        assert job["error"]["retryable"] is False
        assert it.vanceai.requests == []
