"""What every killing needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests import stores
from tests.crash.scene import Launch, launching


@pytest.fixture(scope="package")
def launch() -> Iterator[Launch]:
    with launching() as started:
        yield started


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.again)], autouse=True)
def everywhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which database the killed service has. The database itself lives on."""
    if request.param == "postgres":
        stores.use(request.getfixturevalue("postgres"))
    yield request.param
    stores.use(None)


@pytest.fixture
def photo(photos: Path, tmp_path: Path) -> Path:
    """Large enough for every filter, and quick."""
    path = tmp_path / "small.jpg"
    with Image.open(photos / "cat.jpg") as image:
        image.resize((96, 64)).save(path)
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
