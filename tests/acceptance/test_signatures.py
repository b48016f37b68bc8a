"""How deliveries are signed: by secret, by public key, by both, and while a secret is rotated."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from handlers import standardwebhooks
from service.pipeline.signing import MOST_OLD_SECRETS
from tests.acceptance.delivery_rig import QUEUED, Rig, at, failing, rig
from tests.acceptance.helpers import ENLARGE, done
from tests.acceptance.test_api_tenants import tenant
from tests.harness import Client, Received, Receiver, Stand, receiver, stand

pytestmark = pytest.mark.anyio

HOUR = 3_600


async def public_key(client: Client) -> str:
    status, told = await client.call("GET", "/v1/signing-key")
    assert status == 200
    return str(told["public_key"])


async def rotated(client: Client, endpoint: dict[str, Any], **body: Any) -> dict[str, Any]:
    path = f"/v1/endpoints/{endpoint['id']}/rotate-secret"
    status, told = await client.call("POST", path, json=body or None)
    assert status == 200, told
    made: dict[str, Any] = told
    return made


def versions(got: Received) -> list[str]:
    listed = got.headers["webhook-signature"]
    assert listed == " ".join(listed.split()), "nothing but single spaces"
    return [entry.partition(",")[0] for entry in listed.split(" ")]


def fits(got: Received, key: str) -> bool:
    try:
        standardwebhooks.verify(key, got.headers, got.body, int(got.headers["webhook-timestamp"]))
    except standardwebhooks.InvalidSignature:
        return False
    return True


async def next_one(it: Rig, shop: Receiver) -> Received:
    event = await it.event()
    await shop.until(lambda: any(got.headers["webhook-id"] == event for got in shop.got))
    return next(got for got in shop.got if got.headers["webhook-id"] == event)


async def test_each_endpoint_gets_the_signatures_it_asked_for_and_no_other(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        for signatures in (["v1"], ["v1a"], ["v1", "v1a"], ["v1a", "v1"]):
            async with receiver() as shop:
                endpoint = await it.client.subscribe(shop.url, events=QUEUED, signatures=signatures)
                got = await next_one(it, shop)
                assert versions(got) == sorted(signatures), "v1 first"
                assert fits(got, endpoint["secret"]) == ("v1" in signatures)
                assert fits(got, await public_key(it.client)) == ("v1a" in signatures)
                await it.client.call("DELETE", f"/v1/endpoints/{endpoint['id']}")


async def test_an_endpoint_can_ask_for_v1a_later(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        assert versions(await next_one(it, shop)) == ["v1"]
        path = f"/v1/endpoints/{endpoint['id']}"
        assert (await it.client.call("PATCH", path, json={"signatures": ["v1a"]}))[0] == 200
        got = await next_one(it, shop)
        assert versions(got) == ["v1a"]
        assert fits(got, await public_key(it.client))


async def test_each_project_has_one_key_and_the_jwks_has_them_all(it: Stand) -> None:
    stranger = await tenant(it)
    own, others = [await public_key(who.client) for who in (it, stranger)]
    assert own != others
    assert await public_key(it.client) == own
    status, told, headers = await it.client.call_full("GET", "/.well-known/jwks.json", key="")
    assert status == 200
    assert headers["Cache-Control"] == "public, max-age=300"
    assert [key["kty"] + key["crv"] + key["alg"] + key["use"] for key in told["keys"]] == ["OKPEd25519EdDSAsig"] * 2
    raw = {base64.urlsafe_b64decode(key["x"] + "=").hex(): key["kid"] for key in told["keys"]}
    for who, public in ((it, own), (stranger, others)):
        _, key = await who.client.call("GET", "/v1/signing-key")
        assert raw[base64.b64decode(public.removeprefix("whpk_")).hex()] == key["kid"]
    for key in told["keys"]:
        Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))


async def test_who_asks_at_once_finds_the_same_key(it: Stand) -> None:
    """Made when it is first needed, by whoever is first; the others wait for it."""
    doors = ["/v1/signing-key", "/.well-known/jwks.json"] * 6
    endpoint = {"url": "https://shop.example/", "signatures": ["v1a"]}
    asked = [it.client.call("GET", door) for door in doors]
    made = [it.client.call("POST", "/v1/endpoints", json=endpoint) for _ in range(4)]
    answers = await asyncio.gather(*asked, *made)
    assert {status for status, _ in answers} == {200, 201}
    kids = {told["kid"] for _, told in answers if "kid" in told}
    listed = {key["kid"] for _, told in answers for key in told.get("keys", ())}
    assert len(kids | listed) == 1


async def test_the_jwks_names_a_project_that_has_signed_nothing_yet(it: Stand) -> None:
    _, told = await it.client.call("GET", "/.well-known/jwks.json", key="")
    (key,) = told["keys"]
    assert (await it.client.call("GET", "/v1/signing-key"))[1]["kid"] == key["kid"]
    assert (await it.client.call("GET", "/.well-known/jwks.json", key=""))[1] == told


async def test_the_key_is_the_same_after_a_restart(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        before = await public_key(it.client)
    async with stand(tmp_path) as it:
        assert await public_key(it.client) == before


async def test_old_and_new_secret_sign_until_the_overlap_ends_without_a_restart(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        told = await rotated(it.client, endpoint, overlap_seconds=HOUR)
        assert it.clock.now() + HOUR * 1000 == at(told["old_secret_expires_at"])
        _, current = await it.client.call("GET", f"/v1/endpoints/{endpoint['id']}/secret")
        assert current["secret"] == told["secret"] != endpoint["secret"]
        both = await next_one(it, shop)
        assert versions(both) == ["v1", "v1"]
        assert fits(both, endpoint["secret"])
        assert fits(both, told["secret"])
        it.clock.leap(HOUR * 1000 - 1)
        assert fits(await next_one(it, shop), endpoint["secret"])
        it.clock.leap(1)
        after = await next_one(it, shop)
        assert versions(after) == ["v1"]
        assert fits(after, told["secret"])
        assert not fits(after, endpoint["secret"])


async def test_rotated_again_each_old_secret_signs_as_long_as_was_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        first = endpoint["secret"]
        second = (await rotated(it.client, endpoint, overlap_seconds=HOUR))["secret"]
        third = (await rotated(it.client, endpoint, overlap_seconds=2 * HOUR))["secret"]
        got = await next_one(it, shop)
        assert [fits(got, secret) for secret in (first, second, third)] == [True, True, True]
        it.clock.leap(HOUR * 1000)
        got = await next_one(it, shop)
        assert [fits(got, secret) for secret in (first, second, third)] == [False, True, True]
        # With no overlap nothing but the new one is believed, at once.
        fourth = (await rotated(it.client, endpoint, overlap_seconds=0))["secret"]
        got = await next_one(it, shop)
        assert versions(got) == ["v1"]
        assert fits(got, fourth)


async def test_so_many_old_secrets_sign_and_one_more_is_refused_rather_than_one_dropped(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        path = f"/v1/endpoints/{endpoint['id']}/rotate-secret"
        for _ in range(MOST_OLD_SECRETS):
            newest = await rotated(it.client, endpoint)
        status, problem = await it.client.call("POST", path)
        assert (status, problem["type"]) == (409, "urn:wirephoto:problem:too_many_rotations")
        got = await next_one(it, shop)
        assert fits(got, endpoint["secret"])
        assert fits(got, newest["secret"])
        it.clock.leap(24 * HOUR * 1000)
        assert (await it.client.call("POST", path))[0] == 200


async def test_a_retry_is_signed_with_the_secrets_of_its_own_time(tmp_path: Path) -> None:
    async with rig(tmp_path) as it, receiver() as shop:
        failing(shop)
        endpoint = await it.client.subscribe(shop.url, events=QUEUED)
        event = await it.event()
        first = await it.tried(event, endpoint, 1)
        told = await rotated(it.client, endpoint, overlap_seconds=60)
        it.pass_until(first["next_attempt_at"])
        second = await it.tried(event, endpoint, 2)
        it.clock.leap(60_000)
        it.pass_until(second["next_attempt_at"])
        await it.tried(event, endpoint, 3)
        assert [versions(got) for got in shop.got] == [["v1"], ["v1", "v1"], ["v1"]]
        assert [fits(got, endpoint["secret"]) for got in shop.got] == [True, True, False]
        assert [fits(got, told["secret"]) for got in shop.got] == [False, True, True]


async def test_a_rotation_outlives_a_restart(tmp_path: Path) -> None:
    async with receiver() as shop:
        async with rig(tmp_path) as it:
            endpoint = await it.client.subscribe(shop.url, events=QUEUED)
            told = await rotated(it.client, endpoint)
        async with rig(tmp_path) as it:
            got = await next_one(it, shop)
        assert fits(got, endpoint["secret"])
        assert fits(got, told["secret"])


@pytest.mark.parametrize("overlap", [-1, 604_801, 1.5, "day", None])
async def test_an_overlap_that_is_none_is_refused_and_changes_nothing(it: Stand, overlap: Any) -> None:
    async with receiver() as shop:
        endpoint = await it.client.subscribe(shop.url)
        path = f"/v1/endpoints/{endpoint['id']}"
        status, problem = await it.client.call("POST", f"{path}/rotate-secret", json={"overlap_seconds": overlap})
        assert (status, problem["errors"][0]["field"]) == (422, "overlap_seconds")
        assert (await it.client.call("GET", f"{path}/secret"))[1]["secret"] == endpoint["secret"]


async def test_a_jobs_own_webhook_keeps_the_projects_secret_of_its_beginning(it: Stand, photo: Path) -> None:
    async with receiver() as own:
        secrets = [(await it.client.call("GET", "/v1/webhook-secret"))[1]["secret"]]
        await done(it.client, ENLARGE, photo, webhook=own.url)
        status, told = await it.client.call("POST", "/v1/webhook-secret/rotate")
        assert status == 200
        assert (await it.client.call("GET", "/v1/webhook-secret"))[1] == told
        secrets.append(told["secret"])
        await done(it.client, ENLARGE, photo, webhook=own.url)
        first, second = await own.wait_for(2)
        assert [[fits(got, secret) for secret in secrets] for got in (first, second)] == [[True, False], [False, True]]
