"""What must never be said: keys, tokens, signing secrets and signatures stay out of logs, answers and events."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
from aiohttp import web

from handlers.sandbox import faults
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.vanceai import VanceAISandbox, error
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from service.store import signing_keys
from tests.acceptance.made import ENLARGE, NOBODY_THERE
from tests.fast_clock import FastClock
from tests.harness import Stand, receiver, stand
from tests.stores import stolen

pytestmark = pytest.mark.anyio

PICWISH_KEY, VANCEAI_TOKEN = "picwish-key-3f9c1d", "vanceai-token-7be20a"
HEADER_VALUE, URL_TOKEN = "header-value-81c2e7", "url-token-44d0bb"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, by us and by libraries, before anything is hidden in it."""
    held = io.StringIO()
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=repr)],
        logger_factory=structlog.PrintLoggerFactory(file=held),
        cache_logger_on_first_use=False,
    )
    root, handler = logging.getLogger(), logging.StreamHandler(held)
    # The tests' own receivers log what they are asked for.
    handler.addFilter(lambda record: record.name != "aiohttp.access")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield held
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.configure(**before)


async def private_keys(it: Stand) -> list[str]:
    """What the first project signs `v1a` with, while its key is rotated; they are told to nobody."""
    core = it.wirephoto.core
    old_and_new = await core.db.read(signing_keys.that_sign, 1, core.clock.now())
    assert len(old_and_new) == 2
    return [core.vault.open(key.id, key.sealed_private_key) for key in old_and_new]


async def refuse(_: web.Request) -> web.Response:
    return web.Response(status=500, text="no")


async def test_no_secret_is_ever_logged_answered_or_told_to_a_subscriber(
    tmp_path: Path, photos: Path, log: io.StringIO
) -> None:
    """A run in which nearly everything goes wrong once; errors speak most."""
    answers: list[str] = []
    clock = FastClock(50.0)
    now = clock.seconds
    async with (
        VanceAISandbox(
            VanceAIPlay(work_seconds=0, poll_seconds=0), key=VANCEAI_TOKEN, clock=now, monotonic=now
        ) as vance,
        PicWishSandbox(PicWishPlay(work_seconds=0, poll_seconds=0), key=PICWISH_KEY, clock=now, monotonic=now) as pic,
        stand(tmp_path, vanceai=vance, picwish=pic, retry_schedule=[0.01], clock=clock) as it,
        receiver() as shop,
        receiver() as broken,
        receiver() as own,
    ):
        client = it.client

        async def call(method: str, path: str, **how: Any) -> Any:
            _, body = await client.call(method, path, **how)
            answers.append(json.dumps(body) if not isinstance(body, bytes) else body.decode("latin-1"))
            return body

        endpoint = await client.subscribe(shop.url, headers={"X-Secret": HEADER_VALUE}, signatures=["v1", "v1a"])
        _, rotated = await client.call("POST", f"/v1/endpoints/{endpoint['id']}/rotate-secret")
        await call("POST", "/v1/signing-key/rotate")
        await call("POST", "/v1/signing-key/rotate", json={"overlap_seconds": endpoint["secret"]})
        failing = await client.subscribe(f"{broken.url}?token={URL_TOKEN}", events=["job.*"])
        broken.answers += [refuse] * 50
        _, project = await client.call("POST", "/v1/projects", json={"name": "another"})
        _, key = await client.call("POST", "/v1/keys", json={"role": "read"})
        _, told = await client.call("GET", "/v1/webhook-secret")

        async def run(operation: str, **more: Any) -> dict[str, Any]:
            _, job = await client.submit(operation, photos / "cat.jpg", **more)
            event = await shop.event_of(job["id"], "job.succeeded", "job.failed")
            data: dict[str, Any] = event["data"]
            return data

        # What a vendor says in anger may repeat what it was sent.
        vance.faults.next("upload", error(10001, f"bad api_token {VANCEAI_TOKEN}"))
        jobs = [await run(ENLARGE, webhook=own.url)]
        vance.faults.next("transform", error(10001, {"api_token": [f"{VANCEAI_TOKEN} is wrong"]}))
        jobs.append(await run(ENLARGE))
        vance.faults.next("progress", error(30001, VANCEAI_TOKEN))
        vance.faults.next("download", error(10010, VANCEAI_TOKEN))
        jobs.append(await run(ENLARGE))
        jobs.append(await run("picwish/self-face-cutout"))
        assert [job["state"] for job in jobs] == ["failed", "failed", "succeeded", "succeeded"]
        pic.faults.next("create", faults.answering({"status": 401, "message": f"no such key {PICWISH_KEY}"}, 401))
        await client.submit("picwish/self-face-cutout", photos / "cat.jpg")
        await shop.wait_for(2, "vendor.unavailable")
        await client.submit(ENLARGE, inputs={"image": {"url": f"{NOBODY_THERE}?X-Amz-Signature={URL_TOKEN}"}})
        await own.wait_for(1)

        sent = [seen.fields["webhook"] for seen in vance.requests if "webhook" in seen.fields]
        tokens = [url.rsplit("/", 1)[-1] for url in sent]
        assert tokens
        links = [output["url"] for job in jobs for output in job["outputs"]]
        signatures = [parse_qs(urlsplit(link).query)["sig"][0] for link in links]
        assert signatures

        # Errors of all kinds, most of them with a secret in what was sent.
        await call("POST", f"/callbacks/vanceai/{tokens[0][:-1]}x", data=b"forged", key="")
        await call("POST", f"/callbacks/vanceai/{tokens[0]}", data=b"x" * 300_000, key="")
        await call("POST", f"/callbacks/picwish/{tokens[0]}", key="")
        await call("GET", f"{links[0]}x", key="")
        await call("GET", "/v1/jobs", key=project["api_key"][:-1])
        await call("GET", f"/v1/jobs/{project['api_key']}")
        await call("GET", f"/v1/jobs?after={key['api_key']}&state={key['api_key']}")
        await call("POST", "/v1/jobs", json={"operation": ENLARGE, "webhook": endpoint["secret"], "api_token": 1})
        await call("POST", "/v1/endpoints", json={"url": endpoint["secret"], "headers": {"Host": HEADER_VALUE}})
        await call("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"headers": {"X": f"{HEADER_VALUE}\n"}})
        await call("POST", f"/v1/endpoints/{failing['id']}/test")
        for path in ("/v1/jobs", "/v1/events", "/v1/deliveries", "/v1/keys", "/v1/projects", "/openapi.json", "/docs"):
            await call("GET", f"{path}?limit=200" if path.startswith("/v1") else path)
        await call("GET", "/readyz", key="")

        told_to_subscribers = "".join(entry.body.decode() for entry in (*shop.got, *broken.got, *own.got))
        secrets = [
            VANCEAI_TOKEN,
            PICWISH_KEY,
            HEADER_VALUE,
            client.key,
            project["api_key"],
            key["api_key"],
            endpoint["secret"],
            failing["secret"],
            rotated["secret"],
            *await private_keys(it),
            told["secret"],
            *tokens,
        ]
        for name, said in (("answers", "".join(answers)), ("events", told_to_subscribers), ("log", log.getvalue())):
            assert len(said) > 1000, name
            for secret in secrets:
                assert secret not in said, (name, said[max(0, said.find(secret) - 200) : said.find(secret) + 20])
                assert re.sub("^(wp|whsec|whsk)_", "", secret) not in said, name
        for signature in signatures:
            assert signature not in log.getvalue()
        assert URL_TOKEN not in log.getvalue()
        assert "sig=" not in log.getvalue()


async def test_what_is_stored_of_a_key_or_a_token_can_not_be_used(tmp_path: Path, photos: Path) -> None:
    """Whoever steals the database alone holds no key, no signing secret and no callback URL."""
    async with stand(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, headers={"X-Secret": HEADER_VALUE}, signatures=["v1", "v1a"])
        _, rotated = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/rotate-secret")
        assert (await it.client.call("POST", "/v1/signing-key/rotate"))[0] == 200
        _, told = await it.client.call("GET", "/v1/webhook-secret")
        _, job = await it.client.submit(ENLARGE, photos / "cat.jpg", headers={"Prefer": "wait=20"})
        assert job["state"] == "succeeded"
        (webhook,) = [seen.fields["webhook"] for seen in it.vanceai.requests if "webhook" in seen.fields]
        secrets = [it.client.key, endpoint["secret"], told["secret"], HEADER_VALUE, webhook.rsplit("/", 1)[-1]]
        secrets += [it.vanceai.key, rotated["secret"], *await private_keys(it)]
        stored = stolen(tmp_path)
        assert job["id"].encode() in stored
        for secret in secrets:
            assert secret.encode() not in stored
            assert re.sub("^(whsec|whsk)_", "", secret).encode() not in stored
    for path in tmp_path.rglob("*"):
        mode = path.stat().st_mode & 0o077
        assert mode == 0 or path.name.startswith("wirephoto.sqlite3-"), f"{path.name} is open to others"
