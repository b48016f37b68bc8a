"""A plain client for Perfect Corp's stand-in: what the document says to send, and nothing of our own client."""

import asyncio
import base64
import io
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from PIL import Image
from yarl import URL

from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import PerfectCorpSettings

# Only the tests about limits and tokens keep them; the others would have to wait, or to sign in again and again.
AT_ONCE = PerfectCorpSettings(work_seconds=0, poll_seconds=0, limits=(), token_seconds=math.inf)
STYLED = ("hair-style", "wig", "hair-ext", "hair-bang", "hair-vol", "text-to-image")
ALL = (*STYLED[:5], "aging", "mu-trans-rec", "obj-removal", "colorize", "sod", "enhance", "text-to-image")
SETS: Mapping[str, tuple[str, ...]] = {
    "mu-trans-rec": ("src_ids", "ref_ids"),
    "obj-removal": ("src_ids", "mask_ids"),
    "text-to-image": (),
}

Answer = tuple[int, Any]


class Hands:
    """Time that stands still until it is told to go on; both of the sandbox's clocks."""

    def __init__(self) -> None:
        self.now = 1_736_500_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """One client of one sandbox, with one access token."""

    def __init__(self, sandbox: PerfectCorpSandbox, session: aiohttp.ClientSession, photo: bytes) -> None:
        self.sandbox, self.session, self.photo = sandbox, session, photo
        self.token = ""
        self.request_id = 0

    def id_token(self, said: str | None = None) -> str:
        key = load_der_public_key(base64.b64decode(self.sandbox.credentials["client_secret"]))
        assert isinstance(key, rsa.RSAPublicKey)
        now = int(self.sandbox.clock() * 1000)
        text = f"client_id={self.sandbox.credentials['client_id']}&timestamp={now}" if said is None else said
        return base64.b64encode(key.encrypt(text.encode(), padding.PKCS1v15())).decode()

    async def call(self, method: str, path: str, *, token: str | None = None, **options: Any) -> Answer:
        """`path` goes out as it is given: whoever forgets to encode something has not encoded it."""
        headers = {"Authorization": f"Bearer {self.token}"} if token is None else {"Authorization": token}
        url = URL(self.sandbox.base_url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, **options) as reply:
            return reply.status, json.loads(await reply.read())

    async def auth(self, **changes: Any) -> Answer:
        body = {"client_id": self.sandbox.credentials["client_id"], "id_token": self.id_token(), **changes}
        async with self.session.post(f"{self.sandbox.base_url}/client/auth", json=body) as reply:
            return reply.status, json.loads(await reply.read())

    async def sign_in(self) -> None:
        status, answer = await self.auth()
        assert status == answer["status"] == 200, answer
        self.token = answer["result"]["access_token"]

    async def slots(self, slug: str, *content_types: str, **more: Any) -> list[dict[str, Any]]:
        files = [
            {"content_type": kind, "file_name": f"{place}.jpg", **more} for place, kind in enumerate(content_types)
        ]
        status, answer = await self.call("POST", f"/file/{slug}", json={"files": files})
        assert status == 200, answer
        return list(answer["result"]["files"])

    async def put(self, slot: Mapping[str, Any], data: Any, **changes: str | None) -> int:
        """`changes` replaces headers of the slot (`content_type=`), or takes them away (None)."""
        (request,) = slot["requests"]
        given = request["headers"]
        told = given if isinstance(given, dict) else {next(iter(entry.values())): entry["value"] for entry in given}
        headers = {name.lower(): str(value) for name, value in told.items()}
        headers |= {name.replace("_", "-"): value for name, value in changes.items() if value is not None}
        for name in (name.replace("_", "-") for name, value in changes.items() if value is None):
            del headers[name]
        url = URL(request["url"], encoded=True)
        async with self.session.request(
            request["method"],
            url,
            data=io.BytesIO(data) if isinstance(data, bytes) else data,
            headers=headers,
            skip_auto_headers=["Content-Type"],
        ) as reply:
            await reply.read()
            return reply.status

    async def upload(self, slug: str, data: bytes | None = None, content_type: str = "image/jpeg") -> str:
        (slot,) = await self.slots(slug, content_type)
        assert await self.put(slot, self.photo if data is None else data) == 200
        return str(slot["file_id"])

    async def style(self, slug: str) -> dict[str, Any]:
        _, groups = await self.call("GET", f"/task/style-group/{slug}")
        group = groups["result"]["groups"][0]["id"]
        _, styles = await self.call("GET", f"/task/style/{slug}?style_group_id={group}")
        return {"style_group_id": group, "style_ids": [styles["result"]["styles"][0]["id"]]}

    async def params(self, slug: str) -> dict[str, Any]:
        style = await self.style(slug) if slug in STYLED else {}
        own: dict[str, dict[str, Any]] = {
            "enhance": {"scale": 2},
            "text-to-image": {"prompt": "A lighthouse in the fog"},
        }
        return {**own.get(slug, {}), **style}

    async def body(self, slug: str, *file_ids: str, output_ext: str | None = None, **params: Any) -> dict[str, Any]:
        """A whole run of this operation, with an upload for each file_set that is not given."""
        sets = SETS.get(slug, ("src_ids",))
        ids = list(file_ids) or [await self.upload(slug, *(self.mask() if name == "mask_ids" else ())) for name in sets]
        action = {"id": 0, "params": {**await self.params(slug), **params}}
        if not action["params"]:
            del action["params"]
        payload: dict[str, Any] = {"actions": [action]}
        if sets:
            payload["file_sets"] = {name: [file_id] for name, file_id in zip(sets, ids, strict=True)}
        if output_ext is not None:
            payload["output_ext"] = output_ext
        self.request_id += 1
        return {"request_id": self.request_id, "payload": payload}

    def mask(self) -> tuple[bytes, str]:
        with Image.open(io.BytesIO(self.photo)) as image:
            mask = Image.new("L", image.size, 0)
        mask.paste(255, (8, 8, 40, 40))
        return encoded(mask, "PNG"), "image/png"

    async def run(self, slug: str, body: Mapping[str, Any]) -> Answer:
        return await self.call("POST", f"/task/{slug}", json=body)

    async def started(self, slug: str, *file_ids: str, **params: Any) -> str:
        status, answer = await self.run(slug, await self.body(slug, *file_ids, **params))
        assert status == 200, answer
        return str(answer["result"]["task_id"])

    async def ask(self, slug: str, task_id: str) -> Answer:
        return await self.call("GET", f"/task/{slug}?task_id={quote(task_id, safe='')}")

    async def said(self, slug: str, task_id: str) -> Any:
        status, answer = await self.ask(slug, task_id)
        assert status == 200, answer
        return answer["result"]

    async def ended(self, task_id: str) -> None:
        await self.sandbox.tasks[task_id].ended.wait()

    async def finished(self, slug: str, *file_ids: str, **params: Any) -> Any:
        """The result of a task, from its files to its end."""
        task_id = await self.started(slug, *file_ids, **params)
        await self.ended(task_id)
        return await self.said(slug, task_id)

    async def link(self, url: str) -> tuple[int, bytes]:
        async with self.session.get(URL(url, encoded=True)) as reply:
            return reply.status, await reply.read()

    async def image(self, url: str) -> Image.Image:
        status, data = await self.link(url)
        assert status == 200
        image = Image.open(io.BytesIO(data))
        image.load()
        return image


def encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def small_photo(photos: Path) -> bytes:
    """A portrait small enough for quick filters: 128 × 128."""
    with Image.open(photos / "astronaut.jpg") as image:
        image.thumbnail((128, 128))
        return encoded(image, "JPEG")


@asynccontextmanager
async def running(photo: bytes, settings: PerfectCorpSettings = AT_ONCE, **options: Any) -> AsyncIterator[Client]:
    """A client that has signed in; `options` are the sandbox's. What never comes fails the test and doesn't hang it."""
    async with PerfectCorpSandbox(settings, **options) as sandbox, aiohttp.ClientSession() as session:
        # aiohttp sends a GET again by itself when no answer comes, and has no public switch for that.
        session._retry_connection = False
        async with asyncio.timeout(20):
            client = Client(sandbox, session, photo)
            await client.sign_in()
            yield client


def code(answer: Answer) -> tuple[int, str]:
    status, body = answer
    assert body["status"] == status
    assert body["error"]
    return status, body["error_code"]
