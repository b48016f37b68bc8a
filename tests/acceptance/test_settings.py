"""What a start makes of its settings, where the settings alone don't show it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from service.vendor_settings import AILabToolsSettings
from tests.acceptance.made import picture, upload
from tests.harness import stand

pytestmark = pytest.mark.anyio


async def test_credentials_for_a_vendor_that_this_version_cannot_use_are_never_passed_over_in_silence(
    tmp_path: Path,
) -> None:
    given: dict[str, Any] = {
        "ailabtools": AILabToolsSettings(api_key=SecretStr("hunter2")),
    }
    with capture_logs() as told:
        async with stand(tmp_path, **given) as it:
            _, listed = await it.client.call("GET", "/v1/operations")
    assert not {operation["vendor"] for operation in listed["data"]} & set(given)
    warned = [entry for entry in told if entry["event"] == "vendor.no_handler"]
    assert [(entry["log_level"], entry["vendor"]) for entry in warned] == [("warning", "ailabtools")]
    assert "hunter2" not in str(told)


async def test_pictures_lie_in_the_folder_that_assets_url_names(tmp_path: Path) -> None:
    folder = tmp_path / "pictures of ours"
    async with stand(tmp_path / "data", assets_url=folder.as_uri()) as it:
        asset = await upload(it, picture())
        status, body = await it.client.call("GET", f"/v1/assets/{asset['id']}/content")
    assert (status, body) == (200, picture())
    assert (folder / asset["sha256"][:2] / asset["sha256"]).read_bytes() == picture()
    assert not (tmp_path / "data" / "assets").exists()
