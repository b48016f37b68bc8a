"""Pictures in a bucket: the same promises by the same doors, and what becomes of jobs while the bucket is away."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from structlog.testing import LogCapture

from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from service.store.files import OWNER
from tests.acceptance.command_line import ONE_DATABASE, within
from tests.acceptance.helpers import CUTOUT, ENLARGE, asked, begun, done, fast_stand, only_end, pictures, play, reached
from tests.acceptance.made import picture, upload
from tests.clock import ManualClock
from tests.fast_clock import FastClock
from tests.harness import PATIENCE, server_of, stand
from tests.s3 import S3

pytestmark = pytest.mark.anyio

DAY = 24 * 3_600_000


@contextmanager
def listening(event: str) -> Iterator[asyncio.Event]:
    """Set when the service logs this."""
    heard = asyncio.Event()

    class Listener(LogCapture):
        def __call__(self, logger: Any, method: str, entry: Any) -> Any:
            if entry["event"] == event:
                heard.set()
            return super().__call__(logger, method, entry)

    before = structlog.get_config()["processors"]
    processors = [*before]
    before[:] = [Listener()]
    try:
        yield heard
    finally:
        before[:] = processors


async def heard(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


@asynccontextmanager
async def succeeding() -> AsyncIterator[None]:
    """What is begun inside lets a job succeed."""
    with listening("job.succeeded") as finished:
        yield
        await heard(finished)


def held(s3: S3) -> set[str]:
    return {key.rpartition("/")[2] for key in s3.keys() if key != OWNER}  # noqa: SIM118 - no mapping


@pytest.mark.parametrize("operation", [ENLARGE, CUTOUT])
async def test_a_job_goes_its_way_with_every_picture_in_the_bucket(
    tmp_path: Path, photo: Path, s3: S3, operation: str
) -> None:
    async with stand(tmp_path, assets_url=s3.url) as it:
        job = await done(it.client, operation, photo)
        await pictures(it.client, job)
        await only_end(it.client, job["id"])
        first = job["outputs"][0]
        status, part, headers = await it.client.call_full("GET", first["url"], key="", headers={"Range": "bytes=10-19"})
        assert (status, len(part)) == (206, 10)
        assert headers["content-range"] == f"bytes 10-19/{first['bytes']}"
        assert {output["sha256"] for output in job["outputs"]} < held(s3)
    assert not (tmp_path / "assets").exists()
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_a_result_feeds_the_next_job_from_the_bucket(tmp_path: Path, photo: Path, s3: S3) -> None:
    async with stand(tmp_path, assets_url=s3.url) as it:
        first = await done(it.client, ENLARGE, photo)
        second = await done(it.client, CUTOUT, None, inputs={"image": {"job": first["id"]}})
        await pictures(it.client, second)


async def test_what_has_expired_leaves_the_bucket_and_what_has_not_stays(tmp_path: Path, s3: S3) -> None:
    clock = ManualClock()
    async with stand(tmp_path, assets_url=s3.url, clock=clock, asset_retention_days=2) as it:
        old = await upload(it, picture(size=(11, 11)))
        clock.leap(DAY)
        new = await upload(it, picture(size=(12, 12)))
        for asset in (old, new):
            s3.age(f"{asset['sha256'][:2]}/{asset['sha256']}", clock.now())
        with listening("assets.swept") as swept:
            clock.leap(DAY + DAY // 2)
            async with asyncio.timeout(PATIENCE):
                while not swept.is_set():
                    # The rests between retention's steps.
                    await clock.advance(10)
        assert held(s3) == {new["sha256"]}
        status, _ = await it.client.call("GET", f"/v1/assets/{old['id']}/content")
        assert status == 404


async def test_a_result_in_hand_waits_for_a_bucket_that_is_away_and_is_not_paid_for_again(
    tmp_path: Path, photo: Path, s3: S3
) -> None:
    clock = FastClock(1.0)
    async with fast_stand(tmp_path, clock, assets_url=s3.url) as it:
        worked = asyncio.Event()
        play(it.picwish, work_seconds=worked.wait)
        job_id = await begun(it.client, CUTOUT, photo)
        await reached(it.picwish, "query")
        s3.stop()
        with listening("store.unavailable") as away:
            worked.set()
            await reached(it.picwish, "result")
            await heard(away)
        clock.jump(30)
        assert (await it.client.job(job_id))["state"] == "fetching"
        async with succeeding():
            s3.start()
        job = await it.client.job(job_id)
        await pictures(it.client, job)
        await only_end(it.client, job_id)
        assert len(asked(it.picwish, "result")) == len(job["outputs"]), "each was downloaded once"


async def test_a_source_url_is_not_asked_again_because_the_bucket_is_away(tmp_path: Path, s3: S3) -> None:
    asked_for: list[str] = []

    async def source(request: web.Request) -> web.Response:
        asked_for.append(request.path)
        s3.stop()
        return web.Response(body=picture("JPEG", (96, 64)), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/{tail:.*}", source)
    async with stand(tmp_path, assets_url=s3.url) as it, server_of(app) as url:
        with listening("store.unavailable") as away:
            job_id = await begun(it.client, CUTOUT, None, inputs={"image": {"url": f"{url}/a.jpg"}})
            await heard(away)
        async with succeeding():
            s3.start()
        job = await it.client.job(job_id)
        await pictures(it.client, job)
    assert asked_for == ["/a.jpg"]


async def test_jobs_of_a_time_without_the_bucket_outlive_a_restart_and_end_well(tmp_path: Path, s3: S3) -> None:
    async with picwish_alone() as picwish:
        async with stand(tmp_path, assets_url=s3.url, picwish=picwish) as it:
            asset = await upload(it, picture("JPEG", (96, 64)))
            s3.stop()
            with listening("worker.store_unavailable") as away:
                job_id = await begun(it.client, CUTOUT, None, inputs={"image": {"asset": asset["id"]}})
                await heard(away)
        async with stand(tmp_path, assets_url=s3.url, picwish=picwish) as it:
            assert (await it.client.job(job_id))["state"] == "queued"
            async with succeeding():
                s3.start()
            job = await it.client.job(job_id)
            await pictures(it.client, job)
            await only_end(it.client, job_id)
            assert len(asked(picwish, "create")) == 1


@asynccontextmanager
async def picwish_alone() -> AsyncIterator[PicWishSandbox]:
    async with PicWishSandbox(PicWishPlay(work_seconds=0, poll_seconds=0)) as picwish:
        yield picwish


async def test_while_the_bucket_is_away_uploads_and_downloads_are_told_to_come_again(tmp_path: Path, s3: S3) -> None:
    async with stand(tmp_path, assets_url=s3.url) as it:
        asset = await upload(it, picture())
        s3.stop()
        calls: list[tuple[str, str, Any]] = [
            ("POST", "/v1/assets", io.BytesIO(picture(size=(9, 9)))),
            ("GET", f"/v1/assets/{asset['id']}/content", None),
        ]
        for method, path, data in calls:
            status, problem, headers = await it.client.call_full(method, path, data=data)
            assert (status, problem["type"].rpartition(":")[2]) == (503, "unavailable")
            assert int(headers["retry-after"]) > 0
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_another_installations_pictures_are_never_swept(tmp_path: Path, s3: S3) -> None:
    with listening("assets.not_ours") as refused:
        async with stand(tmp_path / "one", assets_url=s3.url) as one:
            asset = await upload(one, picture())
            s3.age(f"{asset['sha256'][:2]}/{asset['sha256']}", 0)
            assert not refused.is_set()
            async with stand(tmp_path / "two", assets_url=s3.url):
                await heard(refused)
    assert held(s3) == {asset["sha256"]}


@ONE_DATABASE
async def test_a_backup_takes_the_pictures_from_the_bucket_and_a_restore_brings_them_where_they_belong(
    tmp_path: Path, s3: S3
) -> None:
    async with stand(tmp_path / "one", assets_url=s3.url) as it:
        asset = await upload(it, picture())
    place = f"{asset['sha256'][:2]}/{asset['sha256']}"

    async def run(*command: str, data: str, **settings: str) -> None:
        given = {"DATA_DIR": str(tmp_path / data), **settings}
        env = {f"WIREPHOTO_{name}": value for name, value in given.items()}
        ran = await asyncio.to_thread(within, *command, env=env)
        assert ran.exit_code == 0, ran.output

    archive = str(tmp_path / "monday.tar")
    await run("backup", archive, data="one", ASSETS_URL=s3.url)
    await run("restore", archive, data="two")
    assert (tmp_path / "two" / "assets" / place).read_bytes() == picture()
    s3.empty()
    await run("restore", archive, data="three", ASSETS_URL=s3.url)
    assert s3.keys() == {place}
