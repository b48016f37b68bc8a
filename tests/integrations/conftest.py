"""What the tests of integrations begin with; each is marked, so that only `make integrations` runs them."""

from pathlib import Path

import pytest

from tests.acceptance.helpers import small

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integrations)


@pytest.fixture
def photo(photos: Path, tmp_path: Path) -> Path:
    return small(photos, tmp_path)
