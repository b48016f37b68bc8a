"""What subscribers are promised: at least once, never lost, by the schedule, and all of it on record."""

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from handlers import standardwebhooks
from service.pipeline.retry import HOUR, JITTER, MINUTE, SCHEDULE, SECOND
from tests.acceptance.delivery_rig import FAILS, QUEUED, Gate, Rig, at, failing, rig, says
from tests.clock import ManualClock
from tests.harness import receiver, stand

pytestmark = pytest.mark.anyio

# The schedule.


async def test_a_failing_delivery_is_tried_by_the_whole_schedule_and_then_exhausted(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as bad, receiver() as other:
        failing(bad)
        endpoint = await it.client.subscribe(bad.url, events=[*QUEUED, "delivery.exhausted"])
        watcher = await it.client.subscribe(other.url, events=["delivery.exhausted", "endpoint.*"])
        event = await it.event()
        for number, wait in enumerate(SCHEDULE, 1):
            delivery = await it.tried(event, endpoint, number)
            last = delivery["attempts"][-1]
            assert (last["number"], last["status"], last["response_head"]) == (number, 500, "no")
            waits = at(delivery["next_attempt_at"]) - at(last["at"])
            assert wait * (1 - JITTER) <= waits <= wait * (1 + JITTER)
            it.pass_until(delivery["next_attempt_at"])
        await bad.wait_for(len(SCHEDULE) + 1)
        ended = await it.until(event, endpoint, lambda found: found["state"] != "pending")
        assert (ended["state"], ended["next_attempt_at"]) == ("exhausted", None)
        assert len(ended["attempts"]) == len(SCHEDULE) + 1

        # The same id on every attempt, each signed at its own time.
        assert {got.headers["webhook-id"] for got in bad.got} == {event}
        assert len({got.body for got in bad.got}) == 1
        assert len({got.headers["webhook-timestamp"] for got in bad.got}) == len(bad.got)
        for got, attempt in zip(bad.got, ended["attempts"], strict=True):
            sent_at = at(attempt["at"]) // 1000
            assert int(got.headers["webhook-timestamp"]) == sent_at
            standardwebhooks.verify(endpoint["secret"], got.headers, got.body, sent_at)

        # Others are told, the endpoint itself is not, and the ledger says why.
        (told,) = await other.wait_for(1)
        assert told.event["type"] == "delivery.exhausted"
        assert told.event["data"]["id"] == ended["id"]
        assert told.event["data"]["state"] == "exhausted"
        await it.until(told.event["id"], watcher, lambda found: found["state"] == "delivered")
        it.clock.leap(100 * HOUR)
        status, ledger = await it.client.call("GET", f"/v1/events/{event}")
        assert (status, ledger["status"]) == (200, "undelivered")
        assert len(bad.got) == len(SCHEDULE) + 1


async def test_a_delivery_is_signed_so_that_others_software_believes_it(tmp_path: Path) -> None:
    async with stand(tmp_path) as it, receiver() as good:
        endpoint = await it.client.subscribe(good.url, events=QUEUED, headers={"X-Shop": "7"})
        event = await Rig(it, ManualClock()).event()
        (got,) = await good.wait_for(1)
        verified = got.verified(endpoint["secret"])
        assert (verified["id"], verified["type"]) == (event, "job.queued")
        assert got.headers["webhook-id"] == event
        assert got.headers["x-shop"] == "7"
        status, shown = await it.client.call("GET", f"/v1/events/{event}")
        assert status == 200
        assert {key: shown[key] for key in verified} == verified, "the log says what the delivery said"


# What a receiver may say.


@pytest.mark.parametrize("answer", [says(410), says(404, webhook_delivery="disable")])
async def test_a_receiver_that_is_gone_is_disabled_at_once_and_what_it_is_owed_is_held(
    tmp_path: Path, answer: Callable[[web.Request], Awaitable[web.Response]]
) -> None:
    async with rig(tmp_path) as it, receiver() as gone, receiver() as other:
        gone.answers = [answer]
        endpoint = await it.client.subscribe(gone.url, events=["job.queued", "endpoint.disabled"])
        await it.client.subscribe(other.url, events=["endpoint.disabled"])
        first = await it.event()
        held = await it.until(first, endpoint, lambda found: found["state"] != "pending")
        assert (held["state"], held["finished_at"], held["attempts"][0]["outcome"]) == ("held", None, "gone")
        found = await it.endpoint(endpoint)
        assert (found["state"], found["disabled_reason"]) == ("disabled", "gone")
        (told,) = await other.wait_for(1)
        assert told.event["type"] == "endpoint.disabled"
        assert told.event["data"] == found
        assert "secret" not in told.event["data"]
        second = await it.event()
        assert (await it.delivery(second, endpoint))["state"] == "held"
        it.clock.leap(100 * HOUR)
        assert len(gone.got) == 1


async def test_what_a_receiver_takes_as_its_last_is_delivered_and_the_endpoint_disabled(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as leaving:
        leaving.answers = [says(200, webhook_delivery="disable")]
        endpoint = await it.client.subscribe(leaving.url, events=QUEUED)
        last = await it.event()
        taken = await it.until(last, endpoint, lambda found: found["state"] != "pending")
        assert (taken["state"], taken["attempts"][0]["outcome"]) == ("delivered", "last")
        found = await it.endpoint(endpoint)
        assert (found["state"], found["disabled_reason"]) == ("disabled", "gone")
        assert (await it.delivery(await it.event(), endpoint))["state"] == "held"
        assert (await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/enable"))[0] == 200
        # What it took is not sent again.
        got = await leaving.wait_for(2)
        assert [entry.headers["webhook-id"] for entry in got].count(last) == 1


async def test_what_waits_behind_the_one_that_disabled_the_endpoint_is_held_too(tmp_path: Path) -> None:
    gate = Gate()

    async def gone(request: web.Request) -> web.Response:
        await gate(request)
        return web.Response(status=410)

    async with rig(tmp_path) as it, receiver() as bad:
        bad.answers = [gone]
        endpoint = await it.client.subscribe(bad.url, events=QUEUED, max_in_flight=1)
        made = [await it.event() for _ in range(4)]
        await gate.holds(1)
        gate.opened.set()
        for event in made:
            await it.until(event, endpoint, lambda found: found["state"] == "held")
        it.clock.leap(100 * HOUR)
        assert len(bad.got) == 1


@pytest.mark.parametrize("status", [200, 410, 500])
async def test_a_receiver_may_give_one_delivery_up(tmp_path: Path, status: int) -> None:
    async with rig(tmp_path) as it, receiver() as good:
        good.answers = [says(status, webhook_delivery="abort")]
        endpoint = await it.client.subscribe(good.url, events=QUEUED)
        first = await it.event()
        await it.until(first, endpoint, lambda found: found["state"] == "aborted")
        assert (await it.endpoint(endpoint))["state"] == "enabled"
        second = await it.event()
        await it.until(second, endpoint, lambda found: found["state"] == "delivered")


@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [
        ("120", 120 * SECOND),
        ("36001", 10 * HOUR),
        ("9" * 308, 10 * HOUR),
        ("date", 2 * HOUR),
    ],
)
async def test_a_receiver_that_asks_for_time_gets_it_up_to_ten_hours(
    tmp_path: Path, retry_after: str, waits: int
) -> None:
    async with rig(tmp_path) as it, receiver() as busy:
        if retry_after == "date":
            retry_after = formatdate((it.clock.now() + 2 * HOUR) / 1000, usegmt=True)
        busy.answers = [says(503, Retry_After=retry_after)]
        endpoint = await it.client.subscribe(busy.url, events=QUEUED)
        first = await it.event()
        delivery = await it.tried(first, endpoint, 1)
        assert abs(at(delivery["next_attempt_at"]) - it.clock.now() - waits) < SECOND
        # The whole endpoint rests: a second event waits with it.
        second = await it.event()
        it.clock.leap(waits - 2 * SECOND)
        assert (await it.delivery(second, endpoint))["attempt_count"] == 0
        assert len(busy.got) == 1
        it.clock.leap(4 * SECOND)
        await busy.wait_for(3)
        for event in (first, second):
            await it.until(event, endpoint, lambda found: found["state"] == "delivered")


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_that_asks_for_time_puts_off_that_delivery_and_no_other(tmp_path: Path, status: int) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        shop.answers = [says(status, Retry_After="120")]
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        first = await it.event()
        delivery = await it.tried(first, endpoint, 1)
        assert at(delivery["next_attempt_at"]) - it.clock.now() == 120 * SECOND
        second = await it.event()
        await it.until(second, endpoint, lambda found: found["state"] == "delivered")
        it.pass_until(delivery["next_attempt_at"])
        await it.until(first, endpoint, lambda found: found["state"] == "delivered")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_is_too_busy_slows_its_endpoint_down_even_without_a_word_for_how_long(
    tmp_path: Path, status: int
) -> None:
    async with rig(tmp_path) as it, receiver() as busy:
        busy.answers = [says(status)]
        endpoint = await it.client.subscribe(busy.url, events=QUEUED)
        await it.tried(await it.event(), endpoint, 1)
        second = await it.event()
        await it.clock.settle()
        assert (await it.delivery(second, endpoint))["attempt_count"] == 0
        await it.clock.advance(SECOND)
        await it.until(second, endpoint, lambda found: found["state"] == "delivered")


async def test_a_service_stops_at_once_though_a_receiver_asked_for_hours(tmp_path: Path) -> None:
    async with receiver() as busy:
        async with rig(tmp_path) as it:
            busy.answers = [says(429, Retry_After="36000")]
            endpoint = await it.client.subscribe(busy.url, events=QUEUED)
            await it.tried(await it.event(), endpoint, 1)
            await it.event()
            stopping = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - stopping < 5


async def test_a_redirect_is_never_followed(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as first, receiver() as elsewhere:
        first.answers = [says(307, Location=elsewhere.url)]
        endpoint = await it.client.subscribe(first.url, events=QUEUED)
        delivery = await it.tried(await it.event(), endpoint, 1)
        assert (delivery["state"], delivery["attempts"][0]["status"]) == ("pending", 307)
        assert elsewhere.got == []


# One bad receiver harms nobody.


async def test_a_hanging_receiver_holds_up_nobody_else(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as hanging, receiver() as good:
        hanging.answers = [gate] * FAILS
        await it.client.subscribe(hanging.url, events=QUEUED, max_in_flight=2)
        await it.client.subscribe(good.url, events=QUEUED)
        made = [await it.event() for _ in range(12)]
        got = await good.wait_for(12)
        assert sorted(entry.event["id"] for entry in got) == sorted(made)
        assert gate.inside == 2
        gate.opened.set()
        await hanging.wait_for(12)


async def test_no_endpoint_has_more_under_way_than_it_allows(tmp_path: Path) -> None:
    gate = Gate()
    async with rig(tmp_path) as it, receiver() as slow:
        slow.answers = [gate] * FAILS
        endpoint = await it.client.subscribe(slow.url, events=QUEUED, max_in_flight=3)
        made = [await it.event() for _ in range(10)]
        await gate.holds(3)
        await it.clock.settle()
        assert gate.inside == 3
        gate.opened.set()
        for event in made:
            await it.until(event, endpoint, lambda found: found["state"] == "delivered")
        assert gate.most == 3
        assert sorted(got.event["id"] for got in slow.got) == sorted(made)


def test_the_longest_wait_is_a_day() -> None:
    assert max(SCHEDULE) == 24 * HOUR
    assert min(SCHEDULE) == MINUTE // 12
