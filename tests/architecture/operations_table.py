"""README's table of operations, made from the catalogue: `make operations` writes it, a test holds the README to it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas.catalogue import Operation
from service.accounts import KNOWN

README = Path(__file__).parents[2] / "README.md"
HEAD = "| operation | vendor's name | inputs | params | outputs | credits |\n|---|---|---|---|---|---|\n"
_MOST_VALUES = 6


def operations() -> list[Operation]:
    return [operation for known in KNOWN for operation in known.make(known.pace).operations.values()]


def table(rows: Iterable[Operation]) -> str:
    return HEAD + "".join(f"| {' | '.join(_cells(operation))} |\n" for operation in rows)


def _cells(operation: Operation) -> list[str]:
    notes = [note for note, holds in (("deprecated", operation.deprecated), ("declared", operation.declared)) if holds]
    return [
        f"`{operation.id}`",
        operation.title + (f" ({', '.join(notes)})" if notes else ""),
        ", ".join(f"`{spec.name}`" + ("" if spec.required else "?") for spec in operation.inputs) or "–",
        ", ".join(_param(name, schema) for name, schema in operation.params["properties"].items()) or "–",
        ", ".join(f"`{output.name}`" for output in operation.outputs),
        operation.credits or "–",
    ]


def _param(name: str, schema: Mapping[str, Any]) -> str:
    values = list(dict.fromkeys(map(str, schema.get("enum", ()))))
    if len(values) > _MOST_VALUES:
        values = [values[0], "…", values[-1]]
    if "minimum" in schema and "maximum" in schema:
        values = [f"{schema['minimum']}–{schema['maximum']}"]
    return " ".join([f"`{name}`", *values])


def part_of(readme: str) -> tuple[str, str, str]:
    """What stands before the table, the table, and what stands after it."""
    before, rest = readme.split("## Operations\n\n", 1)
    lines = rest.splitlines(keepends=True)
    end = next(place for place, line in enumerate(lines) if not line.startswith("|"))
    return f"{before}## Operations\n\n", "".join(lines[:end]), "".join(lines[end:])


if __name__ == "__main__":
    before, _, after = part_of(README.read_text())
    README.write_text(before + table(operations()) + after)
