"""What may be swept, and what is asked about after a start."""

import pytest

from schemas.asset import ImageInfo, StoredFile
from service.store import assets, results, submissions
from tests.store.rows import MINUTE, NOW, VENDOR, Rows

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
