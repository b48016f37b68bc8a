"""A delivery to a shop is work in steps: what is done stays done, whatever ends the try."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from schemas.delivery import Outcome
from service.pipeline import retry
from service.pipeline.deliver import Deliver
from service.pipeline.shops import Results
from tests.acceptance.shop_rig import PaperShop, Pass, Try, attempt, finished, paper_shop, settled, shop_endpoint
from tests.acceptance.test_api_tenants import tenant
from tests.harness import PATIENCE, Stand, receiver, stand
from tests.store.rows import one_row, run

pytestmark = pytest.mark.anyio

SOON: dict[str, Any] = {"retry_schedule": [0.02] * 20}


class Cut(Exception):
    """Stands for whatever may end a try between two calls."""


async def test_the_picture_on_the_product_is_the_jobs_own_byte_for_byte(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    endpoint = await shop_endpoint(it.client)
    job = await finished(it.client, photo)
    (delivery,) = await settled(it.client, endpoint, "delivered")
    assert [shop.files[name] for name in shop.gallery] == [output["sha256"] for output in job["outputs"]]
    assert (delivery["attempt_count"], delivery["event_type"]) == (1, "job.succeeded")


async def test_what_is_done_before_a_fault_is_not_done_again(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)

    async def cut(at: Try) -> None:
        if at.number < 3 and at.call == "attach":
            raise Cut

    shop.between = cut
    endpoint = await shop_endpoint(it.client)
    await finished(it.client, photo)
    await settled(it.client, endpoint, "delivered")
    assert shop.calls == ["upload", "attach", "attach", "attach"]
    assert len(shop.gallery) == 1


async def test_what_is_done_before_a_restart_is_not_done_again(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path, **SOON) as it:
        shop = paper_shop(it)
        hung = shop.between = Pass("attach")
        endpoint = await shop_endpoint(it.client)
        await finished(it.client, photo)
        await hung.holds(1)
        # Nobody waits for it: the next start goes on.
        core = it.wirephoto.core
        await it.wirephoto.site.deliver.stop(0)
        row = await core.db.read(one_row, "SELECT step, value FROM delivery_steps")
        assert re.fullmatch(r"1\.[0-9a-f]{8}\.upload", row["step"])
        assert row["value"] == next(iter(shop.files))
    async with stand(tmp_path, **SOON) as it:
        again = PaperShop(Results(it.wirephoto.core), files=shop.files)
        it.wirephoto.site.destinations["vendure"] = again  # type: ignore[index]
        await settled(it.client, endpoint, "delivered")
        assert again.calls == ["attach"]


async def test_a_delivery_that_is_held_and_freed_under_way_is_not_made_by_two_at_once(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    gate = shop.between = Pass("upload")
    endpoint = await shop_endpoint(it.client)
    await finished(it.client, photo)
    await gate.holds(1)
    for verb in ("pause", "resume"):
        assert (await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/{verb}"))[0] == 200
    # It is in this node's hands once more, and waits behind itself.
    core = it.wirephoto.core
    async with asyncio.timeout(PATIENCE):
        while (await core.db.read(one_row, "SELECT node FROM deliveries"))["node"] != core.node:
            pass
    gate.opened.set()
    await settled(it.client, endpoint, "delivered")
    assert shop.calls == ["upload", "attach"]


async def test_who_has_lost_a_delivery_to_another_stops_before_the_next_call(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    gate = shop.between = Pass("upload")
    endpoint = await shop_endpoint(it.client)
    await finished(it.client, photo)
    await gate.holds(1)
    core = it.wirephoto.core
    await core.db.write(run, "UPDATE deliveries SET node = :other", {"other": core.node + 1})
    gate.opened.set()
    async with asyncio.timeout(PATIENCE):
        while it.wirephoto.site.deliver.pending:
            await it.client.call("GET", "/healthz")
    assert shop.calls == ["upload"]
    (delivery,) = await settled(it.client, endpoint, "pending")
    assert delivery["attempts"] == []


async def test_refused_credentials_disable_the_endpoint_and_new_ones_bring_what_was_held(
    it: Stand, photo: Path
) -> None:
    shop = paper_shop(it)
    shop.outcomes = [attempt(Outcome.REFUSED, status=401, error="credentials: the key is not taken")]
    async with receiver() as watcher:
        await it.client.subscribe(watcher.url, events=["endpoint.disabled"])
        endpoint = await shop_endpoint(it.client)
        path = f"/v1/endpoints/{endpoint['id']}"
        await finished(it.client, photo)
        (told,) = await watcher.wait_for(1)
        assert told.event["data"]["disabled_reason"] == "credentials_refused"
        assert (told.event["data"]["credentials"], told.event["data"]["config"]) == (["api_key"], endpoint["config"])
        assert b"key-of-the-shop" not in told.body
    await finished(it.client, photo)
    first, second = await settled(it.client, endpoint, "held", "held")
    assert (first["attempts"][0]["outcome"], first["undelivered"]) == ("refused", "endpoint_disabled")
    assert second["attempt_count"] == 0
    status, _ = await it.client.call("PATCH", path, json={"config": {"api_key": "another"}})
    assert status == 200
    assert (await it.client.call("POST", f"{path}/enable"))[1]["state"] == "enabled"
    await settled(it.client, endpoint, "delivered", "delivered")
    assert len(shop.gallery) == 2
    config = shop.seen[-1].shop
    assert config is not None
    assert config.secrets == {"api_key": "another"}


async def test_what_a_paused_shop_is_owed_arrives_when_it_is_resumed(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    endpoint = await shop_endpoint(it.client)
    await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/pause")
    for _ in range(2):
        await finished(it.client, photo)
    await settled(it.client, endpoint, "held", "held")
    assert shop.seen == []
    await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/resume")
    await settled(it.client, endpoint, "delivered", "delivered")
    assert len(shop.gallery) == 2


async def test_what_is_delivered_once_more_finds_its_picture_and_repairs_what_is_gone(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    endpoint = await shop_endpoint(it.client)
    await finished(it.client, photo)
    (delivery,) = await settled(it.client, endpoint, "delivered")

    async def again(times: int) -> None:
        assert (await it.client.call("POST", f"/v1/deliveries/{delivery['id']}/redeliver"))[0] == 202
        async with asyncio.timeout(PATIENCE):
            while (await settled(it.client, endpoint, "delivered"))[0]["attempt_count"] < times:
                pass

    await again(2)
    assert shop.calls == ["upload", "attach"]
    shop.gallery.clear()
    await again(3)
    assert shop.calls == ["upload", "attach", "attach"]


async def test_a_replay_brings_a_shop_what_it_never_got(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    await finished(it.client, photo)
    endpoint = await shop_endpoint(it.client)
    wanted = {"since": "2020-01-01T00:00:00Z", "only": "all"}
    status, replay = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/replay", json=wanted)
    assert (status, replay["total"]) == (202, 1)
    await settled(it.client, endpoint, "delivered")
    assert len(shop.gallery) == 1


async def test_a_picture_that_is_no_longer_kept_ends_its_delivery(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    endpoint = await shop_endpoint(it.client)
    path = f"/v1/endpoints/{endpoint['id']}"
    await it.client.call("POST", f"{path}/pause")
    job = await finished(it.client, photo)
    await it.wirephoto.core.db.write(run, "UPDATE assets SET expires_at = 1", {})
    await it.client.call("POST", f"{path}/resume")
    (delivery,) = await settled(it.client, endpoint, "aborted")
    assert delivery["attempts"][0]["error"] == "the picture is no longer kept"
    assert (job["outputs"] != [], shop.gallery) == (True, [])


async def test_an_endpoint_is_handed_pictures_of_its_own_project_alone(it: Stand, photo: Path) -> None:
    job = await finished(it.client, photo)
    stranger = await tenant(it)
    shop = paper_shop(it)
    endpoints = [await shop_endpoint(client) for client in (it.client, stranger.client)]
    await finished(it.client, photo)
    await settled(it.client, endpoints[0], "delivered")
    (target,) = shop.seen
    output = job["outputs"][0]
    async with shop.pictures(target, output["asset"]) as path:
        assert path is not None
        assert hashlib.sha256(path.read_bytes()).hexdigest() == output["sha256"]
    await finished(stranger.client, photo)
    await settled(stranger.client, endpoints[1], "delivered")
    async with shop.pictures(shop.seen[-1], output["asset"]) as path:
        assert path is None
    (it.wirephoto.settings.data_dir / "assets" / output["sha256"][:2] / output["sha256"]).unlink()
    async with shop.pictures(target, output["asset"]) as path:
        assert path is None


async def test_a_shop_that_fails_is_broken_and_recovers_as_any_receiver(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    shop.outcomes = [attempt(Outcome.RETRY, status=502, error="upload: no")] * 3
    gate = shop.between = Pass("upload")
    endpoint = await shop_endpoint(it.client, retry_schedule=[1] * 5)
    await finished(it.client, photo)
    await gate.holds(1)
    async with asyncio.timeout(PATIENCE):
        while (await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}"))[1]["health"]["failing_since"] is None:
            pass
    gate.opened.set()
    (delivery,) = await settled(it.client, endpoint, "delivered")
    assert [entry["outcome"] for entry in delivery["attempts"]] == ["retry"] * 3 + ["delivered"]
    _, well = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}")
    assert well["health"]["failing_since"] is None


async def test_shops_that_hang_leave_room_for_everybody_else(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    gate = shop.between = Pass("upload")
    core, site = it.wirephoto.core, it.wirephoto.site
    deliver = Deliver(core, site.destinations, retry.SCHEDULE, lambda: 0.0, most_under_way=8)
    core.hand_over = deliver.hand_over
    try:
        async with receiver() as healthy:
            slow = [await shop_endpoint(it.client) for _ in range(5)]
            await it.client.subscribe(healthy.url, events=["job.succeeded"])
            for _ in range(3):
                await finished(it.client, photo)
            await healthy.wait_for(3)
            await gate.holds(2)
            assert gate.held == 2, "a quarter of the room"
            gate.opened.set()
            for endpoint in slow:
                await settled(it.client, endpoint, "delivered", "delivered", "delivered")
    finally:
        await deliver.stop(1)


async def test_one_shop_that_hangs_leaves_room_for_the_others(it: Stand, photo: Path) -> None:
    shop = paper_shop(it)
    gate, others, reached = Pass("upload"), set[str](), asyncio.Event()

    async def hang(at: Try) -> None:
        if at.target.id in others:
            reached.set()
        await gate(at)

    shop.between = hang
    core, site = it.wirephoto.core, it.wirephoto.site
    # Of which eight may be shops'.
    deliver = Deliver(core, site.destinations, retry.SCHEDULE, lambda: 0.0, most_under_way=32)
    core.hand_over = deliver.hand_over
    try:
        greedy = await shop_endpoint(it.client, max_in_flight=64)
        for _ in range(9):
            await finished(it.client, photo)
        other = await shop_endpoint(it.client)
        others.add(other["id"])
        await finished(it.client, photo)
        async with asyncio.timeout(PATIENCE):
            await reached.wait()
        gate.opened.set()
        await settled(it.client, greedy, *["delivered"] * 10)
        await settled(it.client, other, "delivered")
    finally:
        await deliver.stop(1)
