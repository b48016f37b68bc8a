"""VanceAI on its bad days: lost answers, no address to call, strange words, and every code that it has."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.vanceai import VanceAISandbox, error
from handlers.sandbox.vanceai import VanceAISettings as Play
from handlers.sandbox.vanceai_webhook import WebhookPlan
from tests.acceptance.helpers import (
    ENLARGE,
    NEVER,
    SIZE,
    SOON,
    asked,
    begun,
    done,
    failed_with,
    heard,
    in_state,
    only_end,
    pictures,
    play,
    reached,
    restated,
    webhook_of,
)
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, stand

pytestmark = pytest.mark.anyio


# -- lost answers ------------------------------------------------------------------------------------------------------


async def test_a_callback_that_names_its_task_stands_in_for_a_lost_answer(it: Stand, photo: Path) -> None:
    it.vanceai.faults.next("transform", faults.ANSWER_LOST)
    job = await done(it.client, ENLARGE, photo)
    await pictures(it.client, job)
    assert (job["submissions"], job["billing"]["possible_duplicate"]) == (1, False)
    assert heard(job) == [("webhook", "succeeded")]
    assert len(asked(it.vanceai, "transform")) == len(it.vanceai.charged) == 1
    await only_end(it.client, job["id"])


@pytest.mark.parametrize("plan", [NEVER, WebhookPlan(shape="empty")], ids=["silent", "wordless"])
async def test_a_lost_answer_means_the_same_upload_again_and_says_so(
    tmp_path: Path, photo: Path, plan: WebhookPlan
) -> None:
    async with stand(tmp_path, **SOON) as it:
        play(it.vanceai, webhook=plan)
        it.vanceai.faults.next("transform", faults.ANSWER_LOST)
        job = await done(it.client, ENLARGE, photo)
        await pictures(it.client, job)
        first, second = asked(it.vanceai, "transform")
        assert first.fields["uid"] == second.fields["uid"]
        assert first.fields["jconfig"] == second.fields["jconfig"]
        # A resubmission has its own secret: the first one's may be known to whoever swallowed the answer.
        assert first.fields["webhook"] != second.fields["webhook"]
        assert len(asked(it.vanceai, "upload")) == len(it.vanceai.charged) == 1
        assert (job["submissions"], job["billing"]["possible_duplicate"]) == (2, True)
        await only_end(it.client, job["id"])


async def test_two_tasks_of_one_job_make_one_download_and_one_event(tmp_path: Path, photo: Path) -> None:
    """The first submission's answer was lost, the second runs, and then the first one's callback comes after all."""
    async with stand(tmp_path, **SOON) as it, receiver() as subscriber:
        play(it.vanceai, webhook=NEVER, work_seconds=(release := asyncio.Event()).wait)
        await it.client.subscribe(subscriber.url, events=["job.*"])
        it.vanceai.faults.next("transform", faults.ANSWER_LOST)
        job_id = await begun(it.client, ENLARGE, photo)
        await subscriber.event_of(job_id, "job.submitted")
        first, second = it.vanceai.tasks
        news = {"data": {"trans_id": first, "status": "finish"}}
        status, _ = await it.client.call("POST", webhook_of(it.vanceai, 1), key="", json=news)
        assert status == 204
        release.set()
        ended = (await subscriber.event_of(job_id, "job.succeeded", "job.failed"))["data"]
        await pictures(it.client, ended)
        assert ended["vendor_task_id"] in (first, second)
        assert [task for task, _ in it.vanceai.charged] == [ended["vendor_task_id"]]
        assert len(asked(it.vanceai, "download")) == 1
        await only_end(it.client, job_id)


async def test_a_lie_in_place_of_a_lost_answer_never_fetches_anothers_result(tmp_path: Path, photo: Path) -> None:
    """Nobody contradicts the lie, but the task that it names is known to be another job's."""
    async with stand(tmp_path, **SOON) as it:
        other = await done(it.client, "vanceai/denoise", photo)
        lie = json.dumps({"data": {"trans_id": other["vendor_task_id"], "status": "finish"}}).encode()
        play(it.vanceai, webhook=WebhookPlan(body=lie))
        it.vanceai.faults.next("transform", faults.ANSWER_LOST)
        job = await done(it.client, ENLARGE, photo)
        assert (await pictures(it.client, job))["image"].size == (SIZE[0] * 2, SIZE[1] * 2)
        assert job["vendor_task_id"] != other["vendor_task_id"]
        assert job["submissions"] == 2
        await only_end(it.client, job["id"])


@pytest.mark.parametrize("code", [10010, 10001], ids=["passing", "final"])
async def test_a_no_after_a_callback_that_named_the_task_is_looked_into(it: Stand, photo: Path, code: int) -> None:
    """The vendor took the call in, said so on our secret URL, and then answered an error: the task is asked about."""
    no = json.dumps({"code": code, "msg": "Internal error"}).encode()
    play(it.vanceai, webhook=WebhookPlan(early=True))
    it.vanceai.faults.next("transform", faults.Fault(status=200, body=no, after_work=True))
    job = await done(it.client, ENLARGE, photo)
    await pictures(it.client, job)
    assert (job["submissions"], heard(job)) == (1, [("webhook", "succeeded")])
    assert len(it.vanceai.charged) == 1
    await only_end(it.client, job["id"])


@pytest.mark.parametrize("second", [faults.ANSWER_LOST, error(30004)], ids=["lost too", "refused"])
async def test_a_running_task_is_not_given_up_for_a_later_submission(
    tmp_path: Path, photo: Path, second: faults.Fault
) -> None:
    """A callback names the first submission's task while another one is under way, which comes to nothing."""
    async with stand(tmp_path, **SOON) as it, receiver() as subscriber:
        play(it.vanceai, webhook=NEVER, work_seconds=(release := asyncio.Event()).wait)
        await it.client.subscribe(subscriber.url, events=["job.*"])
        it.vanceai.faults.next("transform", faults.ANSWER_LOST, times=2)
        it.vanceai.faults.next("transform", replace(second, hold=True))
        job_id = await begun(it.client, ENLARGE, photo)
        await reached(it.vanceai, "transform", 3)
        news = {"data": {"trans_id": next(iter(it.vanceai.tasks)), "status": "process"}}
        status, _ = await it.client.call("POST", webhook_of(it.vanceai, 1), key="", json=news)
        assert status == 204
        await subscriber.event_of(job_id, "job.submitted")
        it.vanceai.faults.release()
        # Long enough for the watchdog of the third submission: ten more questions about the first one's task.
        await reached(it.vanceai, "progress", 10)
        assert (await it.client.job(job_id))["state"] == "running"
        release.set()
        ended = (await subscriber.event_of(job_id, "job.succeeded", "job.failed"))["data"]
        await pictures(it.client, ended)
        assert len(it.vanceai.charged) == 1
        await only_end(it.client, job_id)


async def test_a_vendor_that_never_answers_a_submission_ends_the_job_as_unconfirmed(
    tmp_path: Path, photo: Path
) -> None:
    async with stand(tmp_path, **SOON) as it:
        play(it.vanceai, webhook=NEVER)
        it.vanceai.faults.next("transform", faults.ANSWER_LOST, times=10)
        job = await done(it.client, ENLARGE, photo)
        await failed_with(it.client, job, "unconfirmed", "no_answer")
        assert len(asked(it.vanceai, "transform")) == job["submissions"] == 3
        assert job["billing"]["charged"] == "unknown"
        assert job["billing"]["possible_duplicate"]
        assert it.vanceai.charged == []


async def test_a_refusal_after_a_lost_answer_does_not_claim_that_nothing_was_charged(
    tmp_path: Path, photo: Path
) -> None:
    async with stand(tmp_path, **SOON) as it, receiver() as told:
        await it.client.subscribe(told.url, events=["vendor.*"])
        play(it.vanceai, webhook=NEVER, point_type="job")
        it.vanceai.faults.next("transform", faults.ANSWER_LOST)
        it.vanceai.faults.next("transform", error(30004))
        job_id = await begun(it.client, ENLARGE, photo)
        await told.wait_for(1, "vendor.credits_low")
        job = await in_state(it.client, job_id, "queued")
        assert job["billing"]["charged"] == "unknown"
        assert len(it.vanceai.charged) == 1


@pytest.mark.parametrize("fault", [faults.HTML_500_AFTER_WORK, faults.WRONG_TYPES], ids=["html", "wrong types"])
async def test_a_garbled_answer_to_the_paid_call_is_not_taken_for_a_no(
    tmp_path: Path, photo: Path, fault: faults.Fault
) -> None:
    async with stand(tmp_path, **SOON) as it:
        it.vanceai.faults.next("transform", fault)
        job = await done(it.client, ENLARGE, photo)
        await pictures(it.client, job)
        assert len(it.vanceai.charged) == 1
        await only_end(it.client, job["id"])


# -- no address to call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"reachable": False}, {"allow_networks": []}], ids=["no PUBLIC_URL", "http that is not allowed"]
)
async def test_without_an_address_the_call_blocks_and_no_webhook_is_made_up(
    tmp_path: Path, photo: Path, changes: dict[str, Any]
) -> None:
    async with stand(tmp_path, **changes) as it:
        job = await done(it.client, ENLARGE, photo)
        await pictures(it.client, job)
        assert "webhook" not in asked(it.vanceai, "transform")[0].fields
        assert [seen.endpoint for seen in it.vanceai.requests] == ["upload", "transform", "download"]
        assert heard(job) == [("reply", "succeeded")]
        await only_end(it.client, job["id"])


async def test_a_blocking_call_that_answers_busy_goes_on_as_polls(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, reachable=False) as it:
        play(it.vanceai, busy_after=0.0, work_seconds=(release := asyncio.Event()).wait)
        job_id = await begun(it.client, ENLARGE, photo)
        await reached(it.vanceai, "progress", 2)
        assert (await it.client.job(job_id))["state"] == "running"
        async with receiver() as subscriber:
            await it.client.subscribe(subscriber.url, events=["job.succeeded"])
            release.set()
            job = (await subscriber.event_of(job_id))["data"]
        await pictures(it.client, job)
        assert heard(job) == [("poll", "succeeded")]
        assert len(asked(it.vanceai, "transform")) == 1


async def test_a_blocking_call_that_fails_is_a_failed_job(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, reachable=False) as it:
        it.vanceai.play("fatal")
        job = await done(it.client, ENLARGE, photo)
        await failed_with(it.client, job, "vendor", "fatal")
        assert job["billing"]["charged"] == "no"


# -- words and codes ---------------------------------------------------------------------------------------------------


async def test_every_word_for_running_and_a_new_one_mean_running(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, **SOON) as it:
        play(it.vanceai, webhook=NEVER)
        words = ("waiting", "wait", "process", "webhook", "busy", "polishing", "FINISHED?")
        it.vanceai.play(*words, "finish")
        job = await done(it.client, ENLARGE, photo)
        await pictures(it.client, job)
        assert len(asked(it.vanceai, "progress")) == len(words) + 1
        assert heard(job) == [("poll", "succeeded")]


async def test_a_fatal_task_is_one_failed_job_and_not_charged(it: Stand, photo: Path) -> None:
    it.vanceai.play("process", "fatal")
    job = await done(it.client, ENLARGE, photo)
    await failed_with(it.client, job, "vendor", "fatal")
    assert job["billing"]["charged"] == "no"
    assert it.vanceai.charged == []
    assert asked(it.vanceai, "download") == []


async def test_a_task_that_never_ends_is_given_up_at_the_deadline(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, vanceai_settings={"watchdog_seconds": 0.1, "deadline_seconds": 0.4}) as it:
        play(it.vanceai, webhook=NEVER)
        it.vanceai.play("polishing")
        job = await done(it.client, ENLARGE, photo)
        await failed_with(it.client, job, "timeout", "deadline")
        assert "polishing" in job["error"]["message"]
        assert job["error"]["retryable"]


# Which code means what, at each endpoint. The fault strikes every request there. Those that are meant for the account
# end no job: test_account_trouble.py.
FINAL: Mapping[str, Mapping[int, str]] = {
    "upload": {
        10001: "input",
        10011: "input",
        10012: "input",
        10013: "input",
        10014: "vendor",
    },
    "transform": {
        10001: "input",
        10012: "input",
        10013: "input",
        10014: "vendor",
    },
    "progress": {10001: "input", 10011: "expired", 10012: "input", 10013: "input", 10014: "vendor"},
}


@pytest.mark.parametrize("endpoint", FINAL)
async def test_a_vendors_no_keeps_its_class_and_its_code(it: Stand, photo: Path, endpoint: str) -> None:
    for code, error_class in FINAL[endpoint].items():
        it.vanceai.faults.next(endpoint, error(code, {"uid": ["The uid field is required."]}))
        job = await done(it.client, ENLARGE, photo)
        await failed_with(it.client, job, error_class, str(code))
        assert job["error"]["message"]
        assert job["billing"]["charged"] == "no"
    assert len(asked(it.vanceai, endpoint)) == len(FINAL[endpoint])
    assert it.vanceai.charged == []


PASSING: Mapping[str, tuple[faults.Fault, ...]] = {
    "upload": (error(10010), faults.HTML_500, faults.NOT_JSON, faults.DROPPED_BEFORE_WORK),
    "transform": (
        error(10010),
        error(10011),
        faults.answering({"code": 99999, "msg": "new in the next version"}),
        faults.HTML_500,
        faults.NOT_JSON,
    ),
    "progress": (
        error(10010),
        error(30001),
        error(30004),
        faults.HTML_500,
        faults.NOT_JSON,
        faults.DROPPED_BEFORE_WORK,
        faults.Fault(change=restated({"status": None})),
        faults.answering({}),
        faults.answering([]),
    ),
    "download": (error(10010), faults.HTML_500, faults.DROPPED_BEFORE_WORK, faults.Fault(status=302)),
}


@pytest.mark.parametrize("endpoint", PASSING)
async def test_a_bad_moment_of_the_vendor_passes(tmp_path: Path, photo: Path, endpoint: str) -> None:
    async with stand(tmp_path, clock=FastClock(speed=100)) as it:
        for number, fault in enumerate(PASSING[endpoint], start=1):
            it.vanceai.faults.next(endpoint, fault)
            job = await done(it.client, ENLARGE, photo)
            await pictures(it.client, job)
            await only_end(it.client, job["id"])
            assert len(it.vanceai.charged) == number


# What a vendor goes on saying is in the end the reason; what can't be had at the download is `result_unavailable`.
LASTING: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "upload": {10010: ("vendor", "10010"), 99999: ("vendor", "99999")},
    "transform": {10010: ("vendor", "10010"), 10011: ("vendor", "10011"), 99999: ("vendor", "99999")},
    "progress": {
        10010: ("timeout", "10010"),
        30001: ("auth", "30001"),
        30004: ("credits", "30004"),
        99999: ("vendor", "99999"),
    },
    "download": dict.fromkeys((10001, 10011, 10014), ("vendor", "result_unavailable")),
}


@pytest.mark.parametrize("endpoint", LASTING)
async def test_a_lasting_trouble_ends_the_job_once_with_the_vendors_code(
    tmp_path: Path, photo: Path, endpoint: str
) -> None:
    changes = {"poll_seconds": 2.0, "deadline_seconds": 30.0}
    async with stand(tmp_path, clock=FastClock(speed=400), vanceai_settings=changes) as it:
        for code, (error_class, told) in LASTING[endpoint].items():
            it.vanceai.faults.next(endpoint, error(code, f"trouble {code}"), times=200)
            job = await done(it.client, ENLARGE, photo)
            await failed_with(it.client, job, error_class, told)
            assert f"{code}" in job["error"]["code"] + job["error"]["message"]
            it.vanceai.faults.clear()
        assert it.vanceai.charged == []


async def test_the_token_is_in_no_answer_and_in_no_event(tmp_path: Path, photo: Path) -> None:
    """A vendor repeats what it was sent; our key and the callback's secret go no further."""
    key = "va-key-that-nobody-may-see"
    async with VanceAISandbox(Play(work_seconds=0), key=key) as sandbox, stand(tmp_path, vanceai=sandbox) as it:
        sandbox.faults.next("transform", error(10001, {"api_token": [f"bad: {key}"], "webhook": ["bad"]}))
        job = await done(it.client, ENLARGE, photo)
        await failed_with(it.client, job, "input", "10001")
        _, timeline = await it.client.call("GET", f"/v1/jobs/{job['id']}/timeline")
        told = json.dumps([job, timeline, await it.client.events()])
        assert key not in told
        assert webhook_of(sandbox).rsplit("/", 1)[-1] not in told
