"""PF-01: one access token for all who want one, renewed before its end, and anew when it is refused."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as elliptic
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from handlers.vendors import perfectcorp_auth as auth
from handlers.vendors.contract import Prepared, Task, VendorError
from handlers.vendors.perfectcorp import PerfectCorp
from schemas.job import ErrorClass
from service.clock import SystemClock
from service.vendor_memory import ShortMemory
from tests.vendors import clients
from tests.vendors.clients import Client, error_of

pytestmark = pytest.mark.anyio

PRIVATE = rsa.generate_private_key(65537, 1024)
DER = PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
BARE = base64.b64encode(DER).decode()
PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CLIENT = "BMIL1PIJjCV96JlSl64RlVksHK1cD0PQ"
TASK = Task("t+/=", Prepared({"slug": "sod"}))
HOUR = 3_600_000


@dataclass
class Doorkeeper:
    """A vendor that does nothing but open, or not. Its clock is the client's."""

    now: int = 1_800_000_000_000
    given: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    asked_with: list[str] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)  # to authentications, before it does what it should
    hold: asyncio.Event = field(default_factory=asyncio.Event)  # set: it answers authentications
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/client/auth":
            token = request.headers["Authorization"].removeprefix("Bearer ")
            self.asked_with.append(token)
            if token in self.refused:
                return web.json_response({"status": 401, "error_code": "InvalidAccessToken"}, status=401)
            return web.json_response({"status": 200, "result": {"status": "running"}})
        body = await request.json()
        self.came.set()
        await self.hold.wait()
        if self.answers:
            return self.answers.pop(0)
        words = PRIVATE.decrypt(base64.b64decode(body["id_token"], validate=True), PKCS1v15()).decode()
        assert words == f"client_id={CLIENT}&timestamp={self.now}"
        assert body == {"client_id": CLIENT, "id_token": body["id_token"]}
        self.given.append(f"token-{len(self.given)}")
        return web.json_response({"status": 200, "result": {"access_token": self.given[-1]}})

    def clock(self) -> int:
        return self.now


Door = tuple[Client, Doorkeeper]


@asynccontextmanager
async def _door(secret: str = BARE, memory: ShortMemory | None = None) -> AsyncIterator[Door]:
    keeper = Doorkeeper()
    secrets = {"client_id": CLIENT, "client_secret": secret}
    async with (
        clients.serving(keeper.handle) as url,
        clients.client(PerfectCorp(), url, secrets, memory, keeper.clock) as client,
    ):
        yield client, keeper


async def _ask(client: Client) -> None:
    await client.vendor.ask(client.account, TASK)


# -- the secret --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda bare, _: bare,
        lambda _, pem: pem,
        lambda _, pem: pem.replace("\n", "\\n"),
        lambda _, pem: pem.replace("\n", "\r\n"),
        lambda bare, _: f"  {bare[:64]}\n {bare[64:]}\n",
    ],
    ids=["bare", "pem", "pem in one line", "pem from windows", "wrapped"],
)
async def test_a_secret_opens_with_and_without_its_armour(form: Callable[[str, str], str]) -> None:
    async with _door(form(BARE, PEM)) as (client, keeper):
        await _ask(client)
        assert keeper.asked_with == ["token-0"]


_ELLIPTIC = base64.b64encode(
    elliptic(SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


@pytest.mark.parametrize("secret", ["hunter2-no-key", "", "AAAA", BARE[:-8], PEM[40:], _ELLIPTIC, "é" * 40])
async def test_a_malformed_secret_is_told_in_clear_words_and_not_shown(secret: str) -> None:
    async with _door(secret) as (client, keeper):
        error = await error_of(_ask(client))
        assert (error.error_class, error.permanent) == (ErrorClass.AUTH, True)
        assert "client_secret" in error.message
        assert not secret or secret not in f"{error} {error!r} {error.__cause__} {error.__context__}"
        assert client.turns.taken == [], "nothing is counted that is not sent"
        assert keeper.asked_with == []


async def test_a_client_id_that_the_key_cannot_hold_is_told() -> None:
    async with _door() as (client, _):
        secrets = {"client_id": "x" * 200, "client_secret": BARE}
        strange = replace(client, account=replace(client.account, secrets=secrets))
        assert (await error_of(_ask(strange))).code == "bad_client_id"


# -- the life of a token -----------------------------------------------------------------------------------------------


async def test_a_token_is_had_once_and_renewed_before_its_two_hours_are_over() -> None:
    async with _door() as (client, keeper):
        await _ask(client)
        keeper.now += 2 * HOUR - auth.MARGIN_MS - 1
        await _ask(client)
        assert keeper.asked_with == ["token-0"] * 2
        keeper.now += 1
        await _ask(client)
        assert keeper.asked_with[2:] == ["token-1"]
        assert client.turns.taken == ["auth", "poll", "poll", "auth", "poll"]


async def test_however_many_come_at_once_one_token_is_asked_for() -> None:
    async with _door() as (client, keeper):
        await asyncio.gather(*(_ask(client) for _ in range(12)))
        assert client.turns.taken.count("auth") == 1
        assert keeper.asked_with == ["token-0"] * 12


async def test_while_a_token_is_renewed_the_old_one_serves() -> None:
    async with _door() as (client, keeper):
        await _ask(client)
        keeper.now += 2 * HOUR - auth.MARGIN_MS
        keeper.hold.clear()
        keeper.came.clear()
        first = asyncio.create_task(_ask(client))
        await keeper.came.wait()
        # A poll that waited here could lose its task.
        await _ask(client)
        assert keeper.asked_with == ["token-0"] * 2
        keeper.hold.set()
        await first
        assert keeper.asked_with == ["token-0", "token-0", "token-1"]


async def test_a_renewal_that_fails_is_no_harm_while_the_old_one_opens() -> None:
    async with _door() as (client, keeper):
        await _ask(client)
        keeper.now += 2 * HOUR - auth.MARGIN_MS
        keeper.answers = [web.Response(status=500)]
        for _ in range(3):
            await _ask(client)
        assert keeper.asked_with == ["token-0"] * 4
        assert client.turns.taken.count("auth") == 2, "and it is not tried with every request"
        keeper.now += auth.PAUSE_MS
        await _ask(client)
        assert keeper.asked_with[-1] == "token-1"


async def test_after_its_end_a_token_is_not_sent_any_more() -> None:
    async with _door() as (client, keeper):
        await _ask(client)
        keeper.now += 2 * HOUR
        keeper.answers = [web.Response(status=500)]
        assert (await error_of(_ask(client))).error_class is ErrorClass.VENDOR
        assert keeper.asked_with == ["token-0"]


async def test_a_token_outlives_a_restart() -> None:
    memory = ShortMemory(SystemClock())
    async with _door(memory=memory) as (client, keeper):
        await _ask(client)
        kept = json.loads(await memory.recall(auth.MEMORY) or "")
        assert kept == {"token": "token-0", "until": keeper.now + 2 * HOUR}
    async with _door(memory=memory) as (client, keeper):
        await _ask(replace(client, vendor=PerfectCorp()))
        assert (keeper.asked_with, keeper.given) == (["token-0"], [])


@pytest.mark.parametrize("kept", ["", "null", "{}", "[1]", '{"token": 1}', '{"token": "old", "until": "x"}', "\0"])
async def test_what_was_kept_and_makes_no_sense_is_forgotten(kept: str) -> None:
    memory = ShortMemory(SystemClock())
    await memory.keep(auth.MEMORY, kept)
    async with _door(memory=memory) as (client, keeper):
        await _ask(client)
        assert keeper.asked_with == ["token-0"]


# -- refused -----------------------------------------------------------------------------------------------------------


async def test_a_refused_token_is_replaced_once_and_the_request_repeated() -> None:
    async with _door() as (client, keeper):
        await _ask(client)
        keeper.refused = {"token-0"}
        await _ask(client)
        assert keeper.asked_with == ["token-0", "token-0", "token-1"]
        assert client.turns.taken == ["auth", "poll", "poll", "auth", "poll"]


async def test_two_refusals_at_once_cause_one_renewal() -> None:
    async with _door() as (client, keeper):
        await _ask(client)
        keeper.refused = {"token-0"}
        await asyncio.gather(*(_ask(client) for _ in range(8)))
        assert keeper.given == ["token-0", "token-1"]
        assert sorted(keeper.asked_with[1:]) == ["token-0"] * 8 + ["token-1"] * 8


async def test_a_key_that_is_refused_even_with_a_new_token_is_the_operators_matter() -> None:
    async with _door() as (client, keeper):
        keeper.refused = {f"token-{number}" for number in range(9)}
        error = await error_of(_ask(client))
        assert (error.error_class, error.permanent) == (ErrorClass.AUTH, True)
        assert keeper.asked_with == ["token-0", "token-1"], "one more try, not one after the other"


@pytest.mark.parametrize("status", [400, 401, 403, 422])
async def test_refused_credentials_are_told_as_such_and_shown_nowhere(status: int) -> None:
    async with _door() as (client, keeper):
        told = {"status": status, "error": f"no {CLIENT} with {BARE}", "error_code": "InvalidParameters"}
        keeper.answers = [web.json_response(told, status=status)]
        error = await error_of(_ask(client))
        assert (error.error_class, error.code, error.permanent) == (ErrorClass.AUTH, "InvalidParameters", True)
        assert error.message == "no [redacted] with [redacted]"


@pytest.mark.parametrize(
    ("answer", "error_class", "code"),
    [
        (lambda: web.Response(status=502, text="<html>"), ErrorClass.VENDOR, "502"),
        (lambda: web.json_response({"status": 429}, status=429), ErrorClass.RATE_LIMIT, "429"),
        (lambda: web.Response(text="<html>captive</html>"), ErrorClass.VENDOR, "unreadable"),
        (lambda: web.json_response({"status": 200, "result": {}}), ErrorClass.VENDOR, "unreadable"),
        (
            lambda: web.json_response({"status": 200, "result": {"access_token": "a b\r\nX: y"}}),
            ErrorClass.VENDOR,
            "unreadable",
        ),
    ],
)
async def test_what_is_no_answer_to_an_authentication_says_nothing_of_the_key(
    answer: Callable[[], web.Response], error_class: ErrorClass, code: str
) -> None:
    async with _door() as (client, keeper):
        keeper.answers = [answer()]
        error = await error_of(_ask(client))
        assert (error.error_class, error.code, error.permanent) == (error_class, code, False)
        await _ask(client)


async def test_no_token_is_ever_shown() -> None:
    async with _door() as (client, _):
        await _ask(client)

        async def echo(_: web.Request) -> web.StreamResponse:
            body = {"status": 400, "error": f"what is token-0 of {CLIENT}?", "result": {"status": "token-0"}}
            return web.json_response(body, status=400)

        async with clients.serving(echo) as url:
            client = replace(client, account=replace(client.account, base_url=url))
            callback = await client.vendor.ask(client.account, TASK)
            assert not re.search(b"token-0|BMIL", callback.body)
            with pytest.raises(VendorError) as caught:
                await client.vendor.try_credentials(client.account)
            assert "token-0" not in f"{caught.value}"
            assert CLIENT not in f"{caught.value!r}"
    assert "token-0" not in repr(auth.Token("token-0", 1))
