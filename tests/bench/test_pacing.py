"""The pacing is as the README says; and each story, told with few jobs, loses no task and is refused nothing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import pacing_report
from tests.bench.pacing import STORIES, main

README = Path(__file__).parents[2] / "README.md"
RESULTS = Path(__file__).parent / "results" / "pacing.json"


def test_the_readme_tells_how_the_vendors_were_paced() -> None:
    table = pacing_report.markdown(pacing_report.read(RESULTS))
    assert table in README.read_text(encoding="utf-8"), f"the README should say:\n{table}"


def test_what_was_measured_lost_nothing_and_was_refused_nothing() -> None:
    for policies in pacing_report.read(RESULTS).values():
        for run in policies["ours"]:
            assert (run["lost"], run["refused"]) == (0, 0)


@pytest.mark.parametrize("story", STORIES)
def test_a_story_told_with_few_jobs_loses_none_and_is_refused_nothing(tmp_path: Path, story: str) -> None:
    files = ["--json", str(tmp_path / "pacing.json"), "--plot", str(tmp_path / "pacing.svg")]
    main(["--quick", "--seeds", "1", "--only", story, *files])
    told: Mapping[str, Sequence[Mapping[str, Any]]] = json.loads((tmp_path / "pacing.json").read_text("utf-8"))[story]
    (ours,) = told["ours"]
    assert (ours["lost"], ours["refused"]) == (0, 0)
    ElementTree.parse(tmp_path / "pacing.svg")
