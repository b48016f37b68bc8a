"""Named SQL: each noun keeps its statements in a `.sql` file beside its `.py`.

A statement begins with a line `-- name: something`; what follows, up to the next, is its text. Parameters are
`:name`. Comments before the statement stay with it.
"""

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Statements:
    """The statements of one file: `sql["finish"]`. A missing name fails where it is first asked for."""

    def __init__(self, path: Path) -> None:
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        names, texts = parts[1::2], parts[2::2]
        if len(set(names)) != len(names):
            raise ValueError(f"{path.name} names a statement twice")
        self._texts = {name: text.strip().rstrip(";") for name, text in zip(names, texts, strict=True)}
        self.path = path

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def names(self) -> frozenset[str]:
        return frozenset(self._texts)


def beside(module_file: str) -> Statements:
    """The statements that belong to a module: `beside(__file__)`."""
    return Statements(Path(module_file).with_suffix(".sql"))
