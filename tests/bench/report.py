"""How the bench shows what it found: tables for people, JSON for programs, one picture for the README."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.bench.drawing import INK, drawn
from tests.bench.figures import Figure

Measured = Mapping[str, Sequence[Figure]]

NAMES = {"sqlite": "SQLite, synchronous=FULL", "postgres": "PostgreSQL"}
_LIBRARIES = ("aiohttp", "httptools", "starlette", "uvicorn", "uvloop")
# One colour each, to be told apart on white and on black, and by who sees few colours.
_COLOURS = {"sqlite": "#1f8fbf", "postgres": "#c9771c"}


def machine() -> dict[str, Any]:
    """What the figures were measured on; no names, no paths."""
    return {
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def as_json(machine: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    return {
        "machine": machine,
        "figures": {database: [figure.as_json() for figure in found] for database, found in measured.items()},
    }


def read(file: Path) -> Measured:
    """What `as_json` gave."""
    found = json.loads(file.read_text(encoding="utf-8"))["figures"]
    return {database: [Figure(**entry) for entry in entries] for database, entries in found.items()}


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def tables(measured: Measured) -> Iterator[Table]:
    for database, found in measured.items():
        table = Table(title=NAMES[database], title_justify="left")
        for heading in ("figure", "", "baseline", "Wirephoto", "ratio", "bar", "goal"):
            table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
        for figure in found:
            table.add_row(
                figure.name,
                figure.unit,
                *map(_number, (figure.baseline, figure.value, figure.ratio, figure.bar, figure.goal)),
            )
            for name, value in figure.parts.items():
                if value:
                    table.add_row(f"  [dim]{name}[/dim]", "", "", f"[dim]{_number(value)}[/dim]", "", "", "")
        yield table


def markdown(measured: Measured) -> str:
    """The README's table: figure, and by database its value (or the ratio to its baseline), bar and goal."""
    lines = [
        f"| | {' | '.join(NAMES[database] for database in measured)} | bar | goal |",
        f"|---|{'---|' * (len(measured) + 2)}",
    ]
    for row in zip(*measured.values(), strict=True):
        first = row[0]
        name = f"{first.name}, {first.unit}" if first.ratio is None else f"{first.name} ÷ the bare library"
        cells = (_number(value) for value in (*(figure.judged for figure in row), first.bar, first.goal))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(measured: Measured, file: Path) -> None:
    """The ratios to the bare libraries, with bar and goal: text stays text, on any background."""
    names = [figure.name for figure in next(iter(measured.values())) if figure.ratio is not None]
    height = 0.8 / len(measured)
    with drawn(file, 0.6 + 0.35 * len(names) * (len(measured) + 1)) as axes:
        for place, (database, found) in enumerate(measured.items()):
            rows = {figure.name: figure for figure in found if figure.ratio is not None}
            for row, name in enumerate(names):
                figure = rows[name]
                at = row + (place - (len(measured) - 1) / 2) * height
                label = NAMES[database] if not row else None
                axes.barh(at, figure.judged, height * 0.9, color=_COLOURS[database], label=label)
                axes.text(figure.judged, at, f" {figure.judged:.2f}", va="center", color=INK)
                if place == 0 and figure.bar is not None:
                    axes.plot([figure.bar] * 2, [row - 0.45, row + 0.45], color=INK, label="bar" if not row else None)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("work per CPU-second, as a part of what the bare library does (bare library = 1)")
