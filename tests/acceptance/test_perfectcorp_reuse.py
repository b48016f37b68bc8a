"""PF-10 by the front door: a result of Perfect Corp's feeds the next job there without an upload, while it lasts."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import error
from tests.acceptance.helpers import SIZE, done
from tests.fast_clock import FastClock
from tests.harness import Stand, stand
from tests.vendors.perfectcorp_by_hand import AT_ONCE

pytestmark = pytest.mark.anyio

Pair = tuple[Stand, PerfectCorpSandbox]
SOON: Any = {"perfectcorp_settings": {"poll_seconds": 0.05, "limits": []}}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with (
        PerfectCorpSandbox(replace(AT_ONCE, id_token_seconds=1e9)) as vendor,
        stand(tmp_path, perfectcorp=vendor, clock=FastClock(20.0), **SOON) as it,
    ):
        yield it, vendor


def uploads(vendor: PerfectCorpSandbox) -> int:
    return [seen.endpoint for seen in vendor.requests].count("upload")


async def test_a_result_feeds_the_next_job_without_an_upload(pair: Pair, photo: Path) -> None:
    it, vendor = pair
    first = await done(it.client, "perfectcorp/enhance", photo, params={"scale": 2})
    assert uploads(vendor) == 1
    # Named as a job's result, and as the asset that it is.
    for given in ({"job": first["id"]}, {"asset": first["outputs"][0]["asset"]}):
        next_ = await done(it.client, "perfectcorp/sod", None, inputs={"image": given})
        assert next_["state"] == "succeeded"
        assert next_["outputs"][0]["width"] == 2 * SIZE[0]
    assert uploads(vendor) == 1
    assert vendor.violations == []


async def test_a_result_that_the_vendor_has_no_more_is_uploaded_in_the_end(pair: Pair, photo: Path) -> None:
    it, vendor = pair
    first = await done(it.client, "perfectcorp/colorize", photo)
    vendor.faults.next("run", error("InvalidFileId"))
    next_ = await done(it.client, "perfectcorp/sod", None, inputs={"image": {"job": first["id"]}})
    assert (next_["state"], next_["billing"]["charged"]) == ("succeeded", "yes")
    assert uploads(vendor) == 2
    assert len(vendor.charged) == 2


async def test_a_picture_of_another_vendor_is_uploaded(pair: Pair, photo: Path) -> None:
    it, vendor = pair
    first = await done(it.client, "vanceai/enlarge3", photo)
    next_ = await done(it.client, "perfectcorp/sod", None, inputs={"image": {"job": first["id"]}})
    assert (next_["state"], uploads(vendor)) == ("succeeded", 1)
