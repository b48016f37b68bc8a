"""How a life begins and ends: one process a data folder, one key a store, and a kind end loses nothing."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from handlers.sandbox.faults import HANG_AFTER_WORK
from service.security.vault import key_file
from tests.crash.scene import CUTOUT, ENLARGE, Launch, scene
from tests.harness import PATIENCE
from tests.ports import free_port

pytestmark = pytest.mark.anyio


async def test_a_second_process_on_the_same_data_folder_is_refused(launch: Launch, data_dir: Path, photo: Path) -> None:
    async with scene(launch, data_dir, photo) as place:
        await place.start()
        await place.subscribe()
        second = await place.begin(PORT=str(free_port()))
        assert await second.ended() == 2
        line = second.lines[-1]
        assert "another Wirephoto is running on this data" in line
        job = await place.end_of(await place.submit(ENLARGE))
        assert job["state"] == "succeeded"


async def test_the_lock_of_a_killed_process_is_gone_with_it(launch: Launch, data_dir: Path, photo: Path) -> None:
    async with scene(launch, data_dir, photo) as place:
        await (await place.start()).kill()
        await place.start()


async def test_a_first_start_that_was_cut_off_at_its_key_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_: int) -> str:
        raise KeyboardInterrupt

    path = tmp_path / "secret.key"
    with monkeypatch.context() as moment:
        moment.setattr("secrets.token_urlsafe", cut_off)
        with pytest.raises(KeyboardInterrupt):
            key_file(path)
    assert not path.exists()
    key = key_file(path)
    assert len(key) >= 32
    assert key_file(path) == key
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_start_with_another_secret_key_is_refused_and_the_store_unharmed(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    another = "QW5vdGhlcktleU9mMzJCeXRlc0FuZE5vdGhpbmdFbHM"
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        endpoint = await place.subscribe()
        await service.kill()
        service = await place.begin(SECRET_KEY=another)
        assert await service.ended() == 2
        (line,) = service.lines
        assert "sealed with another key" in line
        assert another not in line
        # The right one opens it as before.
        service = await place.start()
        first = await place.receiver.event_of(await place.submit(ENLARGE), "job.queued")
        assert place.receiver.got[0].verified(endpoint["secret"]) == first


async def test_a_new_secret_key_beside_the_old_one_opens_what_the_old_one_sealed(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    another = "QW5vdGhlcktleU9mMzJCeXRlc0FuZE5vdGhpbmdFbHM"
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        endpoint = await place.subscribe()
        await service.kill()
        old = (data_dir / "secret.key").read_text().strip()
        await place.start(SECRET_KEY=another, SECRET_KEYS_OLD=old)
        job = await place.end_of(await place.submit(ENLARGE))
        assert job["state"] == "succeeded"
        assert all(entry.verified(endpoint["secret"]) for entry in place.receiver.got)


async def test_a_kind_end_lets_an_attempt_finish_and_writes_it_down(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    answer = asyncio.Event()
    async with scene(launch, data_dir, photo) as place:
        service = await place.start()
        await place.subscribe("job.succeeded")

        async def slowly(_: object) -> object:
            await answer.wait()
            return web.Response(status=204)

        place.receiver.answers = [slowly]
        told = await place.receiver.event_of(await place.submit(ENLARGE), "job.succeeded")
        service.terminate()
        await service.said("service.stopping")
        answer.set()
        assert await service.ended() == 0
        await place.start()
        _, event = await place.client.call("GET", f"/v1/events/{told['id']}")
        assert event["status"] == "delivered"
        assert [owed["attempt_count"] for owed in event["deliveries"]] == [1]
        assert len(place.receiver.got) == 1


@pytest.mark.parametrize("operation", [ENLARGE, CUTOUT])
async def test_a_kind_end_lets_a_paid_call_have_its_answer(
    launch: Launch, data_dir: Path, photo: Path, operation: str
) -> None:
    async with scene(launch, data_dir, photo, VANCEAI__WATCHDOG_SECONDS="0.5") as place:
        vendor = place.vanceai if operation == ENLARGE else place.picwish
        paid = "transform" if operation == ENLARGE else "create"
        service = await place.start()
        await place.subscribe()
        vendor.faults.next(paid, HANG_AFTER_WORK)
        job_id = await place.submit(operation)
        async with asyncio.timeout(PATIENCE):
            await vendor.seen(paid)
        service.terminate()
        await service.said("service.stopping")
        vendor.faults.release()
        assert await service.ended() == 0
        await place.start()
        job = await place.end_of(job_id)
        await place.pictures_are_whole(job)
        assert place.asked(paid) == 1
        assert job["billing"]["possible_duplicate"] is False


async def test_a_kind_end_in_the_midst_of_work_loses_nothing_and_doubles_nothing(
    launch: Launch, data_dir: Path, photo: Path
) -> None:
    async with scene(launch, data_dir, photo, qps=20, VANCEAI__WATCHDOG_SECONDS="0.5") as place:
        service = await place.start()
        await place.subscribe()
        submitted = [await place.submit(operation) for operation in (ENLARGE, CUTOUT) * 4]
        service.terminate()
        assert await service.ended() == 0
        await place.start()
        for job_id in submitted:
            job = await place.end_of(job_id)
            await place.pictures_are_whole(job)
            assert job["billing"]["possible_duplicate"] is False
        assert place.charges == len(submitted)
        # A kind end leaves no attempt unwritten, so nobody hears anything twice.
        heard = [entry.headers["webhook-id"] for entry in place.receiver.got]
        assert len(heard) == len(set(heard))
