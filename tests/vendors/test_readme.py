"""The table of acceptance ids is true: each id has its row, and every test that a row names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in Path(__file__).with_name("README.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]{1,2}-\d\d ", line)
]
# How many acceptance ids each vendor has, and all of them together.
IDS = {"PF": 13, "VA": 16, "AL": 10, "PW": 10, "X": 6}


def test_every_id_has_one_row() -> None:
    assert [row[0] for row in ROWS] == [
        f"{vendor}-{number:02}" for vendor, count in IDS.items() for number in range(1, count + 1)
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_test_that_is_named_exists(row: list[str]) -> None:
    named = 0
    for part in row[2].split(";"):
        file, *tests = re.findall(r"`([^`]+)`", part)
        source = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        there = {node.name for node in source.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert set(tests) <= there, (file, set(tests) - there)
        named += len(tests)
    assert named > 0
