"""Our named SQL as PostgreSQL reads it."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from service.store.database import Values

_TOKEN = re.compile(
    r"'(?:[^']|'')*'"  # a text
    r"|--[^\n]*"
    r"|/\*postgres (?P<only>.*?)\*/"  # what only this database reads
    r"|/\*.*?\*/"
    r"|(?<![:\w]):(?P<name>[a-z_]\w*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Compiled:
    text: str
    names: tuple[str, ...]

    def arguments(self, values: Values) -> list[Any]:
        return [_storable(values[name]) for name in self.names]


def _storable(value: Any) -> Any:
    """TEXT can't hold a NUL. Users' are refused at the door; where the world outside says one, a sign stands for it."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) and "\x00" in value else value


@lru_cache(maxsize=1024)
def compiled(sql: str) -> Compiled:
    """Our `:name` as PostgreSQL's `$1`, and what stands in `/*postgres … */` as part of the statement."""
    numbers: dict[str, int] = {}

    def replace(match: re.Match[str]) -> str:
        if match["only"] is not None:
            return match["only"]
        if match["name"] is not None:
            return f"${numbers.setdefault(match['name'], len(numbers) + 1)}"
        return match[0]

    text = _TOKEN.sub(replace, sql)
    return Compiled(text, tuple(numbers))
