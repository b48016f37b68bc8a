"""A vendor's no that comes after the work: the job goes on, and what may be paid for twice is said."""

from pathlib import Path

import pytest

from handlers.sandbox import faults
from handlers.sandbox.vanceai import error
from tests.acceptance.helpers import ENLARGE, asked, begun, done, in_state, play, small
from tests.harness import receiver, stand

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("code", [10010, 99999])
async def test_an_internal_error_after_the_work_is_tried_again_and_the_bill_says_so(
    tmp_path: Path, photos: Path, code: int
) -> None:
    async with stand(tmp_path) as it:
        play(it.vanceai, point_type="job")
        no = b'{"code": %d, "msg": "Internal error"}' % code
        it.vanceai.faults.next("transform", faults.Fault(status=200, body=no, after_work=True))
        job = await done(it.client, ENLARGE, small(photos, tmp_path))
        assert job["state"] == "succeeded"
        assert len(asked(it.vanceai, "transform")) == 2
        assert len(it.vanceai.charged) == 2
        assert job["billing"]["possible_duplicate"] is True


async def test_a_refused_key_is_a_no_and_no_duplicate(tmp_path: Path, photos: Path) -> None:
    async with stand(tmp_path) as it, receiver() as told:
        await it.client.subscribe(told.url, events=["vendor.*"])
        it.vanceai.faults.next("transform", error(30001))
        job_id = await begun(it.client, ENLARGE, small(photos, tmp_path))
        await told.wait_for(1, "vendor.unavailable")
        job = await in_state(it.client, job_id, "queued")
        assert job["billing"] == {"credits": None, "charged": "no", "possible_duplicate": False}
