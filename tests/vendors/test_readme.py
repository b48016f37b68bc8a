"""The table of acceptance ids is true: each id has its row, and every test that a row names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in Path(__file__).with_name("README.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]{2}-\d\d ", line)
]
# Written together with what they test: the pacer.
YET_TO_COME = frozenset({"PF-06", "PF-07"})


def test_every_id_has_one_row() -> None:
    ids = [row[0] for row in ROWS]
    assert [name for name in ids if name.startswith("PF")] == [f"PF-{number:02}" for number in range(1, 14)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] not in YET_TO_COME], ids=lambda row: row[0])
def test_every_test_that_is_named_exists(row: list[str]) -> None:
    named = 0
    for part in row[2].split(";"):
        file, *tests = re.findall(r"`([^`]+)`", part)
        source = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        there = {node.name for node in source.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert set(tests) <= there, (file, set(tests) - there)
        named += len(tests)
    assert named > 0
