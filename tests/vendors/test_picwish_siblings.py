"""What holds for every task of PicWish, the cutout's siblings included: a new row of the table is tested by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox.picwish import PicWishSandbox, PicWishSettings
from handlers.vendors.contract import InputFile, Task
from handlers.vendors.picwish import PicWish
from schemas.callback import Update, UpdateState
from schemas.catalogue import params_errors
from schemas.job import Charged
from tests.vendors import clients
from tests.vendors.clients import Client, work

pytestmark = pytest.mark.anyio

TASKS = pytest.mark.parametrize("operation", PicWish.operations)


@asynccontextmanager
async def _running() -> AsyncIterator[tuple[Client, PicWishSandbox]]:
    async with (
        PicWishSandbox(PicWishSettings(work_seconds=0, poll_seconds=0, qps=1000)) as sandbox,
        clients.client(PicWish(), sandbox.base_url) as one,
    ):
        yield one, sandbox


@pytest.fixture
def image(photos: Path, tmp_path: Path) -> InputFile:
    return clients.picture(photos, "astronaut.jpg", tmp_path)


async def _submitted(one: Client, image: InputFile, operation: str, **params: Any) -> tuple[Task, Update | None]:
    job = work(one.vendor, operation, image, **params)
    assert params_errors(job.operation, params) == []
    prepared = await one.vendor.prepare(one.account, job)
    submitted = await one.vendor.submit(one.account, prepared, None, job)
    assert submitted.task_id is not None
    task = Task(submitted.task_id, prepared)
    return task, one.vendor.read(submitted.reply, task) if submitted.reply else None


async def _done(one: Client, sandbox: PicWishSandbox, image: InputFile, operation: str, **params: Any) -> Update:
    task, _ = await _submitted(one, image, operation, **params)
    await sandbox.tasks[task.id].ended.wait()
    return one.vendor.read(await one.vendor.ask(one.account, task), task)


@TASKS
async def test_every_task_is_created_asked_for_and_fetched_within_the_hour(operation: str, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        update = await _done(one, sandbox, image, operation)
        assert (update.state, update.charged) == (UpdateState.SUCCEEDED, Charged.YES)
        assert update.outputs[0].name == "image"
        assert {found.name for found in update.outputs} <= {
            out.name for out in one.vendor.operations[operation].outputs
        }
        for found in update.outputs:
            assert found.lives_seconds == 3600
            await one.fetched(found.source)
        assert sandbox.violations == []
        assert {seen.path.split("/")[4] for seen in sandbox.requests if seen.endpoint != "result"} == {operation}


@TASKS
async def test_every_task_can_be_waited_for(operation: str, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        _, update = await _submitted(one, image, operation, sync=1)
        assert update is not None
        assert update.state is UpdateState.SUCCEEDED
        assert sandbox.violations == []


@TASKS
@pytest.mark.parametrize("state", [0, 4, 17, -1, -10, -99])
async def test_the_states_are_the_same_for_all_tasks(operation: str, state: int, image: InputFile) -> None:
    async with _running() as (one, sandbox):
        sandbox.play(state)
        task, _ = await _submitted(one, image, operation)
        update = one.vendor.read(await one.vendor.ask(one.account, task), task)
        assert update.state is (UpdateState.FAILED if state < 0 else UpdateState.RUNNING)
        assert update.raw_state == str(state)


@pytest.mark.parametrize(
    ("params", "names"), [({}, ["image"]), ({"output_type": 1}, ["image", "mask"]), ({"output_type": 3}, ["mask"])]
)
@pytest.mark.parametrize("sync", [0, 1])
async def test_of_a_removed_background_what_was_asked_for_is_the_result(
    params: dict[str, Any], names: list[str], sync: int, image: InputFile
) -> None:
    async with _running() as (one, sandbox):
        if sync:
            _, update = await _submitted(one, image, "segmentation", sync=1, **params)
            assert update is not None
        else:
            update = await _done(one, sandbox, image, "segmentation", **params)
        assert [found.name for found in update.outputs] == names
        for found in update.outputs:
            assert (await one.fetched(found.source)).size == (image.width, image.height)
        assert sandbox.violations == []


async def test_the_options_of_the_siblings_reach_the_vendor_as_form_fields(image: InputFile) -> None:
    async with _running() as (one, sandbox):
        await _done(one, sandbox, image, "segmentation", type="object", format="jpg", bg_color="00FF80", crop=1)
        update = await _done(one, sandbox, image, "scale", type="face", scale_factor=2)
        assert (await one.fetched(update.outputs[0].source)).size == (2 * image.width, 2 * image.height)
        assert sandbox.violations == []
        first, second = [seen.fields for seen in sandbox.requests if seen.endpoint == "create"]
        wanted = {"type": "object", "format": "jpg", "bg_color": "00FF80", "crop": "1", "output_type": "2", "sync": "0"}
        assert {name: first[name] for name in wanted} == wanted
        assert {name: second[name] for name in ("type", "scale_factor")} == {"type": "face", "scale_factor": "2"}


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("segmentation", {"type": ""}),
        ("segmentation", {"output_type": 4}),
        ("segmentation", {"output_type": "1"}),
        ("segmentation", {"bg_color": "#ffffff"}),
        ("segmentation", {"return_type": 2}),
        ("scale", {"scale_factor": 3}),
        ("scale", {"type": "person"}),
        ("scale", {"crop": 1}),
    ],
)
def test_an_option_out_of_its_documented_range_is_refused_by_its_name(operation: str, params: dict[str, Any]) -> None:
    faults = params_errors(PicWish.operations[operation], params)
    assert {fault.field for fault in faults} == {f"params.{next(iter(params))}"}


def test_a_row_that_no_document_of_ours_holds_says_so() -> None:
    public = {name for name, operation in PicWish.operations.items() if operation.source.endswith("[public]")}
    assert public == PicWish.operations.keys() - {"self-face-cutout"}
