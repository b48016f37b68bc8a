"""What the tests of the vendor clients share: an account without limits, pictures, and a vendor gone mad."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import strategies as st
from PIL import Image

from handlers.http import Answer, Http, Stream
from handlers.vendors.contract import Account, InputFile, InputLink, Memory, Purpose, Vendor, VendorError, Work
from service.clock import SystemClock
from service.vendor_memory import ShortMemory

KEY = "sandbox-key"
SECRETS = {"api_token": KEY, "api_key": KEY}


@dataclass
class Turns:
    """Never makes anybody wait; remembers what for, and that the request was sent inside."""

    taken: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, purpose: Purpose, *, blocks: bool = False) -> AsyncIterator[None]:  # noqa: ARG002 - the protocol's
        self.taken.append(purpose)
        yield


@dataclass
class Client:
    """One vendor's client with its account."""

    vendor: Vendor
    account: Account
    turns: Turns

    async def fetched(self, source: Mapping[str, Any]) -> Image.Image:
        async with self.vendor.fetch(self.account, source) as stream:
            body = b"".join([chunk async for chunk in stream.chunks()])
        image = Image.open(io.BytesIO(body))
        image.load()
        return image


@asynccontextmanager
async def client(
    vendor: Vendor,
    base_url: str,
    secrets: Mapping[str, str] = SECRETS,
    memory: Memory | None = None,
    now: Callable[[], int] | None = None,
) -> AsyncIterator[Client]:
    """`now` in milliseconds since 1970; by default the real time."""
    http, public, turns, clock = Http(), Http(), Turns(), SystemClock()
    memory, now = memory or ShortMemory(clock), now or clock.now
    try:
        yield Client(vendor, Account(vendor.name, base_url, http, public, turns, memory, now, secrets), turns)
    finally:
        await http.close()
        await public.close()


def picture(photos: Path, name: str, folder: Path) -> InputFile:
    """A photograph small enough for quick filters."""
    path = folder / "small.jpg"
    with Image.open(photos / name) as image:
        image.thumbnail((120, 120))
        image.save(path)
        width, height = image.size
    return InputFile(path, "image/jpeg", "small.jpg", path.stat().st_size, width, height)


def work(
    vendor: Vendor,
    operation: str,
    image: InputFile | InputLink | None,
    extra: Mapping[str, Any] | None = None,
    **params: Any,
) -> Work:
    inputs = {} if image is None else {"image": image}
    return Work("job_1", vendor.operations[operation], params, extra or {}, inputs)


def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AbstractAsyncContextManager[str]:
    """A server that gives the same answer to everything; its URL."""

    @asynccontextmanager
    async def running() -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{anything:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    return running()


class Saying(Http):
    """Gives the same answer to everything, without a network: for answers by the hundred."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    async def request(self, method: str, url: str, **_: Any) -> Answer:
        del method, url
        return self._answer

    def stream(self, method: str, url: str, **_: Any) -> AbstractAsyncContextManager[Stream]:
        del method, url
        return nullcontext(_Said(self._answer))


class _Said(Stream):
    def __init__(self, answer: Answer) -> None:
        self.status, self.headers, self._body = answer.status, answer.headers, answer.body

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), 7):
            yield self._body[start : start + 7]


def told(vendor: Vendor, answer: Answer, doing: Callable[[Account], Awaitable[Any]]) -> Any:
    """What a call comes to when the vendor answers so: its result, or the VendorError. All else fails the test."""

    async def call() -> Any:
        http, clock = Saying(answer), SystemClock()
        account = Account(vendor.name, "http://v", http, http, Turns(), ShortMemory(clock), clock.now, SECRETS)
        try:
            return await doing(account)
        except VendorError as error:
            return error
        finally:
            await http.close()

    return asyncio.run(call())


async def error_of(doing: Awaitable[object]) -> VendorError:
    with pytest.raises(VendorError) as caught:
        await doing
    # Neither the text nor what a traceback would show holds the key.
    assert KEY not in f"{caught.value} {caught.value.__cause__} {caught.value!r}"
    return caught.value


def stringly(value: Any) -> Any:
    """Every number as a string, as these vendors do now and then."""
    if isinstance(value, dict):
        return {name: stringly(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, int) else value


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, "9" * 5000, "1e999", "nan", "\ud800", "\0", "finish", "fatal", "1", "-7", "1.0"])
)


def _objects(names: tuple[str, ...]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(names) | st.text(max_size=4)
    return st.recursive(
        _SCALARS | st.sampled_from([200, 1, -1, 10010, 10014, 404, 500]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=12,
    )


def any_bodies(*names: str) -> st.SearchStrategy[bytes]:
    """Random JSON with the vendor's names in it, in several encodings; and plain random bytes."""
    texts = _objects(names).map(json.dumps)
    encoded = st.tuples(texts, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gbk"])).map(
        lambda pair: pair[0].encode(pair[1])
    )
    deep = st.sampled_from([b"[" * 100_000, b'{"data":' * 50_000, b"1" * 5000, b"<html>", b"", b"a=b&trans_id=%00"])
    return encoded | st.binary(max_size=64) | deep


CONTENT_TYPES = st.sampled_from(
    ["", "application/json", "text/html; charset=gbk", "application/json; charset=idna", "x; charset=unicode_escape"]
) | st.text(max_size=20)
