"""What we sign is believed by software that is not ours, and what was tampered with is not.

`standardwebhooks` from PyPI and from npm for v1, Node's own crypto and openssl for v1a; each judges real deliveries.
"""

import base64
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.acceptance.helpers import ENLARGE, done
from tests.harness import Received, Stand, receiver
from tests.node_tools import judged

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def by_pypi(got: Received, secret: str) -> bool:
    try:
        Webhook(secret).verify(got.body, dict(got.headers))
    except WebhookVerificationError:
        return False
    return True


def by_npm(got: Received, secret: str) -> dict[str, Any]:
    return {"judge": "standardwebhooks", "secret": secret, **_told(got)}


def by_node(got: Received, jwk: Mapping[str, str]) -> dict[str, Any]:
    return {"judge": "crypto", "jwk": jwk, **_told(got)}


def by_openssl(got: Received, public_key: str, folder: Path) -> bool:
    """As README tells it, to the letter."""
    program = shutil.which("openssl")
    assert program is not None, "openssl is missing: the tests need it, version 3, to have signatures judged by others"
    block = re.search(r"```sh\n(# v1a\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    (folder / "body.json").write_bytes(got.body)
    given = {name.upper().replace("-", "_"): value for name, value in _told(got)["headers"].items()}
    ran = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", block[1]],
        cwd=folder,
        env={"PATH": str(Path(program).parent) + ":/usr/bin:/bin", "PUBLIC_KEY": public_key, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Verified Successfully" in ran.stdout or "Verification Failure" in ran.stdout, ran
    return ran.returncode == 0


def _told(got: Received) -> dict[str, Any]:
    headers = {name: value for name, value in got.headers.items() if name.startswith("webhook-")}
    return {"headers": headers, "body": base64.b64encode(got.body).decode()}


def tampered(got: Received) -> list[Received]:
    """The same with another body, another id, another time."""
    later = str(int(got.headers["webhook-timestamp"]) + 1)
    return [
        replace(got, body=got.body + b" "),
        replace(got, headers={**got.headers, "webhook-id": "evt_another"}),
        replace(got, headers={**got.headers, "webhook-timestamp": later}),
    ]


async def test_every_kind_of_signature_is_believed_by_software_that_is_not_ours(
    it: Stand, photo: Path, tmp_path: Path
) -> None:
    async with receiver() as both, receiver() as alone:
        endpoint = await it.client.subscribe(both.url, signatures=["v1", "v1a"], events=["job.succeeded"])
        await it.client.subscribe(alone.url, signatures=["v1a"], format="cloudevents", events=["job.succeeded"])
        await done(it.client, ENLARGE, photo)
        (listed,), (public,) = await both.wait_for(1), await alone.wait_for(1)
        _, key = await it.client.call("GET", "/v1/signing-key")
        _, jwks = await it.client.call("GET", "/.well-known/jwks.json", key="")
        (jwk,) = (entry for entry in jwks["keys"] if entry["kid"] == key["kid"])
        secret = endpoint["secret"]
        wrong = tampered(listed)
        assert by_pypi(listed, secret)
        assert not any(by_pypi(bad, secret) for bad in wrong)
        verdicts = judged(
            [
                *(by_npm(got, secret) for got in (listed, *wrong)),
                *(by_node(got, jwk) for got in (listed, public, *wrong)),
            ]
        )
        assert verdicts == [True, False, False, False, True, True, False, False, False]
        assert [by_openssl(got, key["public_key"], tmp_path) for got in (listed, public, *wrong)] == [
            *(True, True),
            *(False, False, False),
        ]


async def test_during_a_rotation_both_secrets_are_believed_by_software_that_is_not_ours(it: Stand, photo: Path) -> None:
    async with receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, signatures=["v1", "v1a"], events=["job.succeeded"])
        _, told = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/rotate-secret")
        await done(it.client, ENLARGE, photo)
        (got,) = await shop.wait_for(1)
        assert len(got.headers["webhook-signature"].split(" ")) == 3
        secrets = (endpoint["secret"], told["secret"])
        assert all(by_pypi(got, secret) for secret in secrets)
        assert judged([by_npm(got, secret) for secret in secrets]) == [True, True]


async def test_during_a_rotation_both_keys_are_believed_by_software_that_is_not_ours(
    it: Stand, photo: Path, tmp_path: Path
) -> None:
    async with receiver() as shop:
        endpoint = await it.client.subscribe(shop.url, signatures=["v1", "v1a"], events=["job.succeeded"])
        _, old = await it.client.call("GET", "/v1/signing-key")
        _, new = await it.client.call("POST", "/v1/signing-key/rotate")
        await done(it.client, ENLARGE, photo)
        (got,) = await shop.wait_for(1)
        assert [entry.partition(",")[0] for entry in got.headers["webhook-signature"].split(" ")] == [
            "v1",
            "v1a",
            "v1a",
        ]
        # Who knows no v1a passes over both.
        assert by_pypi(got, endpoint["secret"])
        _, jwks = await it.client.call("GET", "/.well-known/jwks.json", key="")
        by_kid = {entry["kid"]: entry for entry in jwks["keys"]}
        assert list(by_kid) == [old["kid"], new["kid"]]
        wrong = tampered(got)
        verdicts = judged(
            [
                by_npm(got, endpoint["secret"]),
                *(by_node(one, by_kid[key["kid"]]) for key in (old, new) for one in (got, *wrong)),
            ]
        )
        assert verdicts == [True, *([True, False, False, False] * 2)]
        openssl = [by_openssl(one, key["public_key"], tmp_path) for key in (old, new) for one in (got, *wrong)]
        assert openssl == [True, False, False, False] * 2
