"""What is left at a vendor and what was used: told to the operator, and to nobody else."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import error
from tests.acceptance.helpers import done
from tests.acceptance.test_api_tenants import tenant
from tests.harness import Stand, stand
from tests.vendors.perfectcorp_by_hand import AT_ONCE

pytestmark = pytest.mark.anyio

Pair = tuple[Stand, PerfectCorpSandbox]
CREDITS = "/v1/vendors/perfectcorp/credits"
SOON: Any = {"perfectcorp_settings": {"poll_seconds": 0.05}}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with PerfectCorpSandbox(AT_ONCE) as vendor, stand(tmp_path, perfectcorp=vendor, **SOON) as it:
        yield it, vendor


async def test_what_is_left_is_told_in_the_vendors_unit_and_words(pair: Pair) -> None:
    it, vendor = pair
    status, told = await it.client.call("GET", CREDITS)
    assert (status, told["vendor"], told["unit"]) == (200, "perfectcorp", "credits")
    assert Decimal(told["balance"]) == vendor.settings.credits
    assert [lot["type"] for lot in told["details"]["results"]] == ["ApiPaygToken", "ApiSubsToken"]
    assert vendor.violations == []


async def test_what_was_used_is_told_page_by_page(pair: Pair, photo: Path) -> None:
    it, vendor = pair
    jobs = [await done(it.client, "perfectcorp/colorize", photo) for _ in range(3)]
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert Decimal((await it.client.call("GET", CREDITS))[1]["balance"]) == vendor.settings.credits - 3
    status, page = await it.client.call("GET", f"{CREDITS}/history?limit=2")
    assert (status, len(page["data"])) == (200, 2)
    _, rest = await it.client.call("GET", f"{CREDITS}/history?limit=2&after={page['next']}")
    assert rest["next"] is None
    used = [entry["details"]["target_id"] for entry in [*page["data"], *rest["data"]]]
    assert used == [job["vendor_task_id"] for job in reversed(jobs)]
    assert vendor.violations == []


async def test_every_vendor_that_tells_credits_is_asked_in_the_same_way(pair: Pair, photo: Path) -> None:
    it, _ = pair
    await done(it.client, "vanceai/enlarge3", photo)
    status, told = await it.client.call("GET", "/v1/vendors/vanceai/credits")
    assert (status, told["vendor"], Decimal(told["balance"]) > 0) == (200, "vanceai", True)
    status, page = await it.client.call("GET", "/v1/vendors/vanceai/credits/history?limit=5")
    assert (status, len(page["data"]) > 0) == (200, True)


async def test_only_the_first_projects_admin_is_told(pair: Pair) -> None:
    it, vendor = pair
    stranger = await tenant(it)
    _, reader = await it.client.call("POST", "/v1/keys", json={"role": "read"})
    for path in (CREDITS, f"{CREDITS}/history"):
        assert (await stranger.client.call("GET", path))[0] == 403
        assert (await it.client.call("GET", path, key=reader["api_key"]))[0] == 403
        assert (await it.client.call("GET", path, key=""))[0] == 401
    assert vendor.requests == []


@pytest.mark.parametrize("name", ["picwish", "nobody"])
async def test_a_vendor_that_tells_none_has_none(name: str, pair: Pair) -> None:
    it, _ = pair
    for path in ("credits", "credits/history"):
        status, problem = await it.client.call("GET", f"/v1/vendors/{name}/{path}")
        assert (status, problem["type"]) == (404, "urn:wirephoto:problem:not_found")


async def test_without_an_account_there_is_nothing_to_ask(it: Stand) -> None:
    status, problem = await it.client.call("GET", CREDITS)
    assert (status, problem["type"]) == (409, "urn:wirephoto:problem:vendor_not_configured")


async def test_a_no_of_the_vendor_is_told_with_its_class_and_without_a_secret(pair: Pair) -> None:
    it, vendor = pair
    secret = vendor.credentials["client_secret"]
    body = f'{{"status": 403, "error": "no {secret}", "error_code": "InvalidApiKey"}}'.encode()
    vendor.faults.next("credit", faults.Fault(status=403, body=body))
    status, problem = await it.client.call("GET", CREDITS)
    told = {"class": "auth", "code": "InvalidApiKey", "message": "no [redacted]", "retryable": False}
    assert (status, problem["vendor_error"]) == (409, told)
    vendor.faults.next("credit", error("InternalError"))
    status, problem, headers = await it.client.call_full("GET", CREDITS)
    assert (status, problem["vendor_error"]["class"], "Retry-After" in headers) == (503, "vendor", True)
    vendor.faults.next("credit", error("invalid_parameter"))
    assert (await it.client.call("GET", CREDITS))[0] == 409, "there is no parameter that a user could mend"
    assert secret not in str(await it.client.call("GET", CREDITS))


async def test_a_sum_that_the_words_do_not_give_is_none(pair: Pair) -> None:
    it, vendor = pair
    vendor.faults.next("credit", faults.answering({"status": 200, "results": [{"amount": 3}, {"amount": "many"}]}))
    _, told = await it.client.call("GET", CREDITS)
    assert (told["balance"], told["details"]["results"][1]) == (None, {"amount": "many"})
