"""Killed while a project's signing key is rotated: there is one key, or both are there and sign; never none."""

from pathlib import Path

import aiohttp
import pytest

from handlers import standardwebhooks
from tests.crash.scene import ENLARGE, Launch, scene

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("overlap", [3_600, 0])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_rotation_is_whole_or_has_not_been(
    launch: Launch, data_dir: Path, photo: Path, when: str, overlap: int
) -> None:
    async with scene(launch, data_dir, photo) as place:
        service = await place.start(f"{when}:signing.rotate_key:1")
        await place.client.subscribe(place.receiver.url, events=["job.succeeded"], signatures=["v1a"])
        _, old = await place.client.call("GET", "/v1/signing-key")
        with pytest.raises(aiohttp.ClientError):
            await place.client.call("POST", "/v1/signing-key/rotate", json={"overlap_seconds": overlap})
        await service.killed()
        await place.start()
        _, new = await place.client.call("GET", "/v1/signing-key")
        assert (new == old) == (when == "before")
        keys = [new] if when == "before" or overlap == 0 else [old, new]
        _, jwks = await place.client.call("GET", "/.well-known/jwks.json", key="")
        assert [key["kid"] for key in jwks["keys"]] == [key["kid"] for key in keys]
        await place.receiver.event_of(await place.submit(ENLARGE), "job.succeeded")
        (got,) = await place.receiver.wait_for(1)
        assert len(got.headers["webhook-signature"].split(" ")) == len(keys)
        for key in keys:
            at = int(got.headers["webhook-timestamp"])
            standardwebhooks.verify(key["public_key"], got.headers, got.body, at)
