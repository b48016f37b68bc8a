"""Queries: what stands behind the `?`, read value by value, with all that is faulty told at once."""

from collections import Counter
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from schemas.job import MetadataKey
from schemas.problem import FieldError, invalid

# A route that lists this name takes `metadata.` and any key.
METADATA_KEY = "metadata.KEY"
_PREFIX = "metadata."
_KEY = TypeAdapter[str](MetadataKey)


def refuse_unknown(request: Request, known: Sequence[str]) -> None:
    """A filter that we do not know must not answer with everything, nor one of two with the other's."""
    told = f"this address takes {', '.join(known)}" if known else "this address takes no query"
    given = Counter(name for name, _ in request.query_params.multi_items())
    errors = [FieldError(name[:100], f"unknown; {told}") for name in sorted(given) if not _is_known(name, known)]
    errors += [FieldError(name[:100], "is given twice") for name, times in sorted(given.items()) if times > 1]
    if errors:
        raise invalid(errors)


def _is_known(name: str, known: Sequence[str]) -> bool:
    return name in known or (METADATA_KEY in known and name.startswith(_PREFIX))


class Query:
    """A faulty value reads as if it were absent; `check` raises what was found."""

    def __init__(self, request: Request) -> None:
        self._given = request.query_params
        self._errors: list[FieldError] = []

    def has(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str) -> str | None:
        return self._given.get(name)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self._given.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 19 or not low <= int(text) <= high:
            self.fault(name, f"must be a whole number from {low} to {high}")
            return default
        return int(text)

    def choice(self, name: str, choices: Sequence[str], *, required: bool = False) -> str | None:
        text = self._given.get(name)
        if text is None:
            if required:
                self.fault(name, f"is required: one of {', '.join(choices)}")
        elif text not in choices:
            self.fault(name, f"must be one of {', '.join(choices)}")
        return text

    def metadata(self) -> dict[str, str]:
        """What `metadata.KEY=value` asks for."""
        found = {name.removeprefix(_PREFIX): value for name, value in self._given.items() if name.startswith(_PREFIX)}
        for key in found:
            try:
                _KEY.validate_python(key)
            except ValidationError:
                self.fault(f"{_PREFIX}{key}"[:100], "is no key of metadata: 1 to 64 letters, digits, _ . or -")
        return found

    def fault(self, name: str, reason: str) -> None:
        self._errors.append(FieldError(name, reason))

    def check(self) -> None:
        """Raises Problem 422 with every faulty value."""
        if self._errors:
            raise invalid(self._errors)
