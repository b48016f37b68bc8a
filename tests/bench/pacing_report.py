"""How the pacer's figures are shown: a table for the README, and one picture."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.drawing import INK, drawn

# By story and policy: one outcome for each seed.
Measured = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]

_COLOURS = {"ours": "#1f8fbf", "baseline": "#c9771c"}


@dataclass(frozen=True)
class Row:
    """One figure of a story, the smaller the better. `of` takes an outcome and the baseline's for the same seed."""

    story: str
    name: str
    policy: str
    baseline: str
    of: Callable[[Mapping[str, Any], Mapping[str, Any]], float]
    bar: float | None = None


def _makespan(outcome: Mapping[str, Any], _: Mapping[str, Any]) -> float:
    return float(outcome["seconds"] / outcome["bounds"]["bound"])


def _floor(outcome: Mapping[str, Any], _: Mapping[str, Any]) -> float:
    return float(outcome["bounds"]["floor"] / outcome["bounds"]["bound"])


def _best(outcome: Mapping[str, Any], baseline: Mapping[str, Any]) -> float:
    return float(outcome["bounds"]["best delay"] / baseline["delay"])


def _part(name: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float]:
    return lambda outcome, baseline: float(outcome[name] / baseline[name])


_PERFECT = "Perfect Corp, 200 jobs at once: until all are done ÷ bound"
ROWS: Sequence[Row] = (
    Row("perfectcorp", _PERFECT, "ours", "ours", _makespan, 1.15),
    Row("perfectcorp", "the same, with a file call for each job", "a file call each", "ours", _makespan),
    Row("perfectcorp", "… and what no policy can beat then", "a file call each", "ours", _floor),
    Row("perfectcorp", "… and a plain policy: asked every 9 s", "plain", "ours", _makespan),
    Row(
        "picwish", "PicWish, 2 requests a second: mean delay ÷ round-robin", "ours", "round-robin", _part("delay"), 0.7
    ),
    Row("ailabtools", "AILabTools, asked every 5 s: questions ÷ fixed", "ours", "fixed", _part("polls"), 0.65),
    Row("ailabtools", "… and mean delay ÷ fixed", "ours", "fixed", _part("delay"), 1.0),
    Row("ailabtools", "… and the best that so few questions allow", "ours", "fixed", _best),
)
# Who loses what, by policy of the first story.
LOSERS: Mapping[str, str] = {
    "ours": "Wirephoto",
    "a file call each": "Wirephoto, a file call for each job",
    "plain": "a plain policy: asked every 9 s",
    "fixed": "asked every second, as the document says",
}


def read(file: Path) -> Measured:
    found: Measured = json.loads(file.read_text(encoding="utf-8"))
    return found


def values(measured: Measured, row: Row) -> list[float]:
    """One for each seed."""
    policies = measured[row.story]
    return [row.of(ours, theirs) for ours, theirs in zip(policies[row.policy], policies[row.baseline], strict=True)]


def markdown(measured: Measured) -> str:
    lines = ["| | median | least to most | bar |", "|---|---|---|---|"]
    for row in ROWS:
        if row.story in measured:
            found = values(measured, row)
            spread = f"{min(found):.2f}–{max(found):.2f}"
            bar = "–" if row.bar is None else f"{row.bar:g}"
            lines.append(f"| {row.name} | {statistics.median(found):.2f} | {spread} | {bar} |")
    if "perfectcorp" in measured:
        lines += ["", "| Perfect Corp, 200 jobs at once | lost | refused | requests |", "|---|---|---|---|"]
        for policy, name in LOSERS.items():
            told = measured["perfectcorp"][policy]
            cells = (f"{statistics.median(run[of] for run in told):.0f}" for of in ("lost", "refused", "requests"))
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(measured: Measured, file: Path) -> None:
    """The ratios with their spread and bars: text stays text, on any background."""
    rows = [row for row in ROWS if row.story in measured]
    with drawn(file, 0.8 + 0.5 * len(rows)) as axes:
        for place, row in enumerate(rows):
            found = values(measured, row)
            middle = statistics.median(found)
            colour = _COLOURS["baseline" if row.policy == "plain" or row.of in (_floor, _best) else "ours"]
            axes.barh(place, middle, 0.6, color=colour)
            axes.plot([min(found), max(found)], [place, place], color=INK, linewidth=2)
            axes.text(max(found), place, f" {middle:.2f}", va="center", color=INK)
            if row.bar is not None:
                axes.plot([row.bar] * 2, [place - 0.42, place + 0.42], color=INK, label="bar" if not place else None)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_xlabel("smaller is better; the thin line is the spread over all seeds")
