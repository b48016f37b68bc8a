"""The first key: nobody is ever locked out of an installation of their own, and a revoked key lets nobody in."""

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from service.app import running
from service.server import listen, serving
from service.store.database import StoreUnavailable
from tests.faulty_store import faulty_store
from tests.harness import API_KEY, Client, settings_for, stand

pytestmark = pytest.mark.anyio

LATER = "wp_another-key-that-came-later-9876543210"


async def start(folder: Path, shown: list[str]) -> dict[str, int]:
    """One start of the service and its end; the status that each shown key gets from an admin's route."""
    async with AsyncExitStack() as stack:
        settings = settings_for(folder, api_key=None)
        sock = listen(settings)
        stack.callback(sock.close)
        wirephoto = await stack.enter_async_context(running(settings, show_key=shown.append))
        await stack.enter_async_context(serving(wirephoto, sock))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        client = Client(f"http://127.0.0.1:{sock.getsockname()[1]}", http)
        return {key: (await client.call("GET", "/v1/projects", key=key))[0] for key in shown}


async def test_a_first_start_that_fails_before_a_key_was_shown_leaves_the_next_one_to_show_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, api_key=None, ca_file=tmp_path / "there-is-none.pem")
    with pytest.raises(OSError, match="No such file"):
        async with running(settings):
            pass
    async with running(settings_for(tmp_path, api_key=None)) as wirephoto:
        assert wirephoto.made_key is not None


async def test_a_first_start_that_fails_after_a_key_was_shown_shows_another_that_works(tmp_path: Path) -> None:
    shown: list[str] = []
    async with faulty_store(tmp_path) as store:
        store.fails("projects.add_project")
        with pytest.raises(StoreUnavailable):
            async with running(settings_for(tmp_path, api_key=None), database=store, show_key=shown.append):
                pass
    statuses = await start(tmp_path, shown)
    assert list(statuses.values()) == [401, 200]


async def test_a_first_key_is_shown_once_and_works_ever_after(tmp_path: Path) -> None:
    shown: list[str] = []
    for _ in range(2):
        assert list((await start(tmp_path, shown)).values()) == [200]


async def test_a_key_that_the_settings_give_later_is_an_admins(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        status, _ = await it.client.call("GET", "/v1/projects", key=LATER)
        assert status == 401
    async with stand(tmp_path, api_key=SecretStr(LATER)) as it:
        for key in (API_KEY, LATER):
            status, made = await it.client.call("POST", "/v1/projects", key=key, json={"name": "other"})
            assert status == 201, made


async def test_a_revoked_key_in_the_settings_stays_revoked(tmp_path: Path) -> None:
    async with stand(tmp_path):
        pass
    async with stand(tmp_path, api_key=SecretStr(LATER)) as it:
        _, page = await it.client.call("GET", "/v1/keys", key=LATER)
        (first,) = (key for key in page["data"] if key["name"] == "first key")
        assert (await it.client.call("DELETE", f"/v1/keys/{first['id']}", key=LATER))[0] == 204
    async with stand(tmp_path) as it:
        assert (await it.client.call("GET", "/v1/projects"))[0] == 401
        assert (await it.client.call("GET", "/v1/projects", key=LATER))[0] == 200
