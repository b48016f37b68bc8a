"""The bench still runs: every row, with counts that say nothing about speed."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import figures, report
from tests.bench.__main__ import ROWS, main
from tests.bench.figures import QUICK, Place

README = Path(__file__).parents[2] / "README.md"
RESULTS = Path(__file__).parent / "results" / "bench.json"

NAMES = {
    "fsync": ["the disk: 4 KiB appended and synced"],
    "fan-out-10": ["deliveries, fan-out 10"],
    "fan-out-1": ["deliveries, fan-out 1"],
    "v1a": ["deliveries, fan-out 10, v1 and v1a"],
    "latency": ["commit → receiver, p50 at 30 % load", "commit → receiver, p99 at 30 % load"],
    "intake": ["jobs accepted, JSON with an asset"],
    "intake-multipart": ["jobs accepted, multipart with a picture"],
    "streams": ["RSS, added by each of 20 idle streams"],
    "pending": ["RSS, idle", "RSS, added by 200 pending deliveries", "start → ready with 200 pending deliveries"],
}


def _figures(folder: Path, *only: str) -> list[str]:
    rows = [word for row in only for word in ("--only", row)]
    files = ["--json", str(folder / "bench.json"), "--plot", str(folder / "bench.svg")]
    main(["--quick", "--database", "sqlite", "--folder", str(folder), *rows, *files])
    measured = json.loads((folder / "bench.json").read_text(encoding="utf-8"))["figures"]["sqlite"]
    assert all(figure["value"] > 0 for figure in measured if "added" not in figure["name"])
    ElementTree.parse(folder / "bench.svg")
    return [figure["name"] for figure in measured]


def test_the_readme_tells_what_was_measured() -> None:
    table = report.markdown(report.read(RESULTS))
    assert table in README.read_text(encoding="utf-8"), f"the README should say:\n{table}"


def test_the_bench_measures_deliveries_beside_their_baseline(tmp_path: Path) -> None:
    assert _figures(tmp_path, "fan-out-10") == NAMES["fan-out-10"]


def test_an_idle_stream_costs_less_than_64_kib(tmp_path: Path) -> None:
    place = Place(tmp_path, None, lambda: 0.0, replace(QUICK, streams=200), lambda _: None)
    figure = figures.streams(place)
    assert (figure.bar, figure.unit) == (64, "KiB")
    assert figure.value < 64


@pytest.mark.slow
def test_every_row_of_the_bench_still_runs(tmp_path: Path) -> None:
    assert _figures(tmp_path) == [name for row in ROWS for name in NAMES[row]]
