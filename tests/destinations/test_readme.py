"""The table of outcomes is true: each line of it has its row, and every test that a row names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in Path(__file__).with_name("README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "`tests/" in line
]
OUTCOMES = [
    *("2xx", "410", "webhook-delivery: disable", "webhook-delivery: abort", "429, 502, 503, 504", "429, 503", "3xx"),
    *("other 4xx, 5xx", "time-out", "TLS", "DNS", "refused address", "no connection", "a long body"),
]


def test_every_outcome_has_one_row() -> None:
    assert [row[0] for row in ROWS if len(row) == 3] == OUTCOMES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_test_that_is_named_exists(row: list[str]) -> None:
    named = 0
    for part in row[-1].split(";"):
        file, *tests = re.findall(r"`([^`]+)`", part)
        source = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        there = {node.name for node in source.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert set(tests) <= there, (file, set(tests) - there)
        named += len(tests)
    assert named > 0
