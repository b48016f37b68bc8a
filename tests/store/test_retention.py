"""What may go, what must stay, and what is asked about after a start."""

import pytest

from schemas.asset import Asset, ImageInfo, StoredFile
from schemas.delivery import DeliveryState
from schemas.event import Event
from schemas.job import ErrorClass, Failure, Job
from service.store import assets, deliveries, endpoints, events, jobs, nodes, results, submissions, vendor_requests
from service.store.database import Tx
from tests.store.rows import MINUTE, NOW, VENDOR, Rows, all_rows, run

pytestmark = pytest.mark.anyio

OURS, KEPT, STRAY = "a" * 64, "b" * 64, "c" * 64
IMAGE = ImageInfo("image/png", 4, 3)


async def test_bytes_are_known_until_their_asset_expires_and_while_a_result_is_on_its_way(made: Rows) -> None:
    job = await made.job()
    await made.db.write(assets.add, made.project, StoredFile(OURS, 9), IMAGE, NOW, MINUTE)
    await made.db.write(results.add, job.row, "image", {}, None)
    (result,) = await made.db.read(results.of_job, job.row)
    await made.db.write(results.keep, result.row, StoredFile(KEPT, 9), IMAGE, NOW)
    everything = [OURS, KEPT, STRAY]
    assert await made.db.read(assets.known, everything, NOW) == {OURS, KEPT}
    assert await made.db.read(assets.known, everything, NOW + MINUTE) == {KEPT}
    asset = await made.db.write(assets.add, made.project, StoredFile(KEPT, 9), IMAGE, NOW, MINUTE)
    await made.db.write(results.is_asset, result.row, asset.row)
    assert await made.db.read(assets.known, everything, NOW + MINUTE) == set()


async def test_the_same_bytes_live_as_long_as_the_longest_lived_asset(made: Rows) -> None:
    for lives_ms in (MINUTE, 3 * MINUTE):
        await made.db.write(assets.add, made.project, StoredFile(OURS, 9), IMAGE, NOW, lives_ms)
    assert await made.db.read(assets.known, [OURS], NOW + 2 * MINUTE) == {OURS}


async def test_after_a_start_every_known_task_is_asked_at_once(made: Rows) -> None:
    _, submission = await made.running_job()
    await made.db.write(submissions.release, submission.row, made.node, NOW + MINUTE, asked=False)
    assert await made.db.write(submissions.claim, VENDOR, made.node, NOW, 10) == []
    await made.db.write(submissions.ask_all, VENDOR, NOW)
    assert [entry.row for entry in await made.db.write(submissions.claim, VENDOR, made.node, NOW, 10)] == [
        submission.row
    ]


async def _failed(tx: Tx, job: Job) -> None:
    assert await jobs.fail(tx, job.row, Failure(ErrorClass.UNKNOWN, "x", "x", retryable=False), None, NOW)


async def _with_input(made: Rows, job: Job, sha256: str) -> Asset:
    asset = await made.db.write(assets.add, made.project, StoredFile(sha256, 9), IMAGE, NOW, MINUTE)
    await made.db.write(
        run,
        "INSERT INTO job_inputs (job_id, name, source, asset_id) VALUES (:job, 'image', '{}', :asset)",
        {"job": job.row, "asset": asset.row},
    )
    return asset


async def test_the_bytes_that_a_waiting_job_needs_outlive_their_expiry(made: Rows) -> None:
    job = await made.job()
    await _with_input(made, job, OURS)
    later = NOW + 2 * MINUTE
    assert await made.db.read(assets.known, [OURS], later) == {OURS}
    await made.db.write(_failed, job)
    assert await made.db.read(assets.known, [OURS], later) == set()


async def test_an_assets_row_goes_after_its_expiry_once_no_job_names_it(made: Rows) -> None:
    job = await made.job()
    named = await _with_input(made, job, OURS)
    loose = await made.db.write(assets.add, made.project, StoredFile(KEPT, 9), IMAGE, NOW, MINUTE)
    end = NOW + MINUTE
    assert await made.db.read(assets.expired, end - 1, (0, 0), 10) == []
    first = await made.db.read(assets.expired, end, (0, 0), 1)
    assert first == [(end, named.row)]
    assert await made.db.read(assets.expired, end, first[0], 10) == [(end, loose.row)]
    assert [await made.db.write(assets.forget, asset.row, end) for asset in (named, loose)] == [False, True]
    await made.db.write(_failed, job)
    assert await made.db.write(jobs.remove, job.row, NOW) == [named.row]
    assert await made.db.write(assets.forget, named.row, end - 1) is False
    assert await made.db.write(assets.forget, named.row, end)


async def test_a_job_stays_until_it_has_ended_and_while_an_event_or_a_key_names_it(made: Rows) -> None:
    job, submission = await made.running_job()
    await made.endpoint(job=job.row)
    assert await made.db.write(jobs.remove, job.row, NOW + MINUTE) is None
    await made.db.write(_failed, job)
    assert await made.db.write(jobs.remove, job.row, NOW - 1) is None
    await made.db.write(jobs.remember_key, made.project, "k", "print", job.row, NOW, NOW)
    assert await made.db.write(jobs.remove, job.row, NOW) is None
    assert await made.db.read(jobs.old_keys, NOW, 10) == []
    assert await made.db.read(jobs.old_keys, NOW + 1, 10) == [(made.project, "k", job.row)]
    await made.db.write(jobs.forget_key, made.project, "k", NOW + 1)
    assert await made.db.write(jobs.remove, job.row, NOW) == []
    for table in ("jobs", "submissions", "endpoints"):
        assert await made.db.read(all_rows, f"SELECT id FROM {table}") == [], table
    assert submission.job == job.row


async def _settled(made: Rows, state: DeliveryState = DeliveryState.DELIVERED) -> Event:
    event, owed = await made.event()
    for entry in owed:
        await made.db.write(deliveries.settle, entry.delivery, made.node, state, 1, NOW)
    return event


async def _removed(tx: Tx, event: int, before: int) -> bool:
    await events.lock(tx, event)
    await deliveries.trim(tx, event, before, 100)
    return await events.remove(tx, event, before)


async def test_an_event_goes_only_once_all_its_deliveries_have_ended_long_enough_ago(made: Rows) -> None:
    for _ in range(2):
        await made.endpoint()
    event, owed = await made.event()
    await made.event()
    await made.db.write(deliveries.settle, owed[0].delivery, made.node, DeliveryState.DELIVERED, 1, NOW)
    assert await made.db.read(events.front, made.project, NOW + MINUTE, 10) == []
    assert await made.db.write(_removed, event.row, NOW + MINUTE) is False
    assert len(await made.db.read(deliveries.of_event, event.row)) == 2, "a ledger goes whole or not at all"
    await made.db.write(deliveries.settle, owed[1].delivery, made.node, DeliveryState.EXHAUSTED, 11, NOW + 5)
    assert await made.db.read(events.front, made.project, NOW, 10) == []
    assert await made.db.write(_removed, event.row, NOW) is False
    (front,) = await made.db.read(events.front, made.project, NOW + 5, 10)
    assert (front.row, front.weight) == (event.row, 2 + 1 + 11)
    assert await made.db.write(_removed, event.row, NOW + 5)


async def test_the_newest_event_stays_so_that_no_number_of_a_row_is_given_out_twice(made: Rows) -> None:
    await made.endpoint()
    event = await _settled(made)
    assert await made.db.write(_removed, event.row, NOW) is False
    assert (await _settled(made)).row > event.row
    assert await made.db.write(_removed, event.row, NOW)


async def test_a_log_is_cut_off_at_its_front_only_and_its_counter_stays(made: Rows) -> None:
    await made.endpoint()
    held_up, _ = await made.event()
    await _settled(made)
    assert await made.db.read(events.old_logs, NOW, 0, 10) == [made.project]
    assert await made.db.read(events.old_logs, NOW - 1, 0, 10) == []
    assert await made.db.read(events.old_logs, NOW, made.project, 10) == []
    assert await made.db.read(events.front, made.project, NOW, 10) == []
    assert await made.db.read(events.oldest, made.project) == held_up.sequence == 1
    await made.db.write(deliveries.discard, (await made.endpoint()).row, NOW)
    await made.db.write(run, "UPDATE deliveries SET state = 'delivered', finished_at = :now", {"now": NOW})
    assert [old.row for old in await made.db.read(events.front, made.project, NOW, 10)] == [1, 2]
    assert await made.db.write(_removed, held_up.row, NOW)
    assert await made.db.read(events.oldest, made.project) == 2
    await made.db.write(run, "DELETE FROM deliveries", {})
    await made.db.write(run, "DELETE FROM events", {})
    assert await made.db.read(events.oldest, made.project) == 3
    assert (await made.event())[0].sequence == 3


async def test_what_is_held_expires_by_the_time_of_its_holding(made: Rows) -> None:
    endpoint = await made.endpoint()
    _, (owed,) = await made.event()
    await made.db.write(deliveries.hold, endpoint.row, NOW + MINUTE)
    assert await made.db.write(deliveries.expire, NOW + MINUTE - 1, NOW + 9, 10) == 0
    await made.db.write(deliveries.unhold, endpoint, NOW + MINUTE)
    await made.db.write(deliveries.hold, endpoint.row, NOW + 2 * MINUTE)
    assert await made.db.write(deliveries.expire, NOW + 2 * MINUTE - 1, NOW + 9, 10) == 0
    assert await made.db.write(deliveries.expire, NOW + 2 * MINUTE, NOW + 9, 10) == 1
    expired = await made.db.read(deliveries.by_row, owed.delivery)
    assert (expired.state, expired.finished_at) == (DeliveryState.EXPIRED, NOW + 9)
    assert await made.db.write(deliveries.unhold, endpoint, NOW) == 0


async def test_a_deleted_endpoint_stays_as_long_as_a_delivery_names_it(made: Rows) -> None:
    endpoint, lonely, living = [await made.endpoint() for _ in range(3)]
    event = await _settled(made)
    await made.event()
    await made.db.write(run, "DELETE FROM deliveries WHERE endpoint_id = :row", {"row": lonely.row})
    for gone in (endpoint, lonely):
        await made.db.write(endpoints.delete, gone.row, NOW)
    assert await made.db.write(endpoints.forget, NOW - 1, 10) == 0
    assert await made.db.write(endpoints.forget, NOW, 10) == 1
    await made.db.write(run, "DELETE FROM deliveries", {})
    assert await made.db.write(endpoints.forget, NOW, 10) == 1
    assert [row["id"] for row in await made.db.read(all_rows, "SELECT id FROM endpoints")] == [living.row]
    assert event.row == 1


async def test_ended_nodes_and_old_requests_go_the_living_stay(made: Rows) -> None:
    ended, living = [await made.db.write(nodes.add, NOW) for _ in range(2)]
    for node in (made.node, ended):
        await made.db.write(nodes.end, node, NOW)
    assert await made.db.write(nodes.forget, made.node, NOW - 1, 10) == 0
    assert await made.db.write(nodes.forget, made.node, NOW, 10) == 1
    assert [row["id"] for row in await made.db.read(all_rows, "SELECT id FROM nodes ORDER BY id")] == [
        made.node,
        living,
    ]
    for at in (NOW, NOW + 1):
        await made.db.write(vendor_requests.start, VENDOR, "http://vendor.test", "account", at, 0)
    assert await made.db.write(vendor_requests.forget, NOW + 1, 10) == 1
    assert len(await made.db.read(all_rows, "SELECT id FROM vendor_requests")) == 1
