"""The same request twice, and waiting for its end: `Idempotency-Key` and `Prefer: wait`."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.made import ENLARGE, NOBODY_THERE, fields, finished, form, hold_work, leaving_nothing
from tests.fast_clock import FastClock
from tests.harness import receiver, stand

pytestmark = pytest.mark.anyio


# --- Prefer: wait ----------------------------------------------------------------------------------------------------


async def test_a_wait_that_runs_out_is_answered_with_202_and_the_job_goes_on(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url)
        done = hold_work(it)
        status, job = await it.client.submit(ENLARGE, photos / "cat.jpg", headers={"Prefer": "wait=1"})
        assert (status, job["state"]) == (202, "running"), job
        done.set()
        event = await shop.event_of(job["id"], "job.succeeded")
        assert event["data"]["state"] == "succeeded"


async def test_a_wait_out_of_range_is_refused(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        for wait in ("0", "61", "9" * 5000):
            status, problem = await it.client.submit(
                ENLARGE, inputs={"image": {"url": NOBODY_THERE}}, headers={"Prefer": f"wait={wait}"}
            )
            assert (status, fields(problem)) == (422, {"Prefer"}), wait[:10]


# --- Idempotency-Key -------------------------------------------------------------------------------------------------


async def test_the_same_key_with_the_same_request_is_the_same_job_and_paid_once(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it:
        key = {"Idempotency-Key": "order-8411"}
        job = {"operation": ENLARGE, "params": {"scale": 2, "remove_blur": 10}}
        turned = {"params": {"remove_blur": 10, "scale": 2}, "operation": ENLARGE}
        data = (photos / "cat.jpg").read_bytes()
        status, first = await it.client.call("POST", "/v1/jobs", data=form(job, image=data), headers=key)
        assert status == 202
        status, second, headers = await it.client.call_full(
            "POST", "/v1/jobs", data=form(turned, image=data), headers={**key, "Prefer": "wait=20"}
        )
        assert (status, second["id"], second["state"]) == (200, first["id"], "succeeded")
        assert headers["Location"] == f"/v1/jobs/{first['id']}"
        assert len(it.vanceai.charged) == 1
        _, listed = await it.client.call("GET", "/v1/jobs")
        assert [entry["id"] for entry in listed["data"]] == [first["id"]]
        assert [event["type"] for event in await it.client.events(first["id"])].count("job.queued") == 1


async def test_the_same_key_with_another_request_is_a_conflict(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it:
        key = {"Idempotency-Key": "order-8411"}
        await finished(it, photos / "cat.jpg")
        status, _ = await it.client.submit(ENLARGE, photos / "cat.jpg", headers={**key, "Prefer": "wait=20"})
        assert status == 200
        others: list[tuple[str, Path, dict[str, Any]]] = [
            (ENLARGE, photos / "coffee.jpg", {}),
            (ENLARGE, photos / "cat.jpg", {"params": {"scale": 4}}),
            (ENLARGE, photos / "cat.jpg", {"metadata": {"a": "b"}}),
            ("vanceai/denoise", photos / "cat.jpg", {}),
        ]
        for operation, photo, job in others:
            async with leaving_nothing(it):
                status, problem = await it.client.submit(operation, photo, headers=key, **job)
            assert (status, problem["type"]) == (409, "urn:wirephoto:problem:idempotency_conflict")


async def test_many_requests_with_one_key_at_once_make_one_job(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url)
        answers = await asyncio.gather(
            *(
                it.client.submit(ENLARGE, photos / "cat.jpg", headers={"Idempotency-Key": "all-at-once"})
                for _ in range(8)
            )
        )
        assert [status for status, _ in answers].count(202) == 1
        assert {status for status, _ in answers} <= {200, 202, 409}
        (job,) = {body["id"] for status, body in answers if status != 409}
        await shop.event_of(job, "job.succeeded")
        _, listed = await it.client.call("GET", "/v1/jobs")
        assert [entry["id"] for entry in listed["data"]] == [job]
        assert len(it.vanceai.charged) == 1


async def test_a_key_whose_first_request_is_still_being_taken_in_says_come_back(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:

        async def ask() -> tuple[int, Any, Any]:
            return await it.client.call_full(
                "POST",
                "/v1/jobs",
                json={"operation": ENLARGE, "inputs": {"image": {"url": NOBODY_THERE}}},
                headers={"Idempotency-Key": "slow-disk"},
            )

        # Somebody else holds the database, so that the first request can't be committed yet.
        holder = sqlite3.connect(tmp_path / "wirephoto.sqlite3", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        both = {asyncio.create_task(ask()), asyncio.create_task(ask())}
        done, waiting = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        holder.execute("ROLLBACK")
        holder.close()
        (early,), (late,) = done, waiting
        status, problem, headers = early.result()
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:idempotency_in_progress")
        assert int(headers["Retry-After"]) >= 1
        status, job, _ = await late
        assert status == 202
        status, again, _ = await ask()
        assert (status, again["id"]) == (200, job["id"])


async def test_a_key_spent_on_a_refused_request_is_still_free(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        key = {"Idempotency-Key": "second-try"}
        image = {"image": {"url": NOBODY_THERE}}
        status, _ = await it.client.submit(ENLARGE, inputs=image, params={"scale": 3}, headers=key)
        assert status == 422
        status, _ = await it.client.submit(ENLARGE, inputs=image, params={"scale": 2}, headers=key)
        assert status == 202


async def test_a_key_is_kept_for_24_hours(tmp_path: Path) -> None:
    clock = FastClock(1.0)
    async with stand(tmp_path, clock=clock) as it:

        async def ask() -> tuple[int, Any]:
            return await it.client.submit(
                ENLARGE, inputs={"image": {"url": NOBODY_THERE}}, headers={"Idempotency-Key": "daily"}
            )

        _, first = await ask()
        clock.jump(23.9 * 3600)
        assert (await ask())[0] == 200
        clock.jump(0.2 * 3600)
        status, later = await ask()
        assert status == 202
        assert later["id"] != first["id"]


async def test_a_key_that_can_not_be_told_apart_safely_is_refused(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, leaving_nothing(it):
        for key in ("", "two words", "x" * 256, "ümlaut"):
            status, problem = await it.client.submit(
                ENLARGE, inputs={"image": {"url": NOBODY_THERE}}, headers={"Idempotency-Key": key}
            )
            assert (status, fields(problem)) == (422, {"Idempotency-Key"}), key
