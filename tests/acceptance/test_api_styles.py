"""Style groups and styles over the API: the vendor's lists a page at a time, with ids that no number can hold."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_styles import STYLES
from handlers.sandbox.perfectcorp_words import error
from service.vendor_settings import Limit
from tests.acceptance.test_api_tenants import tenant
from tests.fast_clock import FastClock
from tests.harness import Stand, stand
from tests.vendors.perfectcorp_by_hand import AT_ONCE, STYLED

pytestmark = pytest.mark.anyio

HAIR = "/v1/vendors/perfectcorp/hair-style"


@asynccontextmanager
async def standing(tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[Stand, PerfectCorpSandbox]]:
    async with PerfectCorpSandbox(AT_ONCE) as vendor, stand(tmp_path, perfectcorp=vendor, **changes) as it:
        yield it, vendor


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Stand, PerfectCorpSandbox]]:
    async with standing(tmp_path) as both:
        yield both


async def every(it: Stand, path: str, limit: int) -> list[dict[str, Any]]:
    """The whole list, page by page."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        status, page = await it.client.call("GET", f"{path}{'&' if '?' in path else '?'}limit={limit}{after}")
        assert status == 200, page
        assert len(page["data"]) <= limit
        found += page["data"]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


Pair = tuple[Stand, PerfectCorpSandbox]


async def test_every_group_and_its_styles_are_found_with_their_whole_ids(pair: Pair) -> None:
    it, vendor = pair
    groups = await every(it, f"{HAIR}/style-groups", 7)
    assert groups == [{"id": str(group.id), "title": group.title} for group in STYLES["hair-style"]]
    assert all(int(float(group["id"])) != int(group["id"]) for group in groups), "no JSON number would do"
    for group, own in list(zip(groups, STYLES["hair-style"], strict=True))[:3]:
        styles = await every(it, f"{HAIR}/styles?style_group_id={group['id']}", 20)
        assert [(style["id"], style["title"]) for style in styles] == [
            (str(style.id), style.title) for style in own.styles
        ]
        assert all(style["thumbnail"].startswith("http") for style in styles)
    assert vendor.violations == []


@pytest.mark.parametrize("operation", STYLED)
async def test_an_operation_with_styles_has_both_lists(operation: str, pair: Pair) -> None:
    it, _ = pair
    for kind in ("style-groups", "styles"):
        status, page = await it.client.call("GET", f"/v1/vendors/perfectcorp/{operation}/{kind}")
        assert (status, page["data"] != []) == (200, True)


@pytest.mark.parametrize(
    "path",
    [
        "perfectcorp/sod/style-groups",
        "perfectcorp/lighting/styles",
        "perfectcorp/no-such/styles",
        "nobody/hair-style/styles",
        "vanceai/enlarge3/styles",
    ],
)
async def test_what_has_no_styles_has_no_list_of_them(path: str, pair: Pair) -> None:
    it, _ = pair
    status, problem = await it.client.call("GET", f"/v1/vendors/{path}")
    assert (status, problem["type"]) == (404, "urn:wirephoto:problem:not_found")


async def test_without_an_account_nothing_can_be_asked(it: Stand) -> None:
    status, problem = await it.client.call("GET", f"{HAIR}/styles")
    assert (status, problem["type"]) == (409, "urn:wirephoto:problem:vendor_not_configured")


async def test_a_page_costs_one_request_however_often_it_is_looked_at(pair: Pair) -> None:
    it, vendor = pair
    for _ in range(3):
        await every(it, f"{HAIR}/styles", 20)
    endpoints = [seen.endpoint for seen in vendor.requests]
    pages = -(-sum(len(group.styles) for group in STYLES["hair-style"]) // 20)
    assert endpoints.count("style") == pages
    assert endpoints.count("auth") == 1
    # Another project sees the same list, and pays no request for it.
    await every(await tenant(it), f"{HAIR}/styles", 20)
    assert [seen.endpoint for seen in vendor.requests] == endpoints


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=21", "limit"),
        ("limit=0", "limit"),
        ("style_group_id=1e5", "style_group_id"),
        ("style_group_id=", "style_group_id"),
        (f"style_group_id={'1' * 20}", "style_group_id"),
        (f"after={'x' * 513}", "after"),
        ("after=%0a", "after"),
        ("page_size=5", "page_size"),
    ],
)
async def test_what_can_be_told_wrong_here_costs_no_request(query: str, field: str, pair: Pair) -> None:
    it, vendor = pair
    status, problem = await it.client.call("GET", f"{HAIR}/styles?{query}")
    assert (status, problem["errors"][0]["field"]) == (422, field)
    assert vendor.requests == []


@pytest.mark.parametrize(("query", "field"), [("style_group_id=7", "style_group_id"), ("after=nonsense", "after")])
async def test_what_the_vendor_does_not_take_is_named(query: str, field: str, pair: Pair) -> None:
    it, _ = pair
    status, problem = await it.client.call("GET", f"{HAIR}/styles?{query}")
    assert (status, problem["errors"][0]["field"]) == (422, field)


async def test_a_vendor_without_a_free_turn_is_busy_and_says_when_to_come_again(tmp_path: Path) -> None:
    limits = {"perfectcorp_settings": {"limits": [Limit(scope="ip", requests=1, seconds=3600)]}}
    async with standing(tmp_path, clock=FastClock(200.0), **limits) as (it, vendor):
        status, problem, headers = await it.client.call_full("GET", f"{HAIR}/styles")
        assert (status, problem["type"]) == (503, "urn:wirephoto:problem:vendor_busy")
        assert int(headers["Retry-After"]) > 0
        assert [seen.endpoint for seen in vendor.requests] == ["auth"]


async def test_a_vendors_429_is_handed_on_with_its_wait(pair: Pair) -> None:
    it, vendor = pair
    vendor.settings = replace(vendor.settings, retry_after=True)
    vendor.faults.next("style", error("TooManyRequests"))
    status, problem = await it.client.call("GET", f"{HAIR}/styles")
    assert (status, problem["type"]) == (503, "urn:wirephoto:problem:vendor_busy")
    assert (await it.client.call("GET", f"{HAIR}/styles"))[0] == 200


async def test_a_vendor_in_trouble_says_so_and_only_the_operator_hears_its_words(pair: Pair) -> None:
    it, vendor = pair
    stranger = await tenant(it)
    for asking, told in ((it, True), (stranger, False)):
        vendor.faults.next("style", error("InternalError"))
        status, problem = await asking.client.call("GET", f"{HAIR}/styles")
        assert (status, problem["type"]) == (503, "urn:wirephoto:problem:vendor_unavailable")
        assert ("vendor_error" in problem, "Internal server error" in str(problem)) == (told, told)
        vendor.faults.next("style", faults.Fault(status=403, body=b'{"status": 403, "error": "key 7 is blocked"}'))
        status, problem = await asking.client.call("GET", f"{HAIR}/styles")
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:vendor_refused")
        assert ("vendor_error" in problem, "key 7" in str(problem)) == (told, told)


async def test_a_thumbnail_that_is_no_link_is_none(pair: Pair) -> None:
    it, vendor = pair
    told = {"status": 200, "result": {"styles": [{"id": 2**60 + 1, "info": {"thumb": "javascript:alert(1)"}}, {}, 7]}}
    vendor.faults.next("style", faults.answering(told))
    status, page = await it.client.call("GET", f"{HAIR}/styles")
    assert status == 200
    assert page == {"data": [{"id": str(2**60 + 1), "title": "", "thumbnail": None}], "next": None}
