"""A project's signing key is rotated: who signs when, what the JWKS has, and that nobody else's changes."""

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.pipeline import target
from service.pipeline.retry import HOUR
from service.pipeline.signing import MOST_OLD_SECRETS, MOST_PUBLISHED
from service.store import sealed
from tests.acceptance.delivery_rig import QUEUED, Rig, at, failing, rig
from tests.acceptance.listening import listening, made
from tests.acceptance.test_api_tenants import tenant, with_role
from tests.acceptance.test_retention import DAY, NEXT_PASS, ONE_DAY, _come, _in_a_pass
from tests.acceptance.test_signatures import fits, next_one, versions
from tests.harness import PATIENCE, Client, Received, Stand, receiver
from tests.store.rows import all_rows
from tests.stores import SlowLook

pytestmark = pytest.mark.anyio

V1A = {"events": QUEUED, "signatures": ["v1a"]}
BOTH = {"events": QUEUED, "signatures": ["v1", "v1a"]}
KEY, ROTATE = "/v1/signing-key", "/v1/signing-key/rotate"


async def current(client: Client) -> dict[str, Any]:
    status, told = await client.call("GET", KEY)
    assert status == 200
    key: dict[str, Any] = told
    return key


async def rotated(client: Client, **body: Any) -> dict[str, Any]:
    status, told = await client.call("POST", ROTATE, json=body or None)
    assert status == 200, told
    key: dict[str, Any] = told
    return key


async def published(client: Client) -> dict[str, str]:
    """The public keys of the JWKS, as `whpk_…`, by their names."""
    status, told = await client.call("GET", "/.well-known/jwks.json", key="")
    assert status == 200
    raw = {key["kid"]: base64.urlsafe_b64decode(key["x"] + "=") for key in told["keys"]}
    assert len(raw) == len(told["keys"]), "a name means one key"
    return {kid: f"whpk_{base64.b64encode(key).decode()}" for kid, key in raw.items()}


def fit(got: Received, *keys: dict[str, Any]) -> list[bool]:
    return [fits(got, key["public_key"]) for key in keys]


def by(got: Received, number: int) -> Received:
    """As if it had only one of its signatures."""
    return replace(
        got, headers={**got.headers, "webhook-signature": got.headers["webhook-signature"].split(" ")[number]}
    )


async def test_old_and_new_key_sign_until_the_overlap_ends_without_a_restart(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, **BOTH)
        old = await current(it.client)
        assert versions(await next_one(it, shop)) == ["v1", "v1a"]
        new = await rotated(it.client, overlap_seconds=3_600)
        assert at(new.pop("old_key_expires_at")) == it.clock.now() + HOUR
        assert await current(it.client) == new
        both = await next_one(it, shop)
        assert versions(both) == ["v1", "v1a", "v1a"]
        assert fit(by(both, 1), old, new) == [False, True]
        assert fit(by(both, 2), old, new) == [True, False]
        assert fits(both, endpoint["secret"])
        known = {key["kid"]: key["public_key"] for key in (old, new)}
        assert await published(it.client) == known
        it.clock.leap(HOUR - 1)
        assert fit(await next_one(it, shop), old, new) == [True, True]
        it.clock.leap(1)
        after = await next_one(it, shop)
        assert versions(after) == ["v1", "v1a"]
        assert fit(after, old, new) == [False, True]
        assert await published(it.client) == known, "what came late can still be checked"


async def test_a_day_is_what_nobody_who_says_nothing_else_gets(it: Stand) -> None:
    before = it.wirephoto.core.clock.now()
    told = await rotated(it.client)
    after = it.wirephoto.core.clock.now()
    assert before + DAY <= at(told["old_key_expires_at"]) <= after + DAY
    # Nobody had needed a key yet, and yet it had one.
    assert len(await published(it.client)) == 2


async def test_rotated_again_each_old_key_signs_as_long_as_was_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url, **V1A)
        first = await current(it.client)
        second = await rotated(it.client, overlap_seconds=3_600)
        third = await rotated(it.client, overlap_seconds=7_200)
        got = await next_one(it, shop)
        for number, key in enumerate((third, second, first)):
            assert fit(by(got, number), key) == [True], "the newest first"
        it.clock.leap(HOUR)
        assert fit(await next_one(it, shop), first, second, third) == [False, True, True]
        fourth = await rotated(it.client, overlap_seconds=60)
        assert fit(await next_one(it, shop), second, third, fourth) == [True, True, True]
        it.clock.leap(60_000)
        assert fit(await next_one(it, shop), second, third, fourth) == [True, False, True]


async def test_a_key_that_leaked_signs_no_more_and_is_published_no_more_from_that_moment(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url, **V1A)
        keys = [await current(it.client)]
        keys.append(await rotated(it.client, overlap_seconds=1))
        it.clock.leap(1_000)
        keys.append(await rotated(it.client))
        assert fit(await next_one(it, shop), *keys) == [False, True, True]
        assert len(await published(it.client)) == 3
        good = await rotated(it.client, overlap_seconds=0)
        assert at(good["old_key_expires_at"]) == it.clock.now()
        assert await published(it.client) == {good["kid"]: good["public_key"]}
        got = await next_one(it, shop)
        assert versions(got) == ["v1a"]
        assert fit(got, *keys, good) == [False, False, False, True]


async def test_so_many_old_keys_sign_and_one_more_is_refused_rather_than_one_dropped(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url, **V1A)
        keys = [await current(it.client), *[await rotated(it.client) for _ in range(MOST_OLD_SECRETS)]]
        status, problem = await it.client.call("POST", ROTATE)
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:too_many_rotations")
        assert await current(it.client) == {name: keys[-1][name] for name in ("public_key", "kid")}
        assert list(await published(it.client)) == [key["kid"] for key in keys]
        assert all(fit(await next_one(it, shop), *keys))
        it.clock.leap(DAY)
        assert (await it.client.call("POST", ROTATE))[0] == 200


async def test_a_retry_is_signed_with_the_keys_of_its_own_time(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        failing(shop)
        endpoint = await it.client.subscribe(shop.url, **BOTH)
        old = await current(it.client)
        event = await it.event()
        first = await it.tried(event, endpoint, 1)
        new = await rotated(it.client, overlap_seconds=60)
        it.pass_until(first["next_attempt_at"])
        second = await it.tried(event, endpoint, 2)
        it.clock.leap(60_000)
        it.pass_until(second["next_attempt_at"])
        third = await it.tried(event, endpoint, 3)
        leaked = await rotated(it.client, overlap_seconds=0)
        it.pass_until(third["next_attempt_at"])
        await it.tried(event, endpoint, 4)
        assert [fit(got, old, new, leaked) for got in shop.got] == [
            [True, False, False],
            [True, True, False],
            [False, True, False],
            [False, False, True],
        ]
        for got in shop.got:
            assert fits(got, endpoint["secret"])


async def test_a_rotation_outlives_a_restart(tmp_path: Path) -> None:
    async with receiver() as shop:
        async with rig(tmp_path) as it:
            await it.client.subscribe(shop.url, **V1A)
            old = await current(it.client)
            new = await rotated(it.client)
        async with rig(tmp_path) as it:
            assert fit(await next_one(it, shop), old, new) == [True, True]


async def test_another_projects_key_is_untouched(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop, receiver() as theirs:
        stranger = Rig(it.stand, it.clock)
        stranger.client = (await tenant(it.stand)).client
        await it.client.subscribe(shop.url, **V1A)
        await stranger.client.subscribe(theirs.url, **V1A)
        own, others = await current(it.client), await current(stranger.client)
        await next_one(stranger, theirs)
        for overlap in (86_400, 0):
            new = await rotated(it.client, overlap_seconds=overlap)
            assert await current(stranger.client) == others
            assert (await published(it.client))[others["kid"]] == others["public_key"]
            got = await next_one(stranger, theirs)
            assert versions(got) == ["v1a"]
            assert fit(got, own, others, new) == [False, True, False]


async def test_who_only_reads_rotates_nothing(it: Stand) -> None:
    reader = await with_role(it, "read")
    before = await current(it.client)
    assert (await reader.client.call("POST", ROTATE))[0] == 403
    assert await current(reader.client) == before
    assert (await (await with_role(it, "write")).client.call("POST", ROTATE))[0] == 200


@pytest.mark.parametrize("overlap", [-1, 604_801, 1.5, "day", None])
async def test_an_overlap_that_is_none_is_refused_and_changes_nothing(it: Stand, overlap: Any) -> None:
    before = await current(it.client)
    status, problem = await it.client.call("POST", ROTATE, json={"overlap_seconds": overlap})
    assert (status, problem["errors"][0]["field"]) == (422, "overlap_seconds")
    assert await current(it.client) == before
    assert len(await published(it.client)) == 1


async def test_rotations_at_once_are_one_after_the_other_and_none_is_lost(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url, **V1A)
        old = await current(it.client)
        answers = await asyncio.gather(*(it.client.call("POST", ROTATE) for _ in range(MOST_OLD_SECRETS + 3)))
        assert sorted(status for status, _ in answers) == [200] * MOST_OLD_SECRETS + [409] * 3
        keys = [old, *(told for status, told in answers if status == 200)]
        listed = await published(it.client)
        assert listed == {key["kid"]: key["public_key"] for key in keys}
        assert (await current(it.client))["kid"] == list(listed)[-1]
        got = await next_one(it, shop)
        assert versions(got) == ["v1a"] * len(keys)
        assert all(fit(got, *keys))


async def test_what_a_streams_client_is_handed_is_signed_with_the_keys_of_its_own_time(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        endpoint = await made(it.client, signatures=["v1", "v1a"])
        old = await current(it.client)
        async with listening(it.client, endpoint) as listener:

            async def handed() -> Received:
                await it.event()
                taken = await listener.take()
                await listener.answer(taken)
                got = Received(taken["headers"], taken["body"].encode())
                assert fits(got, endpoint["secret"])
                return got

            assert fit(await handed(), old) == [True]
            new = await rotated(it.client, overlap_seconds=60)
            assert fit(await handed(), old, new) == [True, True]
            it.clock.leap(60_000)
            assert fit(await handed(), old, new) == [False, True]
            leaked = await rotated(it.client, overlap_seconds=0)
            assert fit(await handed(), new, leaked) == [False, True]


async def test_a_key_that_is_rotated_while_it_is_looked_up_is_looked_up_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        await it.client.subscribe(shop.url, **V1A)
        old = await current(it.client)
        core = it.stand.wirephoto.core
        slow = SlowLook(core.db, target._of_project)
        core.db = slow
        await it.event()
        async with asyncio.timeout(PATIENCE):
            await slow.looked.wait()
        new = await rotated(it.client, overlap_seconds=0)
        slow.go_on.set()
        (got,) = await shop.wait_for(1)
        assert fit(got, old, new) == [False, True]


async def test_what_no_longer_signs_is_published_as_long_as_the_log_is_kept_and_its_private_half_is_not(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, **ONE_DAY) as it:
        old = await current(it.client)
        new = await rotated(it.client, overlap_seconds=3_600)
        db, vault = it.stand.wirephoto.core.db, it.stand.wirephoto.core.vault

        async def halves() -> dict[str, bool]:
            rows = await db.read(all_rows, "SELECT public_id, private_key FROM signing_keys ORDER BY id")
            return {row["public_id"]: row["private_key"] is not None for row in rows}

        async def dropped() -> bool:
            return not (await halves())[old["kid"]]

        async def unpublished() -> bool:
            return old["kid"] not in await published(it.client)

        assert not await _in_a_pass(it, dropped)
        it.clock.leap(HOUR - NEXT_PASS)
        await _come(it, dropped)
        assert await halves() == {old["kid"]: False, new["kid"]: True}
        # Where there is nothing sealed there is nothing to be sealed anew.
        count = await db.read(sealed.count, vault.is_newest, 10)
        assert count["projects' signing keys"] == 1
        assert await published(it.client) == {key["kid"]: key["public_key"] for key in (old, new)}
        it.clock.leap(DAY - 2 * HOUR)
        assert not await _in_a_pass(it, unpublished)
        it.clock.leap(2 * HOUR)
        await _come(it, unpublished)
        assert await published(it.client) == {new["kid"]: new["public_key"]}


async def test_however_often_a_key_is_rotated_the_jwks_stays_short(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        kids = [(await current(it.client))["kid"]]
        for _ in range(MOST_PUBLISHED + 2):
            kids.append((await rotated(it.client, overlap_seconds=1))["kid"])
            it.clock.leap(1_000)
        assert list(await published(it.client)) == kids[-MOST_PUBLISHED:]
