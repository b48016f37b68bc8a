"""Which events a subscriber wants, by what is written in them: a dotted path, and what must stand there.

A value, a list of values of which one must be there, or conditions: `{"gt": 5, "lt": 10, "prefix": "shop-", "exists":
true}`, all of which must hold. What is asked of a path that leads nowhere does not hold, `{"exists": false}` excepted.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

MOST_PATHS = 16
MOST_VALUES = 64
LONGEST_PATH = 200
LONGEST_TEXT = 500
# All together, as JSON: each event is held against the filters of up to a thousand endpoints.
MOST_CHARACTERS = 8_192

_NOWHERE: Final = object()

Filter = Mapping[str, Any]


def faults(chosen: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a filter, in words that name the path."""
    if len(chosen) > MOST_PATHS:
        return [f"has {len(chosen)} paths; {MOST_PATHS} are the most"]
    found = [f"{path!r}: {fault}" for path, wanted in chosen.items() for fault in (*_path(path), *_wanted(wanted))]
    size = 0 if found else len(json.dumps(chosen))
    return [f"has {size} characters as JSON; {MOST_CHARACTERS} are the most"] if size > MOST_CHARACTERS else found


def matches(chosen: Filter, event: Mapping[str, Any]) -> bool:
    """Whether an event, as it is sent, holds all that is asked."""
    return all(_holds(_at(event, path), wanted) for path, wanted in chosen.items())


# --- what may be asked ----------------------------------------------------------------------------------------------


def _path(path: str) -> list[str]:
    if len(path) > LONGEST_PATH or not all(path.split(".")):
        return [f"is no path: names with dots between them, {LONGEST_PATH} characters at most"]
    first = path.split(".", maxsplit=1)[0]
    if first not in ("id", "type", "timestamp", "sequence", "data"):
        return ["begins with none of data, type, id, sequence, timestamp"]
    return []


def _wanted(wanted: Any) -> list[str]:
    if isinstance(wanted, Mapping):
        return _conditions(wanted)
    if isinstance(wanted, list):
        if not 0 < len(wanted) <= MOST_VALUES:
            return [f"a list has 1 to {MOST_VALUES} values"]
        return [fault for value in wanted for fault in _scalar(value)]
    return _scalar(wanted)


def _scalar(value: Any) -> list[str]:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return [f"a text has at most {LONGEST_TEXT} characters"]
    if value is None or isinstance(value, str | int | float | bool):
        return []
    return ["must be a text, a number, true, false or null, a list of these, or conditions"]


def _conditions(wanted: Mapping[str, Any]) -> list[str]:
    if not wanted:
        return ["has no condition; known are gt, lt, prefix and exists"]
    found = []
    for name, value in wanted.items():
        takes = _TAKES.get(name)
        if takes is None:
            found.append(f"unknown condition {name!r}; known are gt, lt, prefix and exists")
        elif not takes[0](value):
            found.append(f"{name} takes {takes[1]}")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_ordered(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, str) and len(value) <= LONGEST_TEXT)


_TAKES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "gt": (_is_ordered, "a number or a text"),
    "lt": (_is_ordered, "a number or a text"),
    "prefix": (lambda value: isinstance(value, str) and len(value) <= LONGEST_TEXT, "a text"),
    "exists": (lambda value: isinstance(value, bool), "true or false"),
}


# --- whether it is there --------------------------------------------------------------------------------------------


def _at(event: Any, path: str) -> Any:
    """What stands at the path. A number in it counts along a list; null is there, and is null.

    A key of metadata may have dots in it: then it is the whole rest of the path.
    """
    found, rest = event, path
    while rest:
        name, _, beyond = rest.partition(".")
        if isinstance(found, Mapping) and rest in found:
            return found[rest]
        rest = beyond
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, Sequence) and not isinstance(found, str) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return _NOWHERE
    return found


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return all(_HOLDS[name](found, value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return any(_same(found, value) for value in wanted)
    return _same(found, wanted)


def _same(found: Any, wanted: Any) -> bool:
    """Of a list in the event one entry is enough, as of channels. True is not 1."""
    if isinstance(found, list):
        return any(_same(entry, wanted) for entry in found)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def _comparable(found: Any, value: Any) -> bool:
    return (_is_number(found) and _is_number(value)) or (isinstance(found, str) and isinstance(value, str))


_HOLDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": lambda found, value: _comparable(found, value) and found > value,
    "lt": lambda found, value: _comparable(found, value) and found < value,
    "prefix": lambda found, value: isinstance(found, str) and found.startswith(value),
    "exists": lambda found, value: (found is not _NOWHERE) is value,
}
