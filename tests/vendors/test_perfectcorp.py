"""The Perfect Corp client keeps its promises against Perfect Corp's stand-in, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox.perfectcorp_features import AGES, ENGINE_ERRORS
from handlers.sandbox.perfectcorp_styles import STYLES
from handlers.vendors.contract import Accepted, InputFile, VendorError
from handlers.vendors.perfectcorp import PerfectCorp
from schemas.callback import UpdateState
from schemas.job import Charged, ErrorClass
from tests.vendors.clients import error_of
from tests.vendors.perfectcorp_by_hand import AT_ONCE, STYLED
from tests.vendors.perfectcorp_rig import Rig, rig

pytestmark = pytest.mark.anyio

CALLABLE = [name for name, operation in PerfectCorp().operations.items() if not operation.declared]


@pytest.fixture
async def it(photos: Path, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(photos, tmp_path) as running:
        yield running


# -- the way of a job --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", CALLABLE)
async def test_every_operation_turns_a_photograph_into_a_picture(operation: str, it: Rig) -> None:
    update = await it.done(operation)
    assert (update.state, update.charged, update.progress) == (UpdateState.SUCCEEDED, Charged.YES, 100)
    picture = await it.client.fetched(update.outputs[0].source)
    size = {"text-to-image": (1024, 1024), "enhance": (2 * it.image.width, 2 * it.image.height)}
    assert picture.size == size.get(operation, (it.image.width, it.image.height))
    assert picture.format == ("PNG" if operation == "sod" else "JPEG")
    assert it.sandbox.violations == []
    assert it.sandbox.charged == [(update.task_id, Decimal(1))]


@pytest.mark.parametrize(
    ("operation", "params", "format_"),
    [
        ("sod", {"output_ext": "webp"}, "WEBP"),
        ("colorize", {"output_ext": "webp"}, "WEBP"),
        ("obj-removal", {"output_ext": "jpg"}, "JPEG"),
        ("enhance", {"scale": 4, "output_ext": "webp"}, "WEBP"),
    ],
)
async def test_options_reach_the_vendor(operation: str, params: dict[str, Any], format_: str, it: Rig) -> None:
    picture = await it.client.fetched((await it.done(operation, **params)).outputs[0].source)
    assert picture.format == format_
    assert picture.width == it.image.width * params.get("scale", 1)
    assert it.sandbox.violations == []


async def test_all_results_of_aging_are_had_by_rising_age(it: Rig) -> None:
    update = await it.done("aging")
    assert [found.name for found in update.outputs] == ["image", *(f"image_{number}" for number in range(2, 8))]
    assert {found.lives_seconds for found in update.outputs} == {7200}
    (result,) = update.raw["result"]["results"]
    assert [entry["res_age"] for entry in result["data"]] == list(AGES)
    assert [found.source["dst_id"] for found in update.outputs] == [entry["dst_id"] for entry in result["data"]]
    assert result["custom_info"]["num_of_photos"] == len(AGES)
    pictures = [await it.client.fetched(found.source) for found in update.outputs]
    assert len({picture.tobytes() for picture in pictures}) == len(AGES)
    assert len(it.sandbox.charged) == 1


async def test_what_a_makeup_recommends_goes_through(it: Rig) -> None:
    update = await it.done("makeup-transfer")
    assert update.raw["result"]["results"][0]["recommendation"]["lipstick"]


async def test_one_job_is_one_slot_call_one_run_and_its_polls(it: Rig) -> None:
    update = await it.done("obj-removal")
    await it.client.fetched(update.outputs[0].source)
    assert it.taken == ["auth", "upload", "submit", "poll"]
    assert [seen.endpoint for seen in it.sandbox.requests] == [
        "auth",
        "file",
        "upload",
        "upload",
        "run",
        "task",
        "result",
    ]


async def test_no_credential_is_in_a_url_nor_goes_to_storage(it: Rig) -> None:
    update = await it.done("aging")
    await it.client.fetched(update.outputs[0].source)
    # The stand-in notes a token that is sent to storage.
    assert it.sandbox.violations == []
    hidden = [*it.sandbox.credentials.values()]
    for seen in it.sandbox.requests:
        assert not any(secret in f"{seen.path} {seen.fields}" for secret in hidden)


async def test_a_slot_that_names_its_headers_in_another_form_is_served(photos: Path, tmp_path: Path) -> None:
    for form in ("key", "name"):
        async with rig(photos, tmp_path, replace(AT_ONCE, headers=form)) as it:
            await it.done("obj-removal")
            assert it.sandbox.violations == []


async def test_the_newer_file_call_is_a_setting(photos: Path, tmp_path: Path) -> None:
    settings = replace(AT_ONCE, file_size=True)
    async with rig(photos, tmp_path, settings, PerfectCorp(file_size=True)) as it:
        await it.done("obj-removal")
        assert it.sandbox.violations == []


async def test_ids_with_plus_and_slash_arrive_as_they_are(it: Rig) -> None:
    task = await it.submitted()
    assert {"+", "/"} <= set(task.id)
    await it.sandbox.tasks[task.id].ended.wait()
    assert (await it.asked(task)).state is UpdateState.SUCCEEDED
    assert it.sandbox.violations == []


async def test_a_running_task_says_how_soon_it_may_be_asked_again(it: Rig) -> None:
    hold = asyncio.Event()
    it.play(work_seconds=hold.wait, poll_seconds=1.25)
    task = await it.submitted()
    update = await it.asked(task)
    assert (update.state, update.raw_state, update.ask_again_ms) == (UpdateState.RUNNING, "running", 1250)
    hold.set()


# -- request_id --------------------------------------------------------------------------------------------------------


async def test_the_same_preparation_is_never_run_twice(it: Rig) -> None:
    job, prepared = await it.prepared()
    first, second = await it.handed_in(job, prepared), await it.handed_in(job, prepared)
    assert first.id == second.id
    assert len(it.sandbox.tasks) == 1
    assert it.vendor.resubmits_free
    await it.sandbox.tasks[first.id].ended.wait()
    assert len(it.sandbox.charged) == 1
    assert it.sandbox.violations == []


async def test_a_deliberate_second_run_has_a_number_of_its_own(it: Rig) -> None:
    (job, first), (_, second) = await it.prepared(), await it.prepared()
    assert second.data["request_id"] > first.data["request_id"] > 1_700_000_000
    one, other = await it.handed_in(job, first), await it.handed_in(job, second)
    assert one.id != other.id


async def test_a_repeated_number_that_is_ignored_without_a_word_leaves_all_open(it: Rig) -> None:
    it.play(repeat_answer="nothing")
    job, prepared = await it.prepared()
    await it.handed_in(job, prepared)
    error = await error_of(it.vendor.submit(it.account, prepared, None, job))
    assert (error.accepted, error.code, error.permanent) == (Accepted.UNKNOWN, "no_task_id", False)


# -- what the vendor has already ---------------------------------------------------------------------------------------


def _made_here(it: Rig, source: Any) -> InputFile:
    return replace(it.image, made_here={**source, "made_at": it.account.now()})


async def test_a_result_feeds_the_next_task_without_an_upload(it: Rig) -> None:
    update = await it.done("enhance")
    _ = it.taken
    picture = _made_here(it, update.outputs[0].source)
    again = await it.done("sod", inputs={"image": picture})
    assert it.taken == ["submit", "poll"]
    cut_out = await it.client.fetched(again.outputs[0].source)
    assert cut_out.size == (2 * it.image.width, 2 * it.image.height), "the vendor's own picture, not ours"
    assert it.sandbox.violations == []


async def test_a_result_that_the_vendor_has_dropped_is_uploaded_after_all(it: Rig) -> None:
    source = (await it.done("enhance")).outputs[0].source
    it.clock.now += 31 * 86_400
    job, prepared = await it.prepared("sod", inputs={"image": _made_here(it, source)})
    error = await error_of(it.vendor.submit(it.account, prepared, None, job))
    assert (error.code, error.permanent, error.accepted) == ("InvalidFileId", False, Accepted.NO)
    await it.done("sod")


# -- how a task ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*ENGINE_ERRORS, "error_of_next_year"])
async def test_every_code_ends_a_task_and_costs_nothing(code: str, it: Rig) -> None:
    it.sandbox.play("running", code)
    task = await it.submitted()
    assert (await it.asked(task)).state is UpdateState.RUNNING
    update = await it.asked(task)
    assert update.failure is not None
    assert (update.state, update.failure.code, update.charged) == (UpdateState.FAILED, code, Charged.NO)
    assert it.sandbox.charged == []


async def test_a_status_of_its_own_is_still_running(it: Rig) -> None:
    it.sandbox.play("status:queued")
    update = await it.asked(await it.submitted())
    assert (update.state, update.raw_state) == (UpdateState.RUNNING, "queued")


async def test_a_task_that_was_not_asked_for_ten_seconds_is_missing(it: Rig) -> None:
    it.sandbox.play("running")
    task = await it.submitted()
    it.clock.now += 10
    assert (await it.asked(task)).state is UpdateState.RUNNING
    it.clock.now += 10.1
    for _ in range(2):
        update = await it.asked(task)
        assert (update.state, update.raw_state, update.charged) == (
            UpdateState.MISSING,
            "InvalidTaskId",
            Charged.UNKNOWN,
        )
    assert it.sandbox.lost == [task.id]


async def test_a_task_that_is_not_known_yet_is_missing_and_then_found(it: Rig) -> None:
    it.play(unseen_seconds=1)
    task = await it.submitted()
    assert (await it.asked(task)).state is UpdateState.MISSING
    await it.sandbox.tasks[task.id].ended.wait()
    it.clock.now += 2
    assert (await it.asked(task)).state is UpdateState.SUCCEEDED


# -- styles and credits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last_page", ["absent", "null"])
async def test_every_group_and_style_is_found_page_by_page_with_its_whole_id(last_page: Any, it: Rig) -> None:
    it.play(last_page=last_page)
    for operation in STYLED:
        spec = it.vendor.operations[operation]
        groups: list[Any] = []
        after = None
        while True:
            page = await it.vendor.style_groups(it.account, spec, after, 7)
            groups += page.entries
            if (after := page.next) is None:
                break
        assert groups == [{"id": str(group.id), "title": group.title} for group in STYLES[operation]]
        assert any(int(group["id"]) > 2**53 for group in groups)
        styles: list[Any] = []
        while True:
            page = await it.vendor.styles(it.account, spec, groups[0]["id"], after, 20)
            styles += page.entries
            if (after := page.next) is None:
                break
        assert [(style["id"], style["title"]) for style in styles] == [
            (str(style.id), style.title) for style in STYLES[operation][0].styles
        ]
        assert all(style["thumbnail"].startswith("http://") for style in styles)
    assert set(it.taken) == {"auth", "look"}
    assert it.sandbox.violations == []


async def test_styles_of_no_group_in_particular_can_be_asked_for(it: Rig) -> None:
    page = await it.vendor.styles(it.account, it.vendor.operations["hair-vol"], None, None, 20)
    assert len(page.entries) == 20
    assert page.next is not None


@pytest.mark.parametrize("shape", ["results", "result.results"])
async def test_what_is_left_and_what_was_used_is_told(shape: Any, it: Rig) -> None:
    it.play(credit_shape=shape)
    for _ in range(3):
        await it.done()
    left = await it.vendor.credits(it.account)
    assert Decimal(left.balance or "") == 497
    assert "expiry" in str(left.raw)
    page = await it.vendor.credit_history(it.account, None, 2)
    rest = await it.vendor.credit_history(it.account, page.next, 2)
    assert rest.next is None
    used = [entry["target_id"] for entry in [*page.entries, *rest.entries]]
    assert used == [task_id for task_id, _ in reversed(it.sandbox.charged)]
    assert it.sandbox.violations == []


async def test_credits_that_have_expired_are_not_left(it: Rig) -> None:
    it.clock.now += 31 * 86_400
    assert Decimal((await it.vendor.credits(it.account)).balance or "") == 400


async def test_an_empty_account_is_told_as_such(it: Rig) -> None:
    it.play(credits=Decimal(0))
    job, prepared = await it.prepared()
    error = await error_of(it.vendor.submit(it.account, prepared, None, job))
    assert (error.error_class, error.code, error.accepted) == (
        ErrorClass.CREDITS,
        "CreditInsufficiency",
        Accepted.NO,
    )


async def test_a_style_that_is_none_is_the_users_to_mend(it: Rig) -> None:
    job, prepared = await it.prepared("hair-style", style_ids=["7"])
    error = await error_of(it.vendor.submit(it.account, prepared, None, job))
    assert (error.error_class, error.code, error.permanent) == (ErrorClass.INPUT, "InvalidStyleId", True)


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_a_token_that_the_vendor_ended_is_replaced_in_every_call(it: Rig) -> None:
    task = await it.submitted()
    await it.sandbox.tasks[task.id].ended.wait()

    async def renewed(doing: Any) -> None:
        it.sandbox.tokens.revoke()
        _ = it.taken
        await doing
        assert it.taken.count("auth") == 1

    await renewed(it.asked(task))
    await renewed(it.vendor.credits(it.account))
    job, prepared = await it.prepared()
    await renewed(it.handed_in(job, prepared))
    await renewed(it.vendor.prepare(it.account, job))
    assert len(it.sandbox.charged) <= 2


async def test_a_token_lives_two_hours_and_no_request_goes_out_with_a_dead_one(photos: Path, tmp_path: Path) -> None:
    async with rig(photos, tmp_path, replace(AT_ONCE, token_seconds=7200, one_token=True)) as it:
        for _ in range(5):
            await it.vendor.credits(it.account)
            it.clock.now += 3600
        assert it.taken.count("auth") == 3
        assert it.sandbox.violations == []


async def test_a_wrong_secret_is_refused_as_such(it: Rig) -> None:
    other = {**it.sandbox.credentials, "client_id": "nobody"}
    strange = replace(it.account, secrets=other)
    with pytest.raises(VendorError) as refused:
        await it.vendor.try_credentials(strange)
    assert (refused.value.error_class, refused.value.permanent) == (ErrorClass.AUTH, True)
