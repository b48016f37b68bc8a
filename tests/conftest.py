"""What every test may use."""

from pathlib import Path

import pytest

PHOTOS = Path(__file__).parent / "photos"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def photos() -> Path:
    """Real photographs; credits in photos/README.md."""
    return PHOTOS
