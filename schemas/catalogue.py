"""The catalogue: what each vendor can do, with inputs, limits, params and outputs."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema
from jsonschema.validators import extend

from schemas.problem import FieldError

MEGAPIXEL = 1_000_000
_LONGEST_REASON = 300


Check = Callable[[Any, Any, Any, Mapping[str, Any]], Iterator[jsonschema.ValidationError]]


def _unless_too_long(check: Check) -> Check:
    """A list that is too long is told so and not looked into: each entry would cost time, and a fault in the answer."""

    def checked(
        validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[jsonschema.ValidationError]:
        if not isinstance(instance, list) or len(instance) <= schema.get("maxItems", math.inf):
            yield from check(validator, value, instance, schema)

    return checked


_BASE = jsonschema.Draft202012Validator
_Validator: type[jsonschema.Draft202012Validator] = extend(  # type: ignore[no-untyped-call]  # jsonschema has no hints
    _BASE, {name: _unless_too_long(_BASE.VALIDATORS[name]) for name in ("items", "uniqueItems")}
)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One picture that an operation takes. `None` means: the vendor's document states no such limit."""

    name: str
    content_types: tuple[str, ...]
    max_bytes: int | None = None
    max_pixels: int | None = None
    max_side: int | None = None
    min_side: int | None = None
    required: bool = True
    takes_link: bool = False  # the vendor can fetch a URL itself: `{"url":…, "pass":true}`

    def as_json(self) -> dict[str, Any]:
        limits = {
            "max_bytes": self.max_bytes,
            "max_pixels": self.max_pixels,
            "max_side": self.max_side,
            "min_side": self.min_side,
        }
        return {
            "name": self.name,
            "required": self.required,
            "content_types": list(self.content_types),
            "takes_link": self.takes_link,
            "limits": {name: value for name, value in limits.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class OutputSpec:
    name: str
    description: str


# No slots: its validator is kept beside it.
@dataclass(frozen=True)
class Operation:
    """Something a vendor can do, `vendor/name`. `params` is a JSON Schema of type object."""

    vendor: str
    name: str
    title: str
    inputs: tuple[InputSpec, ...]
    params: Mapping[str, Any]
    outputs: tuple[OutputSpec, ...]
    source: str  # the document this row comes from
    credits: str | None = None  # the documented price, a decimal string
    deprecated: bool = False
    declared: bool = False  # the vendor is known to have it, but not how it is called: listed, and refused
    note: str | None = None  # for people: what the document leaves open, or what no limit above can say

    @cached_property
    def validator(self) -> jsonschema.Draft202012Validator:
        """Of the params, made once."""
        return _Validator(self.params)

    @property
    def id(self) -> str:
        return f"{self.vendor}/{self.name}"

    def input(self, name: str) -> InputSpec | None:
        return next((spec for spec in self.inputs if spec.name == name), None)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "operation",
            "vendor": self.vendor,
            "name": self.name,
            "title": self.title,
            "inputs": [spec.as_json() for spec in self.inputs],
            "params": self.params,
            "outputs": [{"name": spec.name, "description": spec.description} for spec in self.outputs],
            "credits": self.credits,
            "deprecated": self.deprecated,
            "declared": self.declared,
            "source": self.source,
            "note": self.note,
        }


def params_schema(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A schema that refuses what it does not name: a typo must not cost a credit."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def params_errors(operation: Operation, params: Mapping[str, Any]) -> list[FieldError]:
    """Every faulty param of a request, by its path."""
    faults = sorted(operation.validator.iter_errors(params), key=lambda fault: list(map(str, fault.absolute_path)))
    return list(dict.fromkeys(error for fault in faults for error in _told(operation, fault)))


def _told(operation: Operation, fault: Any) -> Iterator[FieldError]:
    path = ".".join(["params", *map(str, fault.absolute_path)])
    if fault.validator == "required":
        for name in fault.validator_value:
            if name not in fault.instance:
                yield FieldError(f"{path}.{name}", "is required")
    elif fault.validator == "additionalProperties":
        known = fault.schema["properties"]
        takes = f"{path if fault.absolute_path else operation.id} takes {', '.join(sorted(known)) or 'no params'}"
        for name in sorted(set(fault.instance) - set(known)):
            yield FieldError(f"{path}.{name}", f"unknown; {takes}")
    else:
        # The validator repeats what it was given, however long that is.
        yield FieldError(path, fault.message[:_LONGEST_REASON])


def with_defaults(operation: Operation, params: Mapping[str, Any]) -> dict[str, Any]:
    """The params with the schema's documented defaults filled in."""
    defaults = {
        name: schema["default"]
        for name, schema in operation.params.get("properties", {}).items()
        if "default" in schema
    }
    return {**defaults, **params}
