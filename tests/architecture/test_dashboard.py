"""The dashboard for Grafana shows what `/metrics` tells, and asks for nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.metrics import PREFIX, Count, Metrics, Spread

FILE = Path(__file__).parents[2] / "service" / "grafana" / "wirephoto.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
FUNCTIONS = {"sum", "min", "max", "by", "rate", "increase", "histogram_quantile", "label_values"}
# What Prometheus itself says of whom it has scraped.
TARGET = {"instance", "job"}
WIDTH = 24


def series() -> dict[str, set[str]]:
    """Every series that a scrape may hold, with its labels."""
    found: dict[str, set[str]] = {}
    for instrument in Metrics().instruments:
        labels = {*instrument.labels, *TARGET}
        if isinstance(instrument, Count):
            found[f"{instrument.name}_total"] = labels
        elif isinstance(instrument, Spread):
            found |= {f"{instrument.name}_{part}": labels for part in ("sum", "count")}
            found[f"{instrument.name}_bucket"] = {*labels, "le"}
        else:
            found[instrument.name] = labels
    process = (sample for family in Metrics().registry.collect() for sample in family.samples)
    return found | {sample.name: TARGET for sample in process if sample.name.startswith("process_")}


def questions() -> Iterator[tuple[str, str, str]]:
    """Each with the title of its panel and with its legend."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"], ""


def read(question: str) -> tuple[set[str], set[str], set[str]]:
    """The names that a PromQL expression holds: of metrics, of labels to choose by, of labels to group by."""
    question = re.sub(r'"[^"]*"', '""', question)
    chosen = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*""', question))
    grouped = {name.strip() for group in re.findall(r"by \(([^)]*)\)", question) for name in group.split(",")}
    grouped |= set(re.findall(r"label_values\(\w+, (\w+)\)", question))
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)|, \w+\)$", " ", question)
    return set(re.findall(r"[a-zA-Z_]\w*", rest)) - FUNCTIONS, chosen, grouped


@pytest.mark.parametrize(("title", "question", "legend"), list(questions()))
def test_every_panel_asks_for_what_there_is(title: str, question: str, legend: str) -> None:
    known = series()
    named, chosen, grouped = read(question)
    assert named, title
    assert named <= set(known), f"{title}: {named - set(known)}"
    for name in named:
        assert chosen <= known[name], f"{title}: {name} has no {chosen - known[name]}"
        assert grouped <= known[name], f"{title}: {name} has no {grouped - known[name]}"
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped, f"{title}: its legend names what was summed up"


def test_a_counter_is_never_drawn_as_it_stands() -> None:
    for title, question, _ in questions():
        for name in re.findall(r"\w+_(?:total|bucket|count|sum)\b", question):
            assert re.search(rf"(?:rate|increase)\({name}\b", question), title


def test_every_metric_of_ours_is_on_it() -> None:
    shown = {name for _, question, _ in questions() for name in read(question)[0]}
    for instrument in Metrics().instruments:
        assert any(name.startswith(instrument.name) for name in shown), instrument.name


def test_the_rows_are_those_that_the_readme_names_and_no_panel_covers_another() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Jobs", "Vendors", "Deliveries", "Store"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= WIDTH
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith("."), panel["title"]


def test_it_can_be_imported_wherever_there_is_a_prometheus() -> None:
    """It names no data source of its own, no id of a server, and no address."""
    assert "id" not in BOARD
    for panel in BOARD["panels"]:
        for part in (panel, *panel.get("targets", [])):
            assert part.get("datasource", {"uid": "${datasource}"})["uid"] == "${datasource}"
    variables = {variable["name"] for variable in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([panel.get("targets", []) for panel in BOARD["panels"]])))
    assert used - {"__rate_interval", "__range"} == variables
    assert "http" not in FILE.read_text(encoding="utf-8")
    assert PREFIX in FILE.read_text(encoding="utf-8")
