"""Endpoints of kind stream: what is owed waits for its client, whose word is the attempt; without a client they go."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from handlers.destinations.stream import DEADLINE
from schemas.stream import StreamAnswer
from service.pipeline.presence import GRACE_MS, SEEN_SECONDS
from service.pipeline.retry import SCHEDULE
from service.web.sse import HEARTBEAT_MS
from tests.acceptance.delivery_rig import Rig, rig
from tests.acceptance.listening import Listener, listening, made
from tests.acceptance.made import fields, queue
from tests.acceptance.test_api_tenants import tenant
from tests.acceptance.test_event_stream import POSTGRES, happen_elsewhere
from tests.clock import ManualClock
from tests.harness import PATIENCE, stand

pytestmark = pytest.mark.anyio

LATE = round(DEADLINE * 1000) + 1


async def without_client(it: Rig, endpoint: dict[str, Any]) -> None:
    """Until the service has noticed that a connection is gone."""
    streams = it.stand.wirephoto.site.streams
    async with asyncio.timeout(PATIENCE):
        while any(found.id == endpoint["id"] and found.outlet for found in streams._streams.values()):
            await it.client.call("GET", "/healthz")


@pytest.fixture
async def it(tmp_path: Path, everywhere: str) -> AsyncIterator[Rig]:  # noqa: ARG001 - it says which database
    async with rig(tmp_path) as running:
        yield running


async def test_a_stream_has_no_url_and_a_webhook_needs_one(it: Rig) -> None:
    endpoint = await made(it.client, description="laptop")
    assert (endpoint["kind"], endpoint["url"], endpoint["state"]) == ("stream", None, "enabled")
    assert endpoint["secret"].startswith("whsec_")
    for body in (
        {"kind": "stream", "url": "https://shop.example/"},
        {"kind": "webhook"},
        {},
        {"url": None},
        {"kind": "webhook", "url": None},
    ):
        status, problem = await it.client.call("POST", "/v1/endpoints", json=body)
        assert (status, fields(problem)) == (422, {"url"}), body
    status, problem = await it.client.call("POST", "/v1/endpoints", json={"kind": "pigeon", "max_in_flight": 0})
    assert (status, fields(problem)) == (422, {"kind", "max_in_flight"})
    path = f"/v1/endpoints/{endpoint['id']}"
    status, problem = await it.client.call("PATCH", path, json={"url": "https://shop.example/"})
    assert (status, fields(problem)) == (422, {"url"})
    assert (await it.client.call("PATCH", path, json={"max_in_flight": 2}))[0] == 200


async def test_what_is_owed_waits_for_the_client_whose_word_is_the_attempt(it: Rig) -> None:
    endpoint = await made(it.client, headers={"X-Shop": "7"})
    event = await it.event()
    waiting = await it.delivery(event, endpoint)
    assert (waiting["state"], waiting["attempts"]) == ("pending", [])
    async with listening(it.client, endpoint) as listener:
        handed = await listener.take()
        assert (handed["delivery"], handed["attempt"]) == (waiting["id"], 1)
        assert handed["headers"]["x-shop"] == "7"
        assert handed["headers"]["content-type"] == "application/json"
        status, answer = await listener.answer(handed, 200, ms=12, body_head="thanks\0" + "x" * 2000)
        assert (status, answer) == (200, {"outcome": "delivered", "next_attempt_at": None})
        (attempt,) = (await it.tried(event, endpoint, 1))["attempts"]
        assert (attempt["outcome"], attempt["status"], attempt["ms"]) == ("delivered", 200, 12)
        assert len(attempt["response_head"]) == 1024
        # And what comes while it is connected.
        later = await it.event()
        handed = await listener.take()
        assert (handed["headers"]["webhook-id"], handed["attempt"]) == (later, 1)


async def test_the_signature_is_the_services_over_the_very_bytes(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        endpoint = await made(it.client)
        job = await queue(it, metadata={"name": "Bäckerei № 7\n"})
        async with listening(it.client, endpoint) as listener:
            handed = await listener.take()
            event = Webhook(endpoint["secret"]).verify(handed["body"].encode(), handed["headers"])
            assert event["data"]["id"] == job["id"]
            assert await listener.answer(handed) == (200, {"outcome": "delivered", "next_attempt_at": None})


@pytest.mark.parametrize(
    ("said", "outcome", "state", "wait"),
    [
        ({"status": 302}, "retry", "pending", SCHEDULE[0] * 0.9),
        ({"status": 404}, "retry", "pending", SCHEDULE[0] * 0.9),
        ({"status": 500}, "retry", "pending", SCHEDULE[0] * 0.9),
        ({"status": None, "error": "connect: refused"}, "retry", "pending", SCHEDULE[0] * 0.9),
        ({"status": 429, "headers": {"retry-after": "90"}}, "slow_down", "pending", 90_000),
        ({"status": 503, "headers": {"retry-after": "90"}}, "slow_down", "pending", 90_000),
        ({"status": 500, "headers": {"webhook-delivery": "abort"}}, "abort", "aborted", None),
        ({"status": 410}, "gone", "held", None),
        ({"status": 200, "headers": {"webhook-delivery": "disable"}}, "last", "delivered", None),
    ],
)
async def test_an_answer_means_what_it_means_of_a_webhook(
    it: Rig, said: dict[str, Any], outcome: str, state: str, wait: float | None
) -> None:
    endpoint = await made(it.client)
    event = await it.event()
    async with listening(it.client, endpoint) as listener:
        status, answer = await listener.answer(await listener.take(), **said)
        assert (status, answer["outcome"]) == (200, outcome)
        delivery = await it.tried(event, endpoint, 1)
        assert delivery["state"] == state
        assert delivery["next_attempt_at"] == answer["next_attempt_at"]
        (attempt,) = delivery["attempts"]
        assert (attempt["status"], attempt["error"]) == (said["status"], said.get("error"))
        if wait is not None:
            due = await it.until(event, endpoint, lambda found: found["next_attempt_at"] is not None)
            it.pass_until(due["next_attempt_at"])
            assert it.clock.now() - ManualClock().now() >= wait
            again = await listener.take()
            assert (again["attempt"], again["headers"]["webhook-id"]) == (2, event)
        if outcome in ("gone", "last"):
            assert (await it.endpoint(endpoint))["state"] == "disabled"
            (closed,) = await listener.stream.rest()
            assert (closed.kind, closed.json) == ("closed", {"reason": "disabled"})
            status, problem = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/stream")
            assert (status, problem["type"]) == (409, "urn:wirephoto:problem:endpoint_disabled")


async def test_what_is_not_answered_in_time_has_failed_and_is_tried_again(it: Rig) -> None:
    endpoint = await made(it.client, retry_schedule=[30])
    event = await it.event()
    async with listening(it.client, endpoint) as listener:
        handed = await listener.take()
        it.clock.leap(LATE)
        (attempt,) = (await it.tried(event, endpoint, 1))["attempts"]
        assert (attempt["outcome"], attempt["status"]) == ("retry", None)
        assert attempt["error"].startswith("timeout")
        status, problem = await listener.answer(handed)
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:not_waited_for")
        it.pass_until((await it.delivery(event, endpoint))["next_attempt_at"])
        assert (await listener.take())["attempt"] == 2
        it.clock.leap(LATE)
        assert (await it.tried(event, endpoint, 2))["state"] == "exhausted", "the endpoint's own schedule"


async def test_who_comes_back_goes_on_where_it_was(it: Rig) -> None:
    endpoint = await made(it.client)
    events = [await it.event() for _ in range(3)]
    async with listening(it.client, endpoint) as listener:
        first = [await listener.take() for _ in range(3)]
        assert [handed["headers"]["webhook-id"] for handed in first] == events, "the oldest first"
        await listener.answer(first[0])
    await without_client(it, endpoint)
    events.append(await it.event())
    it.clock.leap(LATE // 2)
    # An answer needs no connection.
    assert (await Listener(it.client, endpoint, listener.stream).answer(first[1]))[0] == 200
    async with listening(it.client, endpoint) as listener:
        came = [await listener.take() for _ in range(2)]
        assert came[0] == first[2], "the same attempt"
        for handed in came:
            assert (await listener.answer(handed))[0] == 200
        assert [handed["headers"]["webhook-id"] for handed in came] == events[2:]
    for event in events:
        delivery = await it.delivery(event, endpoint)
        assert (delivery["state"], len(delivery["attempts"])) == ("delivered", 1)


async def test_a_second_client_takes_the_endpoint_over(it: Rig) -> None:
    endpoint = await made(it.client, max_in_flight=1)
    await it.event()
    async with listening(it.client, endpoint) as first:
        handed = await first.take()
        async with listening(it.client, endpoint) as second:
            (closed,) = await first.stream.rest()
            assert (closed.kind, closed.json) == ("closed", {"reason": "taken_over"})
            assert await second.take() == handed
            await second.answer(handed)
            event = await it.event()
            assert (await second.take())["headers"]["webhook-id"] == event


async def gone(it: Rig, endpoint: dict[str, Any]) -> bool:
    status, _ = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}")
    return status == 404


async def test_an_endpoint_without_a_client_goes_and_its_deliveries_say_so(it: Rig) -> None:
    endpoint, never = await made(it.client), await made(it.client)
    event = await it.event()
    async with listening(it.client, endpoint) as listener:
        await listener.take()
        async with asyncio.timeout(PATIENCE):
            while not await gone(it, never):
                await it.clock.advance(round(SEEN_SECONDS * 1000))
        for _ in range(5):
            # With its client it stays, however long.
            await it.clock.advance(round(SEEN_SECONDS * 1000))
            assert not await gone(it, endpoint)
    await without_client(it, endpoint)
    passed = 0
    async with asyncio.timeout(PATIENCE):
        while not await gone(it, endpoint):
            await it.clock.advance(1_000)
            passed += 1_000
    assert passed >= GRACE_MS
    status, listed = await it.client.call("GET", f"/v1/deliveries?event={event}")
    assert status == 200
    assert {found["state"] for found in listed["data"]} == {"discarded"}
    assert (await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/stream"))[0] == 404


async def test_after_a_restart_there_is_time_to_come_back_and_what_was_under_way_is_handed_again(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with rig(tmp_path, clock) as it:
        kept, lost = await made(it.client), await made(it.client)
        event = await it.event()
        async with listening(it.client, kept) as listener:
            handed = await listener.take()
    clock.leap(10 * GRACE_MS)
    async with rig(tmp_path, clock) as it:
        # While there was no service nobody could come.
        await clock.advance(round(SEEN_SECONDS * 1000))
        async with listening(it.client, kept) as listener:
            again = await listener.take()
            assert (again["delivery"], again["attempt"]) == (handed["delivery"], 1), "it was not tried"
            assert (await listener.answer(again))[0] == 200
            assert (await it.tried(event, kept, 1))["state"] == "delivered"
            async with asyncio.timeout(PATIENCE):
                while not await gone(it, lost):
                    await clock.advance(round(SEEN_SECONDS * 1000))
            assert not await gone(it, kept)


async def test_no_more_are_under_way_than_the_endpoint_takes(it: Rig) -> None:
    endpoint = await made(it.client, max_in_flight=2)
    events = [await it.event() for _ in range(4)]
    async with listening(it.client, endpoint) as listener:
        one, two = await listener.take(), await listener.take()
        assert [one["headers"]["webhook-id"], two["headers"]["webhook-id"]] == events[:2]
        (found,) = it.stand.wirephoto.site.streams._streams.values()
        assert found.under_way == 2
        await listener.answer(two)
        three = await listener.take()
        assert three["headers"]["webhook-id"] == events[2]
        await listener.answer(one)
        assert (await listener.take())["headers"]["webhook-id"] == events[3]


async def test_an_ordered_stream_goes_on_only_when_the_one_before_is_settled(it: Rig) -> None:
    endpoint = await made(it.client, ordered=True, retry_schedule=[30])
    events = [await it.event() for _ in range(3)]
    told = []
    async with listening(it.client, endpoint) as listener:
        for status in (500, 204, 204, 204):
            handed = await listener.take()
            told.append((handed["headers"]["webhook-id"], handed["attempt"]))
            _, answer = await listener.answer(handed, status)
            if answer["next_attempt_at"] is not None:
                it.pass_until(answer["next_attempt_at"])
    assert told == [(events[0], 1), (events[0], 2), (events[1], 1), (events[2], 1)]


async def test_its_rate_holds_for_a_stream_too(it: Rig) -> None:
    endpoint = await made(it.client, rate_limit={"requests": 2, "seconds": 10})
    for _ in range(3):
        await it.event()
    async with listening(it.client, endpoint) as listener:
        for _ in range(2):
            await listener.answer(await listener.take())
        async with asyncio.timeout(PATIENCE):
            third = asyncio.create_task(listener.take())
            while not third.done():
                await it.clock.advance(500)
        assert it.clock.now() - ManualClock().now() >= 10_000


async def test_a_quiet_stream_has_heartbeats(it: Rig) -> None:
    endpoint = await made(it.client)
    async with listening(it.client, endpoint) as listener, asyncio.timeout(PATIENCE):
        beat = asyncio.create_task(listener.stream.block())
        while not beat.done():
            await it.clock.advance(1_000)
        assert await beat is None
        assert listener.stream.comments == ["open", "heartbeat"]
        assert it.clock.now() - ManualClock().now() >= HEARTBEAT_MS == 15_000


@POSTGRES
async def test_events_of_another_node_are_handed_out_too(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        endpoint = await made(it.client)
        async with listening(it.client, endpoint) as listener:
            await happen_elsewhere(it, 2)
            for _ in range(2):
                assert (await listener.answer(await listener.take()))[0] == 200


async def test_a_test_shot_goes_over_the_stream(it: Rig) -> None:
    endpoint = await made(it.client)
    path = f"/v1/endpoints/{endpoint['id']}/test"
    status, shot = await it.client.call("POST", path)
    assert (status, shot["delivered"], shot["status"]) == (200, False, None)
    assert "no client" in shot["error"]
    async with listening(it.client, endpoint) as listener:
        asked = asyncio.create_task(it.client.call("POST", path))
        handed = await listener.take()
        assert (await listener.answer(handed, 202))[0] == 200
        status, shot = await asked
        assert (status, shot["delivered"], shot["status"], shot["ms"]) == (200, True, 202, 7)
        assert shot["event"] == handed["headers"]["webhook-id"]


async def test_a_deleted_endpoint_lets_its_client_go(it: Rig) -> None:
    endpoint = await made(it.client)
    async with listening(it.client, endpoint) as listener:
        assert (await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}"))[0] == 204
        (closed,) = await listener.stream.rest()
        assert closed.json == {"reason": "deleted"}


async def test_the_end_of_the_service_ends_the_stream(it: Rig) -> None:
    endpoint = await made(it.client)
    async with listening(it.client, endpoint) as listener:
        it.stand.wirephoto.core.bells.close()
        (closed,) = await listener.stream.rest()
        assert closed.json == {"reason": "stopping"}


async def test_an_answer_that_is_not_one_is_refused(it: Rig) -> None:
    endpoint = await made(it.client)
    path = f"/v1/endpoints/{endpoint['id']}/answers"
    bad: list[tuple[dict[str, Any], set[str]]] = [
        ({"delivery": "dlv_1"}, {"error"}),
        ({"delivery": "dlv_1", "status": 200, "error": "both"}, {"error"}),
        ({"status": 200}, {"delivery"}),
        ({"delivery": "dlv_1", "status": 99, "ms": -1}, {"status", "ms"}),
        ({"delivery": "dlv_1", "status": 200, "headers": {"set-cookie": "a"}}, {"headers.set-cookie"}),
        ({"delivery": "dlv_1", "error": "a\0b"}, {"error"}),
    ]
    for body, faulty in bad:
        status, problem = await it.client.call("POST", path, json=body)
        assert (status, fields(problem)) == (422, faulty), body
    (example,) = StreamAnswer.model_json_schema()["examples"]
    status, problem = await it.client.call("POST", path, json=example)
    assert (status, problem["type"]) == (409, "urn:wirephoto:problem:not_waited_for")


async def test_only_a_stream_is_come_for_and_only_by_its_own_project(it: Rig) -> None:
    webhook = await it.client.subscribe("https://shop.example/")
    for method, tail, body in (("GET", "stream", None), ("POST", "answers", {"delivery": "dlv_1", "status": 200})):
        status, problem = await it.client.call(method, f"/v1/endpoints/{webhook['id']}/{tail}", json=body)
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:not_a_stream")
    endpoint = await made(it.client)
    event = await it.event()
    stranger = await tenant(it.stand)
    async with listening(it.client, endpoint) as listener:
        handed = await listener.take()
        said = {"delivery": handed["delivery"], "status": 204}
        path = f"/v1/endpoints/{endpoint['id']}/answers"
        assert (await stranger.client.call("POST", path, json=said))[0] == 404
        # Not over a stream of its own either.
        theirs = await made(stranger.client)
        status, _ = await stranger.client.call("POST", f"/v1/endpoints/{theirs['id']}/answers", json=said)
        assert status == 409
        assert (await it.delivery(event, endpoint))["attempts"] == []


async def test_an_answer_that_is_said_twice_is_written_down_once(it: Rig) -> None:
    endpoint = await made(it.client)
    event = await it.event()
    async with listening(it.client, endpoint) as listener:
        handed = await listener.take()
        answers = await asyncio.gather(*(listener.answer(handed, status) for status in (204, 204)))
        assert min(status for status, _ in answers) == 200
    assert len((await it.tried(event, endpoint, 1))["attempts"]) == 1
