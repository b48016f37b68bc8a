"""Make's template language, as far as our app uses it: `{{expression}}` in the texts of a JSON document.

Written from Make's documentation, and strict: a function or a sign that is not known here is an error, never a guess.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote


class Undefined:
    """What is not there. In a document, what would have it as its value is left out."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED: Final = Undefined()
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'[^']*'|\"[^\"]*\")|(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)|(?P<sign>==|!=|&&|\|\||[-+!.,()]))"
)
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_LEVELS = (("||",), ("&&",), ("==", "!="), ("+",))


def truth(value: Any) -> bool:
    """As in JavaScript."""
    return not (value is UNDEFINED or value is None or value is False or value in ("", 0))


def _is_empty(value: Any) -> bool:
    return value is UNDEFINED or value is None or value == ""


def _text(value: Any) -> str:
    if value is UNDEFINED or value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _switch(value: Any, *pairs: Any) -> Any:
    known = zip(pairs[0::2], pairs[1::2], strict=False)
    otherwise = pairs[-1] if len(pairs) % 2 else UNDEFINED
    return next((result for wanted, result in known if wanted == value), otherwise)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _plus(left: Any, right: Any) -> Any:
    numbers = isinstance(left, int) and isinstance(right, int)
    return left + right if numbers else _text(left) + _text(right)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "if": lambda condition, then, otherwise: then if truth(condition) else otherwise,
    "ifempty": lambda value, otherwise: otherwise if _is_empty(value) else value,
    "switch": _switch,
    "join": lambda values, sign: sign.join(map(_text, _list(values))),
    "map": lambda values, key: [value.get(key, UNDEFINED) for value in _list(values)],
    "contains": lambda values, value: value in _list(values),
    "toArray": lambda collection: [{"key": key, "value": value} for key, value in collection.items()],
    "toCollection": lambda values, key, value: {entry[key]: entry[value] for entry in values},
    "encodeURL": lambda value: quote(_text(value), safe=""),
    "min": min,
}
_WORDS: Mapping[str, Callable[[], Any]] = {
    "undefined": lambda: UNDEFINED,
    "null": lambda: None,
    "true": lambda: True,
    "false": lambda: False,
    "emptyarray": list,
    "uuid": lambda: str(uuid.uuid4()),
}
_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "||": lambda left, right: left if truth(left) else right,
    "&&": lambda left, right: right if truth(left) else left,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "+": lambda left, right: (
        left + right if isinstance(left, int) and isinstance(right, int) else _text(left) + _text(right)
    ),
}


class _Reader:
    """One expression, read from left to right and evaluated on the way."""

    def __init__(self, source: str, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while source[at:].strip():
            found = _TOKEN.match(source, at)
            if found is None:
                raise SyntaxError(f"{source!r} at {at}")
            self.tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            at = found.end()
        self.at = 0

    def whole(self) -> Any:
        value = self.level(0)
        if self.at != len(self.tokens):
            raise SyntaxError(f"{self.tokens[self.at][1]!r} is too much")
        return value

    def level(self, depth: int) -> Any:
        if depth == len(_LEVELS):
            return self.single()
        value = self.level(depth + 1)
        while self.sees(*_LEVELS[depth]):
            sign = self.take()
            value = _SIGNS[sign](value, self.level(depth + 1))
        return value

    def single(self) -> Any:
        if self.sees("!"):
            self.take()
            return not truth(self.single())
        if self.sees("("):
            self.take()
            value = self.level(0)
            self.take(")")
            return value
        kind, token = self.tokens[self.at]
        self.at += 1
        if kind == "text":
            return token[1:-1]
        if kind == "number":
            return int(token)
        if kind == "sign":
            raise SyntaxError(f"unexpected {token!r}")
        return self.call(token) if self.sees("(") else self.path(token)

    def call(self, name: str) -> Any:
        self.take("(")
        arguments = []
        while not self.sees(")"):
            arguments.append(self.level(0))
            if self.sees(","):
                self.take()
        self.take(")")
        return _FUNCTIONS[name](*arguments)

    def path(self, name: str) -> Any:
        if name in _WORDS:
            return _WORDS[name]()
        value = self.scope[name]  # a variable that does not exist there is a mistake of ours
        while self.sees("."):
            self.take()
            step = self.take()
            value = value.get(step, UNDEFINED) if isinstance(value, Mapping) else UNDEFINED
        return value

    def sees(self, *signs: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][1] in signs and self.tokens[self.at][0] == "sign"

    def take(self, wanted: str | None = None) -> str:
        token = self.tokens[self.at][1]
        if wanted is not None and token != wanted:
            raise SyntaxError(f"{wanted!r} expected, not {token!r}")
        self.at += 1
        return token


def rendered(template: Any, scope: Mapping[str, Any]) -> Any:
    """The document with its expressions evaluated. A text that is one expression becomes its value, of any type."""
    if isinstance(template, dict):
        made = {name: rendered(value, scope) for name, value in template.items()}
        return {name: value for name, value in made.items() if value is not UNDEFINED}
    if isinstance(template, list):
        return [rendered(value, scope) for value in template]
    if not isinstance(template, str):
        return template
    if (one := _TEMPLATE.fullmatch(template)) and "}}" not in one[1]:
        return _Reader(one[1], scope).whole()
    return _TEMPLATE.sub(lambda found: _text(_Reader(found[1], scope).whole()), template)


def named(template: Any) -> set[str]:
    """Every path that the document's expressions ask for, such as `body.data`."""
    if isinstance(template, dict):
        return {path for value in template.values() for path in named(value)}
    if isinstance(template, list):
        return {path for value in template for path in named(value)}
    if not isinstance(template, str):
        return set()
    without_texts = [re.sub(r"'[^']*'", "", expression) for expression in _TEMPLATE.findall(template)]
    return {path for expression in without_texts for path in re.findall(r"[A-Za-z_]\w*(?:\.\w+)+", expression)}
