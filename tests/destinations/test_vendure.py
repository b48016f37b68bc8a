"""What Vendure's answers mean, row by row. That pictures arrive is shown with a real server: `make integrations`."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from handlers.destinations.vendure import Vendure
from schemas.delivery import Attempt, Outcome
from schemas.shop import VendureConfig
from tests.destinations import shops_rig
from tests.destinations.faults import serving
from tests.destinations.shops_rig import Naps, Pictures, Steps, Turns, message, now

pytestmark = pytest.mark.anyio

KEY = "2ea7e48dacdc579caeadf431:cd9c9260f258e209"
PRODUCT = {"product_id": "8411"}

Answers = Callable[[str], web.Response | None]


def error(code: str | None, message: str = "no", status: int = 200) -> web.Response:
    extensions = {} if code is None else {"extensions": {"code": code}}
    return web.json_response({"errors": [{"message": message, **extensions}], "data": None}, status=status)


@dataclass
class Words:
    """A server that knows one product and says what it is told to, by the operation that is asked for."""

    says: dict[str, list[web.Response]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gallery: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.post() if request.content_type.startswith("multipart/") else await request.json()
        document = json.loads(str(body["operations"]))["query"] if "operations" in body else str(body["query"])
        names = (
            "createAssets",
            "updateProduct(",
            "updateProducts",
            "assets(",
            "products(",
            "product(",
            "activeChannel",
        )
        name = next(name for name in names if name in document)
        self.asked.append(name)
        self.headers.append({key.lower(): value for key, value in request.headers.items()})
        if self.says.get(name):
            return self.says[name].pop(0)
        if name == "updateProduct(":
            self.gallery = list(body["variables"]["assets"])  # type: ignore[index, call-overload]
        return web.json_response({"data": self._data()})

    def _data(self) -> dict[str, Any]:
        assets = [{"id": asset} for asset in self.gallery]
        return {
            "activeChannel": {"token": "default", "defaultLanguageCode": "en"},
            "product": {"id": "8411", "featuredAsset": assets[0] if assets else None, "assets": assets},
            "assets": {"items": []},
            "createAssets": [{"__typename": "Asset", "id": "7"}],
            "updateProduct": {"id": "8411"},
            "updateProducts": [],
            "products": {"totalItems": 1},
        }


@asynccontextmanager
async def shop() -> AsyncIterator[tuple[Words, Callable[..., Any]]]:
    words, app, http = Words(), web.Application(), shops_rig.http()
    app.router.add_post("/admin-api", words.handle)
    vendure = Vendure(http, now, Naps(), Pictures(), Turns())
    async with serving(app) as url:

        async def send(**config: Any) -> Attempt:
            own = VendureConfig(**{"shop": f"{url}/admin-api", "api_key": KEY, **config})
            return await vendure.send(message(PRODUCT), shops_rig.target("vendure", own), Steps())

        try:
            yield words, send
        finally:
            await http.close()


ROWS: list[tuple[str, web.Response, Outcome, str]] = [
    ("product(", error("INTERNAL_SERVER_ERROR"), Outcome.RETRY, "INTERNAL_SERVER_ERROR"),
    ("product(", error("SOMETHING_NEW"), Outcome.RETRY, "SOMETHING_NEW"),
    ("product(", error(None, "SqliteError: database is locked"), Outcome.RETRY, "locked"),
    ("product(", error("CHANNEL_NOT_FOUND"), Outcome.REFUSED, "CHANNEL_NOT_FOUND"),
    ("product(", error("GRAPHQL_VALIDATION_FAILED", status=400), Outcome.ABORT, "VALIDATION"),
    ("updateProduct(", error("ENTITY_NOT_FOUND"), Outcome.ABORT, "attach: no"),
    ("createAssets", error(None, "File truncated as it exceeds the 9 byte size limit."), Outcome.ABORT, "uploadMax"),
    (
        "createAssets",
        web.json_response({"data": {"createAssets": [{"errorCode": "MIME_TYPE_ERROR", "message": "no JPEG"}]}}),
        Outcome.ABORT,
        "no JPEG",
    ),
    ("createAssets", web.json_response({"data": {"createAssets": []}}), Outcome.RETRY, "nothing of the asset"),
    ("createAssets", web.Response(status=413), Outcome.ABORT, "larger"),
    ("product(", web.Response(status=502, text="<html>"), Outcome.RETRY, "502"),
    ("product(", web.Response(status=403, text="<html>blocked"), Outcome.RETRY, "403"),
    ("product(", web.Response(status=404, text="no such page"), Outcome.RETRY, "config.shop"),
    ("product(", web.Response(status=302, headers={"Location": "/login"}), Outcome.RETRY, "config.shop"),
    ("product(", web.Response(text="<html>a page</html>"), Outcome.RETRY, "config.shop"),
    ("product(", web.Response(status=429, headers={"Retry-After": "7"}), Outcome.SLOW_DOWN, "429"),
    ("product(", web.Response(status=503, headers={"Retry-After": "7"}), Outcome.SLOW_DOWN, "503"),
    ("product(", web.json_response({"data": {"product": None}}), Outcome.ABORT, "no product '8411'"),
]


@pytest.mark.parametrize(("asked", "answer", "outcome", "says"), ROWS, ids=[f"{row[0]}{row[3]}" for row in ROWS])
async def test_each_answer_means_what_the_table_says(
    asked: str, answer: web.Response, outcome: Outcome, says: str
) -> None:
    # A response is sent once.
    copy = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    async with shop() as (words, send):
        words.says[asked] = [copy]
        attempt = await send()
    assert (attempt.outcome, says in str(attempt.error)) == (outcome, True), attempt
    assert attempt.status == answer.status
    assert attempt.retry_after == (7 if outcome is Outcome.SLOW_DOWN else None)


async def test_a_firewall_disables_no_endpoint() -> None:
    """It answers so to everything for a while. Vendure itself says FORBIDDEN in GraphQL."""
    async with shop() as (words, send):
        blocked = [web.Response(status=403, text="<html>blocked") for _ in range(12)]
        words.says = {
            name: blocked[at::4] for at, name in enumerate(("product(", "activeChannel", "products(", "assets("))
        }
        attempt = await send()
    assert (attempt.outcome, attempt.status) == (Outcome.RETRY, 403)


async def test_a_key_is_refused_only_after_it_was_asked_for_once_more() -> None:
    async with shop() as (words, send):
        words.says = {"product(": [error("FORBIDDEN")]}
        hiccup = await send()
        assert (hiccup.outcome, words.asked[1]) == (Outcome.RETRY, "activeChannel")
        words.says = {"product(": [error("FORBIDDEN")], "activeChannel": [error("FORBIDDEN")]}
        refused = await send()
        assert (refused.outcome, "tokenMethod" in str(refused.error)) == (Outcome.REFUSED, True)
        words.says = {"createAssets": [error("FORBIDDEN"), error("FORBIDDEN")]}
        lacks = await send()
        assert (lacks.outcome, "CreateAsset" in str(lacks.error)) == (Outcome.REFUSED, True)
        words.says = {"product(": [web.Response(status=401)], "activeChannel": [web.Response(status=502)]}
        assert (await send()).outcome is Outcome.RETRY, "nobody knows"


async def test_no_attempt_tells_the_key() -> None:
    async with shop() as (words, send):
        for told in (error("INTERNAL_SERVER_ERROR", f"key {KEY}"), web.Response(status=500, text=f"you sent {KEY}")):
            words.says = {"product(": [told]}
            attempt = await send()
            assert KEY not in f"{attempt}"
        assert (await send()).outcome is Outcome.DELIVERED
        assert {headers["vendure-api-key"] for headers in words.headers} == {KEY}


async def test_a_key_is_sent_to_no_public_address_in_the_clear() -> None:
    async with shop() as (words, send):
        attempt = await send(shop="http://shop.example/admin-api")
        assert (attempt.outcome, "https" in str(attempt.error)) == (Outcome.REFUSED, True)
        assert words.asked == []
