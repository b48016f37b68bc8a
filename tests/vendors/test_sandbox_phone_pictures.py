"""Phones write several JPEGs into one file (MPO): to everybody but Pillow that is a JPEG."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.helpers import ENLARGE, done
from tests.harness import stand

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("operation", [ENLARGE, "picwish/self-face-cutout"])
async def test_a_phones_picture_goes_the_whole_way(tmp_path: Path, operation: str) -> None:
    first, second = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (32, 24), "blue")
    held = io.BytesIO()
    first.save(held, "MPO", save_all=True, append_images=[second])
    photo = tmp_path / "phone.jpg"
    photo.write_bytes(held.getvalue())
    with Image.open(photo) as phone:
        assert phone.format == "MPO"
    async with stand(tmp_path / "data") as it:
        assert (await done(it.client, operation, photo))["state"] == "succeeded"
