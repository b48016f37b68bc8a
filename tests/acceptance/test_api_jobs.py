"""Jobs, through the door a user uses: taken in once, listed completely, ended at a word."""

import asyncio
import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from tests.acceptance.made import ENLARGE, fields, finished, form, hold_work, leaving_nothing, picture, queue, upload
from tests.harness import receiver, server_of, stand, terminal_events

pytestmark = pytest.mark.anyio

FACE = "picwish/self-face-cutout"


# --- taking in -------------------------------------------------------------------------------------------------------


async def test_a_job_is_answered_with_202_and_found_at_its_location(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        asset = await upload(it, picture())
        wanted = {
            "operation": ENLARGE,
            "inputs": {"image": {"asset": asset["id"]}},
            "params": {"scale": 4},
            "metadata": {"product_id": "8411"},
            "channels": ["store-7"],
        }
        status, job, headers = await it.client.call_full("POST", "/v1/jobs", json=wanted)
        assert status == 202
        assert headers["Location"] == f"/v1/jobs/{job['id']}"
        assert {name: job[name] for name in wanted} == wanted
        assert (job["object"], job["vendor"], job["state"]) == ("job", "vanceai", "queued")
        assert (job["outputs"], job["error"]) == ([], None)
        assert (await it.client.job(job["id"]))["id"] == job["id"]


async def test_uploaded_pictures_travel_in_the_same_request_and_the_result_is_held_by_us(
    tmp_path: Path, photos: Path
) -> None:
    async with stand(tmp_path) as it:
        status, job, headers = await it.client.call_full(
            "POST",
            "/v1/jobs",
            data=form({"operation": ENLARGE, "params": {"scale": 2}}, image=(photos / "cat.jpg").read_bytes()),
            headers={"Prefer": "respond-async, wait=20"},
        )
        assert (status, job["state"], headers["Preference-Applied"]) == (200, "succeeded", "wait=20")
        assert job["progress"] == 100
        assert job["inputs"]["image"]["asset"].startswith("ast_")
        (output,) = job["outputs"]
        assert (output["name"], output["width"], output["height"]) == ("image", 902, 600)
        async with it.client.http.get(output["url"]) as answer:
            held = await answer.read()
        assert hashlib.sha256(held).hexdigest() == output["sha256"]
        assert Image.open(io.BytesIO(held)).size == (902, 600)
        assert job["billing"] == {"credits": "1.000", "charged": "yes", "possible_duplicate": False}
        assert [heard["state"] for heard in job["callbacks"]] == ["succeeded"]
        assert it.vanceai.violations == []


async def test_an_input_may_be_a_url_which_is_fetched_by_us(tmp_path: Path, photos: Path) -> None:
    asked: list[str] = []

    async def photo(request: web.Request) -> web.FileResponse:
        asked.append(request.path_qs)
        return web.FileResponse(photos / "cat.jpg")

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/cat.jpg?of=redirect")

    app = web.Application()
    app.router.add_get("/cat.jpg", photo)
    app.router.add_get("/moved", elsewhere)
    async with stand(tmp_path) as it, server_of(app) as url:
        status, job = await it.client.submit(
            ENLARGE, inputs={"image": {"url": f"{url}/moved"}}, headers={"Prefer": "wait=20"}
        )
        assert (status, job["state"]) == (200, "succeeded"), job
        assert asked == ["/cat.jpg?of=redirect"]
        assert job["inputs"] == {"image": {"url": f"{url}/moved"}}
        steps = [step["step"] for step in (await it.client.call("GET", f"/v1/jobs/{job['id']}/timeline"))[1]["data"]]
        assert "staged" in steps


async def test_an_input_may_be_the_result_of_another_job(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it:
        first = await finished(it, photos / "cat.jpg", params={"scale": 2})
        status, second = await it.client.submit(
            "vanceai/denoise", inputs={"image": {"job": first["id"]}}, headers={"Prefer": "wait=20"}
        )
        assert (status, second["state"]) == (200, "succeeded"), second
        assert (second["outputs"][0]["width"], second["outputs"][0]["height"]) == (902, 600)
        async with leaving_nothing(it):
            status, problem = await it.client.submit(
                "vanceai/denoise", inputs={"image": {"job": first["id"], "output": "mask"}}
            )
        assert (status, fields(problem)) == (422, {"inputs.image.job"})


async def test_the_result_of_an_unfinished_job_is_refused_in_plain_words(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        waiting = await queue(it)
        status, problem = await it.client.submit(ENLARGE, inputs={"image": {"job": waiting["id"]}})
        assert (status, fields(problem)) == (422, {"inputs.image.job"})
        assert "no results" in problem["errors"][0]["reason"]


async def test_a_link_is_handed_on_unseen_only_to_a_vendor_that_takes_links(tmp_path: Path, photos: Path) -> None:
    agents: list[str] = []

    async def photo(request: web.Request) -> web.FileResponse:
        agents.append(request.headers["User-Agent"])
        return web.FileResponse(photos / "astronaut.jpg")

    app = web.Application()
    app.router.add_get("/face.jpg", photo)
    async with stand(tmp_path) as it, server_of(app) as url:
        link = {"image": {"url": f"{url}/face.jpg", "pass": True}}
        async with leaving_nothing(it):
            status, problem = await it.client.submit(ENLARGE, inputs=link)
        assert (status, fields(problem)) == (422, {"inputs.image.pass"})
        status, job = await it.client.submit(FACE, inputs=link, headers={"Prefer": "wait=20"})
        assert (status, job["state"]) == (200, "succeeded"), job
        assert len(agents) == 1
        assert "Wirephoto" not in agents[0], "the vendor fetched it, we did not"
        assert [output["name"] for output in job["outputs"]] == ["image", "mask"]


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_paging_shows_every_job_exactly_once_while_new_ones_are_added(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        there = [(await queue(it))["id"] for _ in range(7)]
        seen: list[str] = []
        path = "/v1/jobs?limit=2"
        while True:
            _, page = await it.client.call("GET", path)
            assert len(page["data"]) <= 2
            seen += [job["id"] for job in page["data"]]
            await queue(it)
            if page["next"] is None:
                break
            path = f"/v1/jobs?limit=2&after={page['next']}"
        assert seen == there[::-1]


async def test_the_list_is_filtered_by_state_operation_and_vendor(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it:
        done = (await finished(it, photos / "cat.jpg"))["id"]
        face = (await finished(it, photos / "astronaut.jpg", FACE))["id"]
        waiting = (await queue(it))["id"]

        async def ids(query: str) -> list[str]:
            status, page = await it.client.call("GET", f"/v1/jobs?{query}")
            assert status == 200, page
            return [job["id"] for job in page["data"]]

        assert await ids("state=succeeded") == [face, done]
        assert await ids(f"operation={ENLARGE}") == [waiting, done]
        assert await ids("vendor=picwish") == [face]
        assert await ids("vendor=vanceai&state=succeeded") == [done]
        assert await ids("vendor=nobody") == []
        assert await ids("state=succeeded&limit=1") == [face]


async def test_a_limit_out_of_range_is_refused(tmp_path: Path) -> None:
    lists = ("/v1/jobs", "/v1/events", "/v1/endpoints", "/v1/deliveries", "/v1/keys", "/v1/projects")
    async with stand(tmp_path) as it:
        for path in lists:
            for limit in ("0", "201", "-1", "1e1", "", "%C2%B2", "9" * 5000):
                status, problem = await it.client.call("GET", f"{path}?limit={limit}")
                assert (status, fields(problem)) == (422, {"limit"}), (path, limit[:10])
            for limit in ("1", "200"):
                status, _ = await it.client.call("GET", f"{path}?limit={limit}")
                assert status == 200, (path, limit)


async def test_a_cursor_or_state_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        for path in ("/v1/jobs", "/v1/endpoints", "/v1/deliveries", "/v1/keys", "/v1/events", "/v1/projects"):
            status, problem = await it.client.call("GET", f"{path}?after=nothing")
            assert (status, fields(problem)) == (422, {"after"}), path
        for path, field in (("/v1/jobs", "state"), ("/v1/deliveries", "state"), ("/v1/events", "type")):
            status, problem = await it.client.call("GET", f"{path}?{field}=nonsense")
            assert (status, fields(problem)) == (422, {field}), path


# --- timeline and cancel ---------------------------------------------------------------------------------------------


async def test_the_timeline_tells_every_step_in_the_order_of_time(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url, events=["job.succeeded"])
        job = await finished(it, photos / "cat.jpg")
        # The event comes only once its attempt is written down: one more delivery follows the first.
        await finished(it, photos / "cat.jpg")
        await shop.wait_for(2)
        _, timeline = await it.client.call("GET", f"/v1/jobs/{job['id']}/timeline")
        assert (timeline["job"], timeline["state"]) == (job["id"], "succeeded")
        times = [step["at"] for step in timeline["data"]]
        assert times == sorted(times)
        steps = [step["step"] for step in timeline["data"]]
        assert steps[0] == "accepted"
        assert {"submitted", "callback", "fetched", "event", "delivery"} <= set(steps)
        types = [step["type"] for step in timeline["data"] if step["step"] == "event"]
        assert types == ["job.queued", "job.submitted", "job.succeeded"]
        (delivered,) = [step for step in timeline["data"] if step["step"] == "delivery"]
        assert (delivered["status"], delivered["outcome"]) == (204, "delivered")


async def test_cancel_takes_effect_at_once_and_a_late_callback_changes_nothing(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url)
        done = hold_work(it)
        _, job = await it.client.submit(ENLARGE, photos / "cat.jpg")
        await shop.event_of(job["id"], "job.submitted")
        status, canceled = await it.client.call("POST", f"/v1/jobs/{job['id']}/cancel")
        assert (status, canceled["state"]) == (200, "canceled")
        assert canceled["finished_at"] is not None
        done.set()
        sent = await it.vanceai.webhook_sent()
        assert sent.status == 204, "the vendor's late news is taken, so that it does not repeat them"
        # Whoever might still act on it has acted before a whole other job is through.
        await finished(it, photos / "coffee.jpg")
        after = await it.client.job(job["id"])
        assert [heard["state"] for heard in after["callbacks"]] == ["ignored"]
        assert {**after, "callbacks": []} == canceled
        events = await it.client.events()
        assert [event["type"] for event in terminal_events(events, job["id"])] == ["job.canceled"]
        assert len(it.vanceai.charged) == 1, "only the other job was downloaded and paid for"


async def test_a_job_is_canceled_once_and_an_ended_one_not_at_all(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it:
        waiting = await queue(it)
        for _ in range(2):
            status, canceled = await it.client.call("POST", f"/v1/jobs/{waiting['id']}/cancel")
            assert (status, canceled["state"]) == (200, "canceled")
        assert len(terminal_events(await it.client.events(), waiting["id"])) == 1
        job = await finished(it, photos / "cat.jpg")
        status, problem = await it.client.call("POST", f"/v1/jobs/{job['id']}/cancel")
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:already_ended")
        assert "succeeded" in problem["detail"]
        assert await it.client.job(job["id"]) == job


async def test_a_canceled_job_frees_its_place_at_the_vendor(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path, vanceai_settings={"max_concurrent": 1}) as it, receiver() as shop:
        await it.client.subscribe(shop.url)
        done = hold_work(it)
        _, first = await it.client.submit(ENLARGE, photos / "cat.jpg")
        await shop.event_of(first["id"], "job.submitted")
        it.vanceai.settings = replace(it.vanceai.settings, work_seconds=0)
        await it.client.call("POST", f"/v1/jobs/{first['id']}/cancel")
        second = await finished(it, photos / "cat.jpg")
        assert second["state"] == "succeeded"
        done.set()


# --- the job's own webhook -------------------------------------------------------------------------------------------


async def test_the_webhook_of_a_job_gets_that_job_alone_signed_with_the_projects_secret(
    tmp_path: Path, photos: Path
) -> None:
    async with stand(tmp_path) as it, receiver() as own, receiver() as shop:
        await it.client.subscribe(shop.url, events=["job.succeeded"])
        _, told = await it.client.call("GET", "/v1/webhook-secret")
        job = await finished(it, photos / "cat.jpg", webhook=own.url, webhook_events=["job.submitted", "job.succeeded"])
        other = await finished(it, photos / "cat.jpg")
        await shop.event_of(other["id"], "job.succeeded")
        got = await own.wait_for(2)
        assert [entry.verified(told["secret"])["type"] for entry in got] == ["job.submitted", "job.succeeded"]
        assert {entry.event["data"]["id"] for entry in own.got} == {job["id"]}
        _, listed = await it.client.call("GET", "/v1/endpoints")
        assert [endpoint["url"] for endpoint in listed["data"]] == [shop.url], (
            "a job's webhook is no endpoint of its own"
        )


async def test_a_job_without_chosen_events_tells_its_webhook_only_how_it_ended(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as own:
        await finished(it, photos / "cat.jpg", webhook=own.url)
        await own.wait_for(1)
        assert [entry.event["type"] for entry in own.got] == ["job.succeeded"]


async def test_an_upload_that_breaks_off_leaves_no_job_and_no_file(tmp_path: Path, photos: Path) -> None:
    """Cut inside the file: once with a length that says it is all there is, once by hanging up."""
    async with stand(tmp_path) as it:
        head = (
            b'--edge\r\nContent-Disposition: form-data; name="job"\r\n\r\n{"operation": "vanceai/enlarge3"}\r\n'
            b'--edge\r\nContent-Disposition: form-data; name="image"; filename="cat.jpg"\r\n\r\n'
        )
        half = head + (photos / "cat.jpg").read_bytes()[:9000]
        kind = "multipart/form-data; boundary=edge"
        async with leaving_nothing(it):
            status, problem = await it.client.call("POST", "/v1/jobs", data=half, headers={"Content-Type": kind})
            assert (status, problem["type"]) == (400, "urn:wirephoto:problem:bad_multipart")
            host, port = it.client.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            lines = (
                "POST /v1/jobs HTTP/1.1",
                "Host: here",
                f"Authorization: Bearer {it.client.key}",
                f"Content-Type: {kind}",
                f"Content-Length: {len(half) + 1000}",
            )
            writer.write("\r\n".join([*lines, "", ""]).encode() + half)
            writer.write_eof()
            assert b"202" not in await reader.read()
            writer.close()
            await writer.wait_closed()
