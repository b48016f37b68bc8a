"""Source URLs that are private, lie, hang or never end: the job fails, class `input`, and nothing is paid."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.acceptance.made import (
    ENLARGE,
    NOBODY_THERE,
    bomb,
    picture,
    traces,
)
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, server_of, stand, terminal_events

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
MEGAPIXELS_35 = (7000, 5000)


# --- source URLs -----------------------------------------------------------------------------------------------------


async def never(request: web.Request) -> web.StreamResponse:
    """A picture that begins and is never heard of again."""
    response = web.StreamResponse(headers={"Content-Type": "image/png", "Content-Length": "5000"})
    await response.prepare(request)
    await response.write(picture()[:20])
    await asyncio.Event().wait()
    return response


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/png"})
    await response.prepare(request)
    while True:
        await response.write(b"\x89PNG" * 16_384)


def serving(data: bytes, status: int = 200, content_type: str = "image/png", **headers: str) -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=data, headers=headers, content_type=content_type)

    return answer


async def ended(it: Stand, shop: Any, url: str, code: str, *words: str) -> None:
    """A job with this source fails as bad input, in these words, once; and no vendor hears of it."""
    status, job = await it.client.submit(ENLARGE, inputs={"image": {"url": url}})
    assert status == 202, job
    event = await shop.event_of(job["id"], "job.failed")
    failed = await it.client.job(job["id"])
    assert event["data"] == failed
    assert (failed["error"]["class"], failed["error"]["code"]) == ("input", code), failed["error"]
    for word in ("inputs.image.url", *words):
        assert word in failed["error"]["message"]
    assert failed["billing"]["charged"] == "no"
    assert len(terminal_events(await it.client.events(), job["id"])) == 1
    assert it.vanceai.requests == []
    assert (await traces(it))[3] == [], "no stray file"


async def test_a_source_url_that_is_private_or_leads_there_fails_the_job(tmp_path: Path) -> None:
    inner = web.Application()
    reached: list[str] = []

    async def secret(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(body=picture())

    inner.router.add_get("/{tail:.*}", secret)
    async with (
        stand(tmp_path, allow_source_networks=["127.0.0.1/32"]) as it,
        receiver() as shop,
        server_of(inner, "127.0.0.2") as private,
    ):
        await it.client.subscribe(shop.url, events=["job.failed"])
        outer = web.Application()
        outer.router.add_get("/moved", serving(b"", 302, Location=f"{private}/secret.png"))
        outer.router.add_get("/loop", serving(b"", 302, Location="/loop"))
        outer.router.add_get("/file", serving(b"", 302, Location="file:///etc/passwd"))
        async with server_of(outer) as public:
            await ended(it, shop, f"{private}/secret.png", "refused_address", "not public")
            await ended(it, shop, "http://169.254.169.254/latest/meta-data/iam", "refused_address")
            await ended(it, shop, "http://[::ffff:127.0.0.2]/x.png", "refused_address")
            await ended(it, shop, f"{public}/moved", "refused_address", "redirects")
            await ended(it, shop, f"{public}/loop", "too_many_redirects")
            await ended(it, shop, f"{public}/file", "bad_url", "redirects")
        assert reached == []


async def test_a_source_url_that_gives_no_fitting_picture_fails_the_job(tmp_path: Path, photos: Path) -> None:
    app = web.Application()
    cat = (photos / "cat.jpg").read_bytes()
    for path, answer in (
        ("/gone", serving(b"", 404)),
        ("/page", serving(b"<!doctype html><title>Sign in</title>", content_type="image/jpeg")),
        ("/half", serving(cat[:9000])),
        ("/bomb", serving(bomb())),
        ("/gif", serving(picture("GIF", mode="P"))),
        ("/large", serving(picture(size=MEGAPIXELS_35, mode="1"))),
        ("/endless", endless),
    ):
        app.router.add_get(path, answer)
    async with stand(tmp_path, max_upload_mb=1) as it, receiver() as shop, server_of(app) as url:
        await it.client.subscribe(shop.url, events=["job.failed"])
        await ended(it, shop, f"{url}/gone?sig=hidden", "http_404", "404")
        await ended(it, shop, f"{url}/page", "not_an_image", "HTML")
        await ended(it, shop, f"{url}/half", "truncated", "truncated")
        await ended(it, shop, f"{url}/bomb", "too_many_pixels", "megapixels")
        await ended(it, shop, f"{url}/gif", "unfit", "image/gif")
        await ended(it, shop, f"{url}/large", "unfit", "35000000 pixels")
        await ended(it, shop, f"{url}/endless", "too_large", "1000000 bytes")


async def test_a_source_url_that_hangs_or_stays_down_fails_the_job_after_some_tries(tmp_path: Path) -> None:
    app = web.Application()
    asked: list[str] = []

    def counted(answer: Any) -> Any:
        async def count(request: web.Request) -> web.StreamResponse:
            asked.append(request.path)
            response: web.StreamResponse = await answer(request)
            return response

        return count

    app.router.add_get("/silent", counted(silent))
    app.router.add_get("/never", counted(never))
    app.router.add_get("/down", counted(serving(b"", 503)))
    async with (
        stand(tmp_path, clock=FastClock(50.0), source_deadline_seconds=0.1) as it,
        receiver() as shop,
        server_of(app) as url,
    ):
        await it.client.subscribe(shop.url, events=["job.failed"])
        await ended(it, shop, f"{url}/silent", "timeout", "in time")
        await ended(it, shop, f"{url}/never", "timeout", "in time")
        await ended(it, shop, f"{url}/down", "http_503", "503")
        await ended(it, shop, NOBODY_THERE, "connect", "no connection")
        assert [asked.count(path) for path in ("/silent", "/never", "/down")] == [4, 4, 4]


async def test_a_source_that_hiccups_is_asked_again(tmp_path: Path) -> None:
    app = web.Application()
    answers = [serving(b"", 503), serving(b"", 429), serving(picture())]

    async def answer(request: web.Request) -> web.Response:
        response: web.Response = await answers.pop(0)(request)
        return response

    app.router.add_get("/cat.png", answer)
    async with stand(tmp_path, clock=FastClock(50.0)) as it, receiver() as shop, server_of(app) as url:
        await it.client.subscribe(shop.url)
        _, job = await it.client.submit(ENLARGE, inputs={"image": {"url": f"{url}/cat.png"}})
        assert (await shop.event_of(job["id"], "job.succeeded"))["data"]["inputs"] == job["inputs"]
        assert answers == []
