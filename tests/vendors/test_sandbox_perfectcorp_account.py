"""Perfect Corp's stand-in lets in who the console knows, as often as the document says, while there are credits."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.perfectcorp_accounts import NEWER_LIMITS, SEED_LIMITS, Limit
from handlers.sandbox.perfectcorp_words import ERRORS, PerfectCorpSettings, error
from service.config import SECTIONS
from service.sandboxes import MAKE
from tests.vendors.perfectcorp_by_hand import AT_ONCE, Hands, code, running, small_photo

pytestmark = pytest.mark.anyio

LIMITED = replace(AT_ONCE, limits=SEED_LIMITS)


@pytest.fixture
def photo(photos: Path) -> bytes:
    return small_photo(photos)


# -- auth --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1024, 2048])
async def test_an_id_token_under_the_client_secret_opens_the_api_for_two_hours(photo: bytes, bits: int) -> None:
    clock = Hands()
    settings = PerfectCorpSettings(limits=(), key_bits=bits)
    async with running(photo, settings, clock=clock) as client:
        assert (await client.call("GET", "/client/credit"))[0] == 200
        clock.now += 7200
        assert (await client.call("GET", "/client/credit"))[0] == 200
        clock.now += 1
        assert code(await client.call("GET", "/client/credit")) == (401, "InvalidAccessToken")
        await client.sign_in()
        assert (await client.call("GET", "/client/credit"))[0] == 200
        # An end that comes by itself is nobody's fault.
        assert client.sandbox.violations == []


@pytest.mark.parametrize(
    "said",
    [
        "client_id={id}&timestamp={now} ",
        "client_id={id}&timestamp={seconds}",
        "client_id={id}",
        "timestamp={now}&client_id={id}",
        "client_id={id}&timestamp={now}&more=1",
        "client_id=somebody&timestamp={now}",
        "client_id={id}&timestamp={old}",
        "client_id={id}&timestamp={early}",
        '{{"client_id":"{id}","timestamp":{now}}}',
    ],
)
async def test_an_id_token_that_says_anything_else_is_refused(photo: bytes, said: str) -> None:
    clock = Hands()
    async with running(photo, clock=clock) as client:
        now = int(clock.now * 1000)
        times = {"now": now, "seconds": now // 1000, "old": now - 301_000, "early": now + 301_000}
        id_token = client.id_token(said.format(id="sandbox-client", **times))
        assert code(await client.auth(id_token=id_token)) == (401, "InvalidIdToken")
        assert len(client.sandbox.violations) == 1


async def test_an_id_token_that_is_not_from_the_secret_is_refused_and_a_little_late_is_not(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, clock=clock) as client, running(photo, clock=clock) as other:
        for id_token in ("", "no base64", "AAAA", other.id_token(), client.id_token() + "\n"):
            assert code(await client.auth(id_token=id_token)) == (401, "InvalidIdToken")
        late = client.id_token()
        clock.now += 299
        assert (await client.auth(id_token=late))[0] == 200


async def test_an_unknown_client_and_a_body_against_the_document_are_refused(photo: bytes) -> None:
    async with running(photo) as client:
        assert code(await client.auth(client_id="somebody")) == (401, "InvalidClientId")
        for changes in ({"id_token": 7}, {"client_secret": client.sandbox.credentials["client_secret"]}):
            assert code(await client.auth(**changes)) == (400, "invalid_parameter")
        form = {"client_id": "sandbox-client", "id_token": client.id_token()}
        for body in ({"data": form}, {"data": b"{", "headers": {"Content-Type": "application/json"}}, {"json": [form]}):
            async with client.session.post(f"{client.sandbox.base_url}/client/auth", **body) as reply:
                assert reply.status == 400
        assert len(client.sandbox.violations) == 6


@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer guess", "Basic {token}", "{token}", "bearer {token}"])
async def test_every_call_needs_the_token_as_bearer(photo: bytes, given: str) -> None:
    async with running(photo) as client:
        for method, path in (
            ("POST", "/file/enhance"),
            ("GET", "/task/style-group/wig"),
            ("GET", "/task/style/wig"),
            ("POST", "/task/enhance"),
            ("GET", "/task/enhance?task_id=x"),
            ("GET", "/client/credit"),
            ("GET", "/client/credit/history"),
        ):
            answer = await client.call(method, path, token=given.format(token=client.token))
            assert code(answer) == (401, "InvalidAccessToken")
        assert len(client.sandbox.violations) == 7
        assert client.token not in repr(client.sandbox.requests) + repr(client.sandbox.violations)


async def test_tokens_live_side_by_side_or_the_newest_alone(photo: bytes) -> None:
    async with running(photo) as client:
        first = client.token
        await client.sign_in()
        assert (await client.call("GET", "/client/credit", token=f"Bearer {first}"))[0] == 200
        client.sandbox.settings = replace(AT_ONCE, one_token=True)
        second = client.token
        await client.sign_in()
        for old in (first, second):
            assert code(await client.call("GET", "/client/credit", token=f"Bearer {old}"))[0] == 401
        client.sandbox.tokens.revoke()
        assert code(await client.call("GET", "/client/credit"))[0] == 401
        assert client.sandbox.violations == []


async def test_every_sandbox_names_its_credentials_as_the_settings_do() -> None:
    for name, make in MAKE.items():
        assert make().credentials.keys() == set(SECTIONS[name].CREDENTIALS)


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_the_hundred_and_first_request_of_an_address_in_five_minutes_is_429_and_noted(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, LIMITED, clock=clock, monotonic=clock) as client:
        # Auth was the first. A minute apart, so that it is not the token's window that is full.
        for _ in range(99):
            clock.now += 1
            assert (await client.call("GET", "/client/credit"))[0] == 200
        for answer in (
            await client.call("GET", "/client/credit"),
            await client.auth(),
            await client.call("POST", "/file/enhance"),
            await client.call("GET", "/task/style-group/wig"),
            await client.call("GET", "/nothing"),
        ):
            assert code(answer) == (429, "TooManyRequests")
        assert len(client.sandbox.violations) == 5
        assert "request 101 of the 100 that one ip has in 300 s" in client.sandbox.violations[0]


async def test_the_windows_slide_and_a_refused_request_counts_or_not(photo: bytes) -> None:
    clock = Hands()
    limits = (Limit("ip", 3, 10.0),)
    async with running(photo, replace(AT_ONCE, limits=limits), clock=clock, monotonic=clock) as client:
        # Auth at 0, then at 4 and 8.
        for _ in range(2):
            clock.now += 4
            assert (await client.call("GET", "/client/credit"))[0] == 200
        clock.now += 1.999
        assert (await client.call("GET", "/client/credit"))[0] == 429
        # Auth leaves the window at 10, but the refused one is in it.
        clock.now += 0.001
        assert (await client.call("GET", "/client/credit"))[0] == 429
        clock.now += 10
        client.sandbox.settings = replace(AT_ONCE, limits=limits, refused_count=False)
        assert [(await client.call("GET", "/client/credit"))[0] for _ in range(5)] == [200, 200, 200, 429, 429]
        clock.now += 10
        assert (await client.call("GET", "/client/credit"))[0] == 200


async def test_each_token_has_its_own_window_of_a_minute(photo: bytes) -> None:
    clock = Hands()
    limits = (Limit("token", 100, 60.0),)
    async with running(photo, replace(AT_ONCE, limits=limits), clock=clock, monotonic=clock) as client:
        assert {(await client.call("GET", "/client/credit"))[0] for _ in range(100)} == {200}
        assert code(await client.call("GET", "/client/credit")) == (429, "TooManyRequests")
        assert "the 100 that one token has in 60 s" in client.sandbox.violations[0]
        assert client.token not in client.sandbox.violations[0]
        await client.sign_in()
        assert (await client.call("GET", "/client/credit"))[0] == 200


async def test_storage_is_not_counted(photo: bytes) -> None:
    async with running(photo, replace(AT_ONCE, limits=(Limit("ip", 4, 300.0),))) as client:
        # Auth, file, run and one poll are all that there may be.
        said = await client.finished("enhance", await client.upload("enhance"), scale=1)
        assert (await client.call("GET", "/client/credit"))[0] == 429
        for _ in range(7):
            assert (await client.link(said["results"][0]["data"][0]["url"]))[0] == 200


async def test_a_429_says_when_to_come_back_only_where_it_is_set_to(photo: bytes) -> None:
    clock = Hands()
    limits = (Limit("ip", 2, 300.0),)
    for told in (False, True):
        settings = replace(AT_ONCE, limits=limits, retry_after=told, refused_count=False)
        async with running(photo, settings, clock=clock, monotonic=clock) as client:
            clock.now += 9.5
            await client.call("GET", "/client/credit")
            clock.now += 90
            async with client.session.get(f"{client.sandbox.base_url}/client/credit") as reply:
                assert (reply.status, reply.headers.get("Retry-After")) == (429, "201" if told else None)


async def test_a_fault_does_not_hide_a_broken_limit(photo: bytes) -> None:
    async with running(photo, replace(AT_ONCE, limits=(Limit("ip", 1, 300.0),))) as client:
        client.sandbox.faults.next("credit", faults.HTML_500)
        async with client.session.get(f"{client.sandbox.base_url}/client/credit") as reply:
            assert reply.status == 500
        assert len(client.sandbox.violations) == 1


async def test_the_newer_documents_limits_are_five_a_second_and_250_in_five_minutes(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, replace(AT_ONCE, limits=NEWER_LIMITS), clock=clock, monotonic=clock) as client:
        assert [(await client.call("GET", "/client/credit"))[0] for _ in range(5)] == [200, 200, 200, 200, 429]
        assert "the 5 that one ip has in 1 s" in client.sandbox.violations[0]


# -- credits -----------------------------------------------------------------------------------------------------------


async def test_credits_lie_in_lots_and_the_one_that_ends_first_is_taken_from_first(photo: bytes) -> None:
    async with running(photo, replace(AT_ONCE, credits=Decimal(102))) as client:

        async def lots() -> list[dict[str, Any]]:
            status, answer = await client.call("GET", "/client/credit")
            assert status == answer["status"] == 200
            return sorted(answer["results"], key=lambda lot: int(lot["expiry"]))

        before = await lots()
        assert [lot["amount"] for lot in before] == [100, 2]
        assert all(lot.keys() == {"id", "type", "amount", "expiry"} for lot in before)
        await client.finished("colorize")
        assert [lot["amount"] for lot in await lots()] == [99, 2]
        client.sandbox.settings = replace(client.sandbox.settings, credit_shape="result.results")
        _, answer = await client.call("GET", "/client/credit")
        assert len(answer["result"]["results"]) == 2


async def test_the_history_comes_newest_first_in_pages(photo: bytes) -> None:
    clock = Hands()
    async with running(photo, clock=clock, monotonic=clock) as client:
        file_id, tasks = await client.upload("colorize"), []
        for _ in range(3):
            clock.now += 1
            tasks.append(await client.started("colorize", file_id))
            await client.ended(tasks[-1])
        rows: list[dict[str, Any]] = []
        token = ""
        for count in (2, 1):
            _, answer = await client.call("GET", f"/client/credit/history?page_size=2{token}")
            assert len(answer["result"]["history"]) == count
            rows += answer["result"]["history"]
            token = f"&starting_token={answer['result'].get('next_token')}"
        assert token.endswith("None")
        assert [row["target_id"] for row in rows] == tasks[::-1]
        assert rows[0]["timestamp"] == int(clock.now * 1000)
        assert rows[0]["info"]["credits"] == [{"amount": -1}]
        for query in ("page_size=0", "starting_token=x", "starting_token=9", "more=1"):
            assert code(await client.call("GET", f"/client/credit/history?{query}"))[0] == 400


async def test_without_credits_nothing_is_run_and_with_the_last_one_one_task_is(photo: bytes) -> None:
    async with running(photo, replace(AT_ONCE, credits=Decimal(1))) as client:
        client.sandbox.play("running")
        await client.started("colorize")
        # The first has not paid yet, but its credit is spoken for.
        assert code(await client.run("colorize", await client.body("colorize"))) == (400, "CreditInsufficiency")
        assert len(client.sandbox.tasks) == 1
        assert client.sandbox.violations == []


@pytest.mark.parametrize("name", ERRORS)
async def test_every_request_error_can_be_played_under_both_of_its_names(photo: bytes, name: str) -> None:
    async with running(photo) as client:
        client.sandbox.faults.next("task", error(name))
        assert code(await client.call("GET", "/task/enhance?task_id=x")) == (ERRORS[name][0], name)
        client.sandbox.faults.next("task", error(name, "errorCode"))
        _, body = await client.call("GET", "/task/enhance?task_id=x")
        assert (body["errorCode"], "error_code" in body) == (name, False)
        client.sandbox.settings = replace(AT_ONCE, code_field="errorCode")
        _, body = await client.call("GET", "/client/credit?more=1")
        assert body.keys() == {"status", "error", "errorCode"}
