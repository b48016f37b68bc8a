"""What a start makes of its settings, where the settings alone don't show it."""

from pathlib import Path

import pytest

from tests.acceptance.made import picture, upload
from tests.harness import stand

pytestmark = pytest.mark.anyio


async def test_pictures_lie_in_the_folder_that_assets_url_names(tmp_path: Path) -> None:
    folder = tmp_path / "pictures of ours"
    async with stand(tmp_path / "data", assets_url=folder.as_uri()) as it:
        asset = await upload(it, picture())
        status, body = await it.client.call("GET", f"/v1/assets/{asset['id']}/content")
    assert (status, body) == (200, picture())
    assert (folder / asset["sha256"][:2] / asset["sha256"]).read_bytes() == picture()
    assert not (tmp_path / "data" / "assets").exists()
