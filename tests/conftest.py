"""What every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.fast import FastHttp
from handlers.http import Http
from tests.postgres import Server, server
from tests.unit.http_servers import Kind

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


@pytest.fixture(params=[Http, FastHttp], ids=["aiohttp", "fast"])
def each_client(request: pytest.FixtureRequest) -> Iterator[None]:
    """For modules whose promises both outbound clients keep."""
    Kind.now = request.param
    yield
    Kind.now = Http
