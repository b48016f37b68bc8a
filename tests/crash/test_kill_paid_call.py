"""Killed while the paid call is out: nobody knows what the vendor has done, and nothing is paid for twice unsaid."""

import asyncio
from pathlib import Path

import pytest

from handlers.sandbox.vanceai_webhook import WebhookPlan
from tests.crash.acts import hang, seen, succeeded_once
from tests.crash.scene import CUTOUT, ENLARGE, SILENT, Launch, Scene, scene
from tests.harness import PATIENCE

pytestmark = pytest.mark.anyio

# --- the paid call: VanceAI --------------------------------------------------------------------------------------


async def test_a_callback_on_the_old_token_carries_on_after_the_paid_call_was_cut_off(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    done = asyncio.Event()
    async with scene(launch, data_dir, photo, work=done.wait) as place:
        service = await place.start()
        await place.subscribe()
        hang(place, ENLARGE, "transform", after_work=True)
        job_id = await place.submit(ENLARGE)
        await seen(place, ENLARGE, "transform")
        await service.kill()
        await place.start()
        done.set()  # the body of the webhook names the trans_id that we never heard of
        await succeeded_once(place, job_id, ENLARGE)
        assert [sent.status for sent in place.vanceai.webhooks] == [204]


async def test_a_callback_that_came_while_the_paid_call_was_out_carries_on(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start("after:receive._receive:1")
        await place.subscribe()
        hang(place, ENLARGE, "transform", after_work=True)
        job_id = await place.submit(ENLARGE)
        await service.killed()
        await place.start()
        await succeeded_once(place, job_id, ENLARGE)
        # It was killed before it could say that it had heard; that there was no second call didn't matter.
        assert [sent.status for sent in place.vanceai.webhooks] == [None]


async def resubmitted_with_the_same_uid(place: Scene, job_id: str) -> None:
    job = await place.end_of(job_id)
    await place.pictures_are_whole(job)
    transforms = [entry.fields for entry in place.vanceai.requests if entry.endpoint == "transform"]
    assert len({fields["uid"] for fields in transforms}) == 1
    assert len({fields["jconfig"] for fields in transforms}) == 1
    assert len({fields["webhook"] for fields in transforms}) == len(transforms)
    assert place.asked("upload") == 1
    assert place.charges == 1
    assert job["submissions"] == 2
    assert job["billing"]["possible_duplicate"] is True


async def test_without_a_callback_the_watchdog_submits_the_same_uid_again(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo, webhook=SILENT, VANCEAI__WATCHDOG_SECONDS="0.3") as place:
        service = await place.start()
        await place.subscribe()
        hang(place, ENLARGE, "transform", after_work=True)
        job_id = await place.submit(ENLARGE)
        await seen(place, ENLARGE, "transform")
        await service.kill()
        await place.start()
        await resubmitted_with_the_same_uid(place, job_id)
        assert place.asked("transform") == 2


async def test_what_was_prepared_and_never_sent_is_sent_with_the_same_uid(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo, VANCEAI__WATCHDOG_SECONDS="0.3") as place:
        service = await place.start("after:submit._open:1")
        await place.subscribe()
        job_id = await place.submit(ENLARGE)
        await service.killed()
        await place.start()
        # Nobody can know that it was never sent: so the user is told of what might have been.
        await resubmitted_with_the_same_uid(place, job_id)
        assert place.asked("transform") == 1


async def test_a_late_callback_on_the_first_token_ends_no_job_twice(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    done = asyncio.Event()
    async with scene(launch, data_dir, photo, work=done.wait, VANCEAI__WATCHDOG_SECONDS="0.3") as place:
        service = await place.start()
        await place.subscribe()
        hang(place, ENLARGE, "transform", after_work=True)
        job_id = await place.submit(ENLARGE)
        await seen(place, ENLARGE, "transform")
        await service.kill()
        await place.start()
        await seen(place, ENLARGE, "transform", 2)
        done.set()
        await resubmitted_with_the_same_uid(place, job_id)
        async with asyncio.timeout(PATIENCE):
            await place.vanceai.webhook_sent(2)
        assert [sent.status for sent in place.vanceai.webhooks] == [204, 204]
        await place.end_of(job_id)


async def test_an_empty_callback_on_the_old_token_is_kept_and_the_same_uid_submitted(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    done = asyncio.Event()
    empty = WebhookPlan(shape="empty")
    async with scene(launch, data_dir, photo, work=done.wait, webhook=empty, VANCEAI__WATCHDOG_SECONDS="1") as place:
        service = await place.start()
        await place.subscribe()
        hang(place, ENLARGE, "transform", after_work=True)
        job_id = await place.submit(ENLARGE)
        await seen(place, ENLARGE, "transform")
        await service.kill()
        await place.start()
        done.set()
        await resubmitted_with_the_same_uid(place, job_id)
        assert {sent.status for sent in place.vanceai.webhooks} == {204}
        job = await place.client.job(job_id)
        assert len([heard for heard in job["callbacks"] if heard["via"] == "webhook"]) == 2


# --- the paid call: PicWish --------------------------------------------------------------------------------------


async def test_an_unconfirmed_paid_call_is_made_once_more_and_the_bill_says_so(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo, PICWISH__CALL_SECONDS="1") as place:
        service = await place.start()
        await place.subscribe()
        hang(place, CUTOUT, "create", after_work=True)
        job_id = await place.submit(CUTOUT)
        await seen(place, CUTOUT, "create")
        await service.kill()
        await place.start()
        job = await place.end_of(job_id)
        await place.pictures_are_whole(job)
        assert place.asked("create") == 2
        assert job["submissions"] == 2
        assert job["billing"]["possible_duplicate"] is True


async def test_an_unconfirmed_paid_call_is_made_at_most_once_more(launch: Launch, data_dir: Path, photo: Path) -> None:
    async with scene(launch, data_dir, photo, PICWISH__CALL_SECONDS="1") as place:
        await place.start()
        await place.subscribe()
        for _ in range(2):
            hang(place, CUTOUT, "create", after_work=True)
        job_id = await place.submit(CUTOUT)
        for count in (1, 2):
            await seen(place, CUTOUT, "create", count)
            await place.children[-1].kill()
            await place.start()
        job = await place.end_of(job_id)
        assert (job["state"], job["error"]["class"]) == ("failed", "unconfirmed")
        assert place.asked("create") == 2
        assert job["billing"] == {"credits": None, "charged": "unknown", "possible_duplicate": True}


async def test_an_unconfirmed_paid_call_is_never_made_again_where_the_operator_says_fail(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo, PICWISH__CALL_SECONDS="1", PICWISH__UNCONFIRMED="fail") as place:
        service = await place.start()
        await place.subscribe()
        hang(place, CUTOUT, "create", after_work=True)
        job_id = await place.submit(CUTOUT)
        await seen(place, CUTOUT, "create")
        await service.kill()
        await place.start()
        job = await place.end_of(job_id)
        assert (job["state"], job["error"]["class"]) == ("failed", "unconfirmed")
        assert place.asked("create") == 1
        assert job["billing"] == {"credits": None, "charged": "unknown", "possible_duplicate": False}


async def test_a_paid_call_that_waited_for_its_turn_was_never_made_and_is_made_now(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo, PICWISH__UNCONFIRMED="fail") as place:
        service = await place.start("after:vendor_requests.start:1")
        await place.subscribe()
        job_id = await place.submit(CUTOUT)
        await service.killed()
        await place.start()
        await succeeded_once(place, job_id, CUTOUT)
