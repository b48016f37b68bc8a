"""A photograph's way through VanceAI, which calls back: what a user is promised of it and of its callbacks."""

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as Play
from handlers.sandbox.vanceai_webhook import WebhookPlan
from tests.acceptance.helpers import (
    ENLARGE,
    NEVER,
    SIZE,
    SOON,
    announced,
    asked,
    begun,
    done,
    front,
    heard,
    only_end,
    pictures,
    play,
    raw_status,
    reached,
    webhook_of,
)
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, stand

pytestmark = pytest.mark.anyio

# The config files of the document's tables, as their examples stand there.
CONFIGS: Mapping[str, Any] = {
    "enlarge3": {
        "name": "enlarge3",
        "config": {
            "module": "enlarge3",
            "module_params": {
                "model_name": "EnlargeStandard_2x_Stable",
                "suppress_noise": 40,
                "remove_blur": 60,
                "scale": 2,
            },
        },
    },
    "enlarge3 4x": {
        "name": "enlarge3",
        "config": {
            "module": "enlarge3",
            "module_params": {
                "model_name": "EnlargeStandard_4x_Stable",
                "suppress_noise": 26,
                "remove_blur": 60,
                "scale": 4,
            },
        },
    },
    "denoise": {
        "name": "denoise",
        "config": {
            "module": "denoise",
            "module_params": {
                "model_name": "DenoiseStable",
                "auto_params": True,
                "remove_noise": 75,
                "sharpen": 75,
            },
        },
    },
    "sharpen3": {
        "name": "va_sharpen_standard",
        "config": {
            "module": "sharpen3",
            "module_params": {
                "model_name": "SharpenGeneralStable",
                "remove_blur": 0.5,
                "suppress_noise": 0.5,
                "remove_artifacts": 0.5,
                "autoparams": True,
                "automodel": True,
            },
        },
    },
    "matting": {"name": "matting", "config": {"module": "matting", "module_params": {"model_name": "MattingStable"}}},
}


# -- good days ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "params", "factor", "mode", "credits_"),
    [
        ("enlarge3", {}, 2, "RGB", "1.000"),
        ("enlarge3 4x", {"scale": 4, "suppress_noise": 26}, 4, "RGB", "1.000"),
        ("denoise", {}, 1, "RGB", "1.000"),
        ("sharpen3", {}, 1, "RGB", "2.000"),
        ("matting", {}, 1, "RGBA", "1.000"),
    ],
)
async def test_a_photograph_goes_in_and_one_signed_event_comes_out(
    it: Stand, photo: Path, config: str, params: dict[str, Any], factor: int, mode: str, credits_: str
) -> None:
    operation = config.split(" ", maxsplit=1)[0]
    async with receiver() as subscriber:
        endpoint = await it.client.subscribe(subscriber.url, events=["job.succeeded"])
        job_id = await begun(it.client, f"vanceai/{operation}", photo, params=params)
        (delivery,) = await subscriber.wait_for(1)
        assert delivery.verified(endpoint["secret"])["data"]["id"] == job_id
        job = delivery.event["data"]
    picture = (await pictures(it.client, job))["image"]
    assert picture.size == (SIZE[0] * factor, SIZE[1] * factor)
    assert picture.mode == mode
    transform = asked(it.vanceai, "transform")[0].fields
    # To the byte: what the document shows, in its order.
    assert transform["jconfig"] == json.dumps(CONFIGS[config], separators=(",", ":"))
    assert transform["webhook"].startswith(f"{it.client.url}/callbacks/vanceai/")
    # Each of the four requests once: the upload, the paid call, the confirmation, the download that costs the credit.
    assert [seen.endpoint for seen in it.vanceai.requests] == ["upload", "transform", "progress", "download"]
    assert it.vanceai.violations == []
    assert it.vanceai.charged == [(job["vendor_task_id"], Decimal(credits_))]
    assert heard(job) == [("webhook", "succeeded")]
    assert job["billing"] == {"credits": credits_, "charged": "yes", "possible_duplicate": False}
    assert job["submissions"] == 1
    await only_end(it.client, job_id)


async def test_a_cut_out_has_transparent_pixels_and_kept_ones(it: Stand, photos: Path) -> None:
    job = await done(it.client, "vanceai/matting", photos / "cat.jpg")
    picture = (await pictures(it.client, job))["image"]
    assert picture.size == (451, 300)
    assert picture.getchannel("A").getextrema() == (0, 255)


async def test_the_timeline_tells_each_step_in_order(it: Stand, photo: Path) -> None:
    job = await done(it.client, ENLARGE, photo)
    status, timeline = await it.client.call("GET", f"/v1/jobs/{job['id']}/timeline")
    assert status == 200
    steps = [entry["step"] for entry in timeline["data"] if entry["step"] != "event"]
    assert steps == ["accepted", "submitted", "callback", "fetched"]
    types = [entry["type"] for entry in timeline["data"] if entry["step"] == "event"]
    assert types == ["job.queued", "job.submitted", "job.succeeded"]


# -- the callback ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        WebhookPlan(shape="json"),
        WebhookPlan(shape="form"),
        WebhookPlan(shape="empty"),
        WebhookPlan(shape="text"),
        WebhookPlan(body=b"\x00\xff\xfe\x80\x00{", content_type="application/octet-stream"),
        WebhookPlan(body=b'{"data": {"status": "\\ud800', content_type="application/json; charset=idna"),
        WebhookPlan(shape="empty", method="GET"),
        WebhookPlan(shape="json", method="GET"),
        WebhookPlan(shape="json", content_type="x" * 4000),
    ],
    ids=["json", "form", "empty", "text", "binary", "broken", "get", "get with a body", "endless content type"],
)
async def test_a_callback_ends_a_job_whatever_its_body(it: Stand, photo: Path, plan: WebhookPlan) -> None:
    # Nobody polls: the watchdog sleeps for 30 s. Only the callback can be what ends this job.
    play(it.vanceai, webhook=plan)
    job = await done(it.client, ENLARGE, photo)
    await pictures(it.client, job)
    assert heard(job) == [("webhook", "succeeded")]
    assert len(asked(it.vanceai, "progress")) == 1
    assert [sent.status for sent in it.vanceai.webhooks] == [204]
    await only_end(it.client, job["id"])


async def test_a_callback_that_comes_before_the_answer_to_its_submission_counts(it: Stand, photo: Path) -> None:
    play(it.vanceai, webhook=WebhookPlan(early=True))
    job = await done(it.client, ENLARGE, photo)
    await pictures(it.client, job)
    assert heard(job) == [("webhook", "succeeded")]
    assert job["submissions"] == 1
    assert it.vanceai.violations == []


async def test_an_early_callback_without_words_counts_too(it: Stand, photo: Path) -> None:
    play(it.vanceai, webhook=WebhookPlan(early=True, shape="empty"))
    job = await done(it.client, ENLARGE, photo)
    await pictures(it.client, job)
    assert (job["submissions"], heard(job)) == (1, [("webhook", "succeeded")])


async def test_a_lie_about_the_task_gives_way_to_the_vendors_own_answer(it: Stand, photo: Path) -> None:
    """Unsigned words name another task before the answer comes: the result must still be this job's own."""
    other = await done(it.client, "vanceai/denoise", photo)
    lie = json.dumps({"data": {"trans_id": other["vendor_task_id"], "status": "finish"}}).encode()
    play(it.vanceai, webhook=WebhookPlan(early=True, body=lie))
    job = await done(it.client, ENLARGE, photo)
    picture = (await pictures(it.client, job))["image"]
    assert picture.size == (SIZE[0] * 2, SIZE[1] * 2)
    assert job["vendor_task_id"] not in (None, other["vendor_task_id"])
    assert job["outputs"][0]["sha256"] != other["outputs"][0]["sha256"]
    await only_end(it.client, job["id"])


async def test_the_same_callback_twice_is_stored_once(it: Stand, photo: Path) -> None:
    play(it.vanceai, webhook=WebhookPlan(copies=3))
    job = await done(it.client, ENLARGE, photo)
    await announced(it.vanceai, 3)
    job = await it.client.job(job["id"])
    assert heard(job) == [("webhook", "succeeded")]
    assert [sent.status for sent in it.vanceai.webhooks] == [204, 204, 204]
    assert len(asked(it.vanceai, "download")) == 1
    await only_end(it.client, job["id"])


async def test_a_second_callback_with_other_bytes_is_kept_and_changes_nothing(it: Stand, photo: Path) -> None:
    job = await done(it.client, ENLARGE, photo)
    lie = {"data": {"trans_id": job["vendor_task_id"], "status": "fatal"}}
    status, _ = await it.client.call("POST", webhook_of(it.vanceai), key="", json=lie)
    assert status == 204
    after = await it.client.job(job["id"])
    assert heard(after) == [("webhook", "succeeded"), ("webhook", "ignored")]
    assert {**after, "callbacks": job["callbacks"]} == job
    assert len(asked(it.vanceai, "download")) == len(it.vanceai.charged) == 1
    assert [event["type"] for event in await it.client.events(job["id"])][-1] == "job.succeeded"


async def test_a_callback_that_we_could_not_take_is_repeated_and_stored_once(tmp_path: Path, photo: Path) -> None:
    """The vendor tries three times in all where the answer is 400 or more."""
    async with front("") as gate, stand(tmp_path, public_url=gate.url) as it:
        gate.to = it.client.url
        play(it.vanceai, webhook=WebhookPlan(repeat_seconds=0))
        job_id = await begun_with_two_refused_callbacks(it, gate.answers, photo)
        await announced(it.vanceai, 3)
        async with receiver() as subscriber:
            # Subscribed late on purpose: the log, too, must have the end, and exactly one.
            await it.client.subscribe(subscriber.url, events=["job.succeeded"])
            again = await done(it.client, ENLARGE, photo)
            await subscriber.event_of(again["id"])
        assert [sent.status for sent in it.vanceai.webhooks][:3] == [503, 500, 204]
        job = await it.client.job(job_id)
        assert heard(job) == [("webhook", "succeeded")]
        await only_end(it.client, job_id)


async def begun_with_two_refused_callbacks(
    it: Stand, answers: dict[str, list[web.Response | None]], photo: Path
) -> str:
    play(it.vanceai, work_seconds=(release := asyncio.Event()).wait)
    job_id = await begun(it.client, ENLARGE, photo)
    await reached(it.vanceai, "transform")
    token = webhook_of(it.vanceai).rsplit("/", 1)[-1]
    answers[token] = [web.Response(status=503), web.Response(status=500)]
    release.set()
    return job_id


async def test_a_lie_on_the_right_url_does_not_end_a_job(it: Stand, photo: Path) -> None:
    play(it.vanceai, webhook=NEVER, work_seconds=(release := asyncio.Event()).wait)
    async with receiver() as subscriber:
        await it.client.subscribe(subscriber.url, events=["job.*"])
        job_id = await begun(it.client, ENLARGE, photo)
        running = await subscriber.event_of(job_id, "job.submitted")
        lie = {"data": {"trans_id": running["data"]["vendor_task_id"], "status": "finish"}}
        status, _ = await it.client.call("POST", webhook_of(it.vanceai), key="", json=lie)
        assert status == 204
        await reached(it.vanceai, "progress", 2)
        assert (await it.client.job(job_id))["state"] == "running"
        assert asked(it.vanceai, "download") == []
        release.set()
        ended = await subscriber.event_of(job_id, "job.succeeded", "job.failed")
    await pictures(it.client, ended["data"])
    assert heard(ended["data"])[0] == ("webhook", "running")
    await only_end(it.client, job_id)


async def test_whoever_does_not_know_the_url_is_told_nothing(it: Stand, photo: Path) -> None:
    play(it.vanceai, webhook=NEVER, work_seconds=(release := asyncio.Event()).wait)
    job_id = await begun(it.client, ENLARGE, photo)
    await reached(it.vanceai, "transform")
    token = webhook_of(it.vanceai).rsplit("/", 1)[-1]
    guesses = [
        f"/callbacks/vanceai/{token[:-1]}",
        f"/callbacks/vanceai/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        "/callbacks/vanceai/x",
        "/callbacks/vanceai/%00",
        f"/callbacks/picwish/{token}",
        f"/callbacks/nobody/{token}",
        f"/callbacks/vanceai/{job_id}",
    ]
    for guess in guesses:
        status, problem = await it.client.call("POST", guess, key="", json={"status": "finish"})
        assert status == 404, guess
        assert token not in json.dumps(problem)
    assert (await it.client.job(job_id))["callbacks"] == []
    assert asked(it.vanceai, "progress") == []
    release.set()


async def test_a_huge_callback_is_refused_and_the_next_one_counts(it: Stand, photo: Path) -> None:
    play(it.vanceai, webhook=NEVER, work_seconds=(release := asyncio.Event()).wait)
    async with receiver() as subscriber:
        await it.client.subscribe(subscriber.url, events=["job.*"])
        job_id = await begun(it.client, ENLARGE, photo)
        await subscriber.event_of(job_id, "job.submitted")
        release.set()
        url = webhook_of(it.vanceai)
        assert await raw_status(url, b"Content-Length: 300000\r\n\r\n") == 413
        # Without a length, at the first byte too many; the rest is never awaited.
        most = 256 * 1024 + 1
        chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s" % (most, b"x" * most)
        assert await raw_status(url, chunked) == 413
        assert (await it.client.job(job_id))["callbacks"] == []
        status, _ = await it.client.call("POST", url, key="", data=b"")
        assert status == 204
        await pictures(it.client, (await subscriber.event_of(job_id, "job.succeeded"))["data"])


async def test_a_flood_of_callbacks_is_capped_and_the_job_still_ends(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, **SOON) as it, receiver() as subscriber:
        play(it.vanceai, webhook=NEVER, work_seconds=(release := asyncio.Event()).wait)
        await it.client.subscribe(subscriber.url, events=["job.*"])
        job_id = await begun(it.client, ENLARGE, photo)
        await subscriber.event_of(job_id, "job.submitted")
        url = webhook_of(it.vanceai)
        answers = [(await it.client.call("POST", url, key="", data=str(number)))[0] for number in range(40)]
        assert answers == [204] * 32 + [429] * 8
        release.set()
        ended = (await subscriber.event_of(job_id, "job.succeeded"))["data"]
        await pictures(it.client, ended)
        assert len(ended["callbacks"]) <= 33
        await only_end(it.client, job_id)


async def test_a_vendor_that_never_calls_back_is_asked_by_the_watchdog(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, **SOON) as it:
        play(it.vanceai, webhook=NEVER)
        job = await done(it.client, ENLARGE, photo)
        await pictures(it.client, job)
        assert heard(job) == [("poll", "succeeded")]
        assert it.vanceai.violations == []
        await only_end(it.client, job["id"])


async def test_the_watchdog_is_patient_for_thirty_seconds_by_default(tmp_path: Path, photo: Path) -> None:
    clock = FastClock(speed=100)
    sandbox = VanceAISandbox(Play(work_seconds=0, webhook=NEVER), clock=clock.seconds, monotonic=clock.seconds)
    async with sandbox, stand(tmp_path, clock=clock, vanceai=sandbox) as it:
        job = await done(it.client, ENLARGE, photo)
        assert heard(job) == [("poll", "succeeded")]
        assert asked(sandbox, "progress")[0].at - asked(sandbox, "transform")[0].at >= 30.0
