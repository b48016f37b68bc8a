"""Whether a vendor takes our credentials, asked for nothing: no picture, no task, no credit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from handlers.sandbox import faults
from handlers.sandbox.ailabtools import AILabToolsSandbox
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.server import Sandbox
from handlers.sandbox.vanceai import VanceAISandbox
from handlers.vendors.ailabtools import AILabTools
from handlers.vendors.contract import Purpose, Vendor
from handlers.vendors.perfectcorp import PerfectCorp
from handlers.vendors.picwish import PicWish
from handlers.vendors.vanceai import VanceAI
from schemas.job import ErrorClass
from tests.vendors import clients
from tests.vendors.clients import KEY, Client, error_of

pytestmark = pytest.mark.anyio

Pair = tuple[Client, Sandbox[Any, Any]]


# With the endpoint that is asked, and the turns that it takes.
VENDORS = {
    "vanceai": (VanceAI, VanceAISandbox, "point", [Purpose.LOOK]),
    "perfectcorp": (PerfectCorp, PerfectCorpSandbox, "credit", [Purpose.AUTH, Purpose.LOOK]),
    "picwish": (PicWish, PicWishSandbox, "query", [Purpose.LOOK]),
    "ailabtools": (AILabTools, AILabToolsSandbox, "credits", [Purpose.LOOK]),
}


@pytest.fixture(params=VENDORS.values(), ids=list(VENDORS))
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    vendor, sandbox, request.node.endpoint, request.node.turns = request.param
    async with _pair(vendor(), sandbox()) as it:
        yield it


@asynccontextmanager
async def _pair(vendor: Vendor, sandbox: Sandbox[Any, Any]) -> AsyncIterator[Pair]:
    async with sandbox, clients.client(vendor, sandbox.base_url, sandbox.credentials) as client:
        yield client, sandbox


def wrong(client: Client) -> Client:
    """The same, with credentials that the vendor has never given."""
    secrets = dict.fromkeys(client.account.secrets, "not-a-key-of-anybody")
    return replace(client, account=replace(client.account, secrets=secrets))


async def test_credentials_that_fit_are_taken_and_cost_nothing(pair: Pair, request: pytest.FixtureRequest) -> None:
    client, sandbox = pair
    await client.vendor.try_credentials(client.account)
    turns = request.node.turns
    assert client.turns.taken == turns, "each request inside its turn"
    assert (len(sandbox.requests), len(sandbox.charged), len(sandbox.tasks)) == (len(turns), 0, 0)


async def test_credentials_that_do_not_fit_are_refused_as_such_and_not_repeated(pair: Pair) -> None:
    client, _ = pair
    strange = wrong(client)
    error = await error_of(strange.vendor.try_credentials(strange.account))
    assert error.error_class is ErrorClass.AUTH
    assert "not-a-key-of-anybody" not in f"{error}"
    assert KEY not in f"{error}"


@pytest.mark.parametrize("body", [b"", b"<html>captive</html>", b"[]", b"{}", b'{"hello": "world"}'])
async def test_what_is_not_the_vendors_answer_is_no_yes(
    pair: Pair, body: bytes, request: pytest.FixtureRequest
) -> None:
    client, sandbox = pair
    sandbox.faults.next(request.node.endpoint, faults.Fault(status=200, body=body))
    assert (await error_of(client.vendor.try_credentials(client.account))).code == "unreadable"
