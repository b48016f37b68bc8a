"""Which pictures of a job VanceAI gets, under which names; and the one name that its document leaves open."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox.vanceai import VanceAISandbox, VanceAISettings
from handlers.vendors.contract import InputFile
from handlers.vendors.vanceai import VanceAI
from schemas.catalogue import params_errors
from schemas.job import ErrorClass
from tests.vendors import clients
from tests.vendors.clients import Client, error_of, work

pytestmark = pytest.mark.anyio

AT_ONCE = VanceAISettings(work_seconds=0, poll_seconds=0)


@asynccontextmanager
async def _running(
    settings: VanceAISettings = AT_ONCE, vendor: VanceAI | None = None
) -> AsyncIterator[tuple[Client, VanceAISandbox]]:
    async with (
        VanceAISandbox(settings) as sandbox,
        clients.client(vendor or VanceAI(), sandbox.base_url) as one,
    ):
        yield one, sandbox


@pytest.fixture
def image(photos: Path, tmp_path: Path) -> InputFile:
    return clients.picture(photos, "cat.jpg", tmp_path)


async def test_a_control_net_looks_at_an_upload_of_its_own_where_one_is_given(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        steps = [{"operation": "denoise"}, {"operation": "img2anime", "params": {"model_name": "us_comic_boy"}}]
        for operation in ("img2anime", "workflow"):
            params: dict[str, Any] = {"steps": steps} if operation == "workflow" else {}
            job = replace(work(one.vendor, operation, image, **params), inputs={"control": image, "image": image})
            prepared = await one.vendor.prepare(one.account, job)
            await one.vendor.submit(one.account, prepared, None, job)
            step = json.loads(prepared.data["jconfig"])
            net = (step["config"][1] if operation == "workflow" else step)["cn_configs"][0]
            assert net["image_uid"] != prepared.data["uid"]
        assert sandbox.violations == [], "both uids were given by uploads"
        assert len([seen for seen in sandbox.requests if seen.endpoint == "upload"]) == 4


@pytest.mark.parametrize("named", ["control", "image"])
async def test_a_control_picture_that_is_named_is_given_and_one_that_is_given_is_named(
    named: str, image: InputFile
) -> None:
    async with _running() as (one, sandbox):
        job = work(one.vendor, "img2anime", image, cn_configs=[{"cn_name": "cartoon_tile", "image_uid": named}])
        if named == "image":
            job = replace(job, inputs={"image": image, "control": image})
        error = await error_of(one.vendor.prepare(one.account, job))
        assert (error.error_class, error.code, error.permanent) == (ErrorClass.INPUT, "control_input", True)
        assert sandbox.requests == []


async def test_sd_recolor_goes_out_under_the_name_in_force(image: InputFile) -> None:
    for name in ("recolor", "colorize"):
        async with _running(replace(AT_ONCE, recolor_names=(name,)), VanceAI(recolor_name=name)) as (one, sandbox):
            job = work(one.vendor, "sd_recolor", image)
            await one.vendor.submit(one.account, await one.vendor.prepare(one.account, job), None, job)
            assert sandbox.violations == []


async def test_one_net_may_look_at_both_pictures_and_is_never_named_twice_for_one(image: InputFile) -> None:
    tile = {"cn_name": "cartoon_tile"}
    async with _running() as (one, sandbox):
        for named, inputs, nets in (
            ([tile | {"image_uid": "image"}, tile], {"image": image, "control": image}, 2),
            ([tile | {"image_uid": "image"}, tile], {"image": image}, 1),
        ):
            job = replace(work(one.vendor, "img2anime", image, cn_configs=named), inputs=inputs)
            assert params_errors(job.operation, job.params) == []
            prepared = await one.vendor.prepare(one.account, job)
            told = json.loads(prepared.data["jconfig"])["cn_configs"]
            assert len({net["image_uid"] for net in told}) == len(told) == nets
            await one.vendor.submit(one.account, prepared, None, job)
        assert sandbox.violations == []
