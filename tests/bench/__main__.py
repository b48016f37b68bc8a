"""`make bench`: what Wirephoto's own work costs, beside the bare libraries in the same run. Asserts nothing.

Deliveries are signed with `v1` alone, but for the row that says otherwise.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.bench import figures, report
from tests.bench.figures import QUICK, Figure, Place, Size
from tests.postgres import server

ROWS: dict[str, Callable[[Place], Figure | list[Figure]]] = {
    "fsync": figures.fsync,
    "fan-out-10": partial(figures.delivery, fan_out=10, bar=0.45, goal=2.0),
    "fan-out-1": partial(figures.delivery, fan_out=1, bar=0.28, goal=0.75),
    "v1a": partial(figures.delivery, fan_out=10, bar=None, goal=None, signatures=("v1", "v1a")),
    "latency": figures.latency,
    "intake": partial(figures.intake, multipart=False),
    "intake-multipart": partial(figures.intake, multipart=True),
    "pending": figures.pending,
    "streams": figures.streams,
}
DATABASES = ("sqlite", "postgres")


def measure(rows: Sequence[str], databases: Sequence[str], size: Size, folder: Path) -> dict[str, list[Figure]]:
    """By database. Each row has a fresh store."""
    measured: dict[str, list[Figure]] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=None)
        for database in databases:
            measured[database] = []
            for row in rows:
                with _place(database, folder, size, lambda what: progress.update(task, description=what)) as place:
                    found = ROWS[row](place)
                measured[database] += found if isinstance(found, list) else [found]
    return measured


@contextmanager
def _place(database: str, folder: Path, size: Size, step: Callable[[str], None]) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(dir=folder, prefix="wirephoto-bench-") as own:
        if database == "sqlite":
            yield Place(Path(own), None, lambda: 0.0, size, step)
            return
        # As it is installed: it syncs what it commits.
        with server(fast=False) as it:
            yield Place(Path(own), it.new_database(), it.cpu, size, step)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be given again")
    parser.add_argument("--database", action="append", choices=DATABASES, help="may be given again; default: each")
    parser.add_argument("--rounds", type=int, help="figures are medians of so many; default 5")
    parser.add_argument("--quick", action="store_true", help="tiny counts: only to see that it runs")
    parser.add_argument("--folder", type=Path, help="where the stores are made: its disk is what is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios there, as SVG")
    given = parser.parse_args(arguments)
    size = QUICK if given.quick else Size()
    if given.rounds is not None:
        size = dataclasses.replace(size, rounds=given.rounds)
    folder = given.folder or Path(tempfile.gettempdir())
    machine = report.machine()
    measured = measure(given.only or list(ROWS), given.database or list(DATABASES), size, folder)
    console = Console(width=130)
    for table in report.tables(measured):
        console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "libraries"))
    if given.json is not None:
        given.json.write_text(json.dumps(report.as_json(machine, measured), indent=1) + "\n", encoding="utf-8")
    if given.plot is not None:
        report.plot(measured, given.plot)


if __name__ == "__main__":
    main()
