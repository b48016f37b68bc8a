"""The service's own key is changed while jobs run and deliveries flow: nothing is lost, and the old key may go."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from handlers import standardwebhooks
from handlers.sandbox.vanceai import VanceAISandbox
from handlers.sandbox.vanceai import VanceAISettings as VanceAIPlay
from service import secret_key
from service.security.vault import Vault, WrongKey
from service.store import nodes, sealed
from service.store.database import Database, Tx
from service.vendor_memory import StoredMemory
from tests.acceptance.delivery_rig import failing
from tests.acceptance.helpers import ENLARGE, SOON, begun
from tests.acceptance.shop_rig import CONFIG, paper_shop, shop_endpoint
from tests.harness import PATIENCE, Receiver, Stand, receiver, stand

pytestmark = pytest.mark.anyio

OLD, NEW = SecretStr("old" * 12), SecretStr("new" * 12)
OLD_VAULT = Vault(OLD.get_secret_value())
BOTH: dict[str, Any] = {"secret_key": NEW, "secret_keys_old": [OLD]}
HEADERS = {"X-Shop": "of-the-endpoint"}


async def sealed_anew(it: Stand) -> None:
    """Until the store says that the newest key is enough."""
    core = it.wirephoto.core
    async with asyncio.timeout(PATIENCE):
        while await core.db.read(secret_key.needed) != {core.vault.fingerprint}:
            pass


async def still_old(db: Database) -> dict[str, int]:
    return await db.read(sealed.count, lambda text: OLD_VAULT.is_newest(text), 10)


async def secrets_of(it: Stand, endpoint: dict[str, Any]) -> list[str]:
    _, own = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/secret")
    _, project = await it.client.call("GET", "/v1/webhook-secret")
    _, public = await it.client.call("GET", "/v1/signing-key")
    return [own["secret"], project["secret"], public["public_key"]]


def memory(it: Stand) -> StoredMemory:
    core = it.wirephoto.core
    return StoredMemory(core.db, core.vault, core.clock, "vanceai", "account")


def believed(shop: Receiver, *keys: str) -> None:
    for got in shop.got:
        for key in keys:
            standardwebhooks.verify(key, got.headers, got.body, int(got.headers["webhook-timestamp"]))
        assert got.headers["x-shop"] == "of-the-endpoint"


async def test_the_key_is_changed_under_load_and_the_old_one_may_go(tmp_path: Path, photo: Path) -> None:
    async with (
        receiver() as shop,
        receiver() as own,
        VanceAISandbox(VanceAIPlay(work_seconds=0, poll_seconds=0)) as vanceai,
    ):
        soon: dict[str, Any] = {"retry_schedule": [0.2] * 50, "vanceai": vanceai, **SOON}
        failing(shop, 500)
        terms = {"signatures": ["v1", "v1a"], "headers": HEADERS}
        async with stand(tmp_path, secret_key=OLD, **soon) as it:
            endpoint = await it.client.subscribe(shop.url, **terms)
            _, rotated = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/rotate-secret")
            _, from_before = await it.client.call("GET", "/v1/signing-key")
            await it.client.call("POST", "/v1/signing-key/rotate")
            before = await secrets_of(it, endpoint)
            assert before[2] != from_before["public_key"]
            assert before[0] == rotated["secret"] != endpoint["secret"]
            await memory(it).keep("token", "of-the-vendor")
            lamps = await shop_endpoint(it.client)
            # What is owed, and a job with its own webhook, are left over for the service with the new key.
            first = await begun(it.client, ENLARGE, photo, webhook=own.url)
            await shop.wait_for(1)
        shop.answers.clear()
        shop.got.clear()
        async with stand(tmp_path, **BOTH, **soon) as it:
            second = await begun(it.client, ENLARGE, photo, webhook=own.url)
            await sealed_anew(it)
            assert await still_old(it.wirephoto.core.db) == {}
            assert await secrets_of(it, endpoint) == before
        # The old key is gone for good.
        async with stand(tmp_path, secret_key=NEW, **soon) as it:
            assert await secrets_of(it, endpoint) == before
            assert await memory(it).recall("token") == "of-the-vendor"
            paper = paper_shop(it)
            await it.client.call("POST", f"/v1/endpoints/{lamps['id']}/test")
            assert [target.shop and target.shop.secrets for target in paper.seen] == [{"api_key": CONFIG["api_key"]}]
            third = await begun(it.client, ENLARGE, photo, webhook=own.url)
            for job in (first, second, third):
                assert (await shop.event_of(job, "job.succeeded"))["data"]["state"] == "succeeded"
                await own.event_of(job, "job.succeeded")
        believed(shop, endpoint["secret"], from_before["public_key"], *before[::2])
        for got in own.got:
            got.verified(before[1])
        # And the old key alone is refused now: the store knows that nothing is sealed with it.
        with pytest.raises(WrongKey):
            async with stand(tmp_path, secret_key=OLD):
                pass


async def test_links_to_pictures_open_as_long_as_the_key_that_signed_them_is_listed(
    tmp_path: Path, photo: Path
) -> None:
    async with stand(tmp_path, secret_key=OLD) as it:
        _, job = await it.client.submit(ENLARGE, photo, headers={"Prefer": "wait=20"})
        link = job["outputs"][0]["url"].partition("/v1/")[2]
    for settings, status in ((BOTH, 200), ({"secret_key": NEW}, 403)):
        async with stand(tmp_path, **settings) as it:
            await sealed_anew(it)
            assert (await it.client.call("GET", f"/v1/{link}", key=""))[0] == status


async def test_a_secret_that_is_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """Sealed anew is what was read; where another stands there now, that one stays."""
    async with stand(tmp_path, secret_key=OLD) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url)
        db, place = it.wirephoto.core.db, sealed.PLACES["endpoints' secrets"]
        (held,) = await db.read(sealed.page, place, place.first, 10)
        _, rotated = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/rotate-secret")
        await db.write(sealed.change, place, [sealed.Change(held.key, held.text, "sealed anew too late")])
        _, now = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/secret")
        assert now["secret"] == rotated["secret"]


async def test_it_goes_on_where_a_crash_left_it(tmp_path: Path) -> None:
    async with stand(tmp_path, secret_key=OLD) as it, receiver() as shop:
        made = [await it.client.subscribe(f"{shop.url}/{number}") for number in range(3)]
        db, place = it.wirephoto.core.db, sealed.PLACES["endpoints' secrets"]
        # One is done already.
        (first, *_) = await db.read(sealed.page, place, place.first, 10)
        vault = Vault(NEW.get_secret_value(), [OLD.get_secret_value()])
        change = sealed.Change(first.key, first.text, vault.sealed_anew(first.text))
        await db.write(sealed.change, place, [change])
    async with stand(tmp_path, **BOTH) as it:
        await sealed_anew(it)
    async with stand(tmp_path, secret_key=NEW) as it:
        for endpoint in made:
            _, told = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/secret")
            assert told["secret"] == endpoint["secret"]


async def test_the_old_key_is_kept_as_needed_while_a_node_seals_with_it(tmp_path: Path) -> None:
    """Two nodes, one of which has not been restarted yet: both keys stay until it has."""

    async def joins(tx: Tx) -> int:
        await secret_key.join(tx, Vault(OLD.get_secret_value(), [NEW.get_secret_value()]))
        return await nodes.add(tx, it.wirephoto.core.clock.now(), OLD_VAULT.fingerprint)

    async with stand(tmp_path, **BOTH) as it:
        core = it.wirephoto.core
        await sealed_anew(it)
        other = await core.db.write(joins)
        newest = await core.db.read(nodes.newest)
        assert not await core.db.write(secret_key.only, core.vault, newest)
        assert len(await core.db.read(secret_key.needed)) == 2
        await core.db.write(nodes.end, other, core.clock.now())
        # It may have sealed something while somebody else looked: only who begins to look now can be sure.
        assert not await core.db.write(secret_key.only, core.vault, newest - 1)
        assert await core.db.write(secret_key.only, core.vault, newest)
        assert await core.db.read(secret_key.needed) == {core.vault.fingerprint}


async def test_a_secret_that_no_key_opens_holds_nothing_up(tmp_path: Path) -> None:
    async with stand(tmp_path, secret_key=OLD) as it, receiver() as shop:
        shop.answers = [web.Response(status=204)]
        endpoint = await it.client.subscribe(shop.url)
        db, place = it.wirephoto.core.db, sealed.PLACES["what vendors' accounts remember"]
        await memory(it).keep("token", "of-the-vendor")
        (held,) = await db.read(sealed.page, place, place.first, 10)
        await db.write(sealed.change, place, [sealed.Change(held.key, held.text, "spoilt")])
    async with stand(tmp_path, **BOTH) as it:
        await sealed_anew(it)
        _, told = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/secret")
        assert told["secret"] == endpoint["secret"]
