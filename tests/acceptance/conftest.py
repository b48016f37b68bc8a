"""What most of the acceptance tests begin with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.helpers import small
from tests.harness import Stand, stand


@pytest.fixture
def photo(photos: Path, tmp_path: Path) -> Path:
    return small(photos, tmp_path)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(tmp_path) as running:
        yield running
