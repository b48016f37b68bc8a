"""What every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Server, server

PHOTOS = Path(__file__).parent / "photos"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def photos() -> Path:
    """Real photographs; credits in photos/README.md."""
    return PHOTOS


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL for all; each test has a database of its own in it."""
    with server() as it:
        yield it
