"""What most of the acceptance tests begin with: each runs on both databases."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests import stores
from tests.acceptance.command_line import Service, serving
from tests.acceptance.helpers import small
from tests.harness import Stand, stand
from tests.postgres import Server
from tests.s3 import S3, s3_server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.again)], autouse=True)
def everywhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which database the test's services have."""
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        stores.use(server)
    yield request.param
    stores.use(None)


@pytest.fixture(scope="module")
def s3_of_module() -> Iterator[S3]:
    with s3_server("results") as it:
        yield it


@pytest.fixture
def s3(s3_of_module: S3) -> Iterator[S3]:
    """An empty bucket, there again after a test that sent it away."""
    s3_of_module.empty()
    yield s3_of_module
    s3_of_module.stop()
    s3_of_module.start()


@pytest.fixture
def photo(photos: Path, tmp_path: Path) -> Path:
    return small(photos, tmp_path)


@pytest.fixture
async def it(tmp_path: Path, everywhere: str) -> AsyncIterator[Stand]:  # noqa: ARG001 - it says which database
    async with stand(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all commands: each test looks only at what it made itself."""
    with serving(tmp_path_factory.mktemp("service")) as it:
        yield it
