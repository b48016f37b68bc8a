"""The catalogue: what each vendor can do, with inputs, limits, params and outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema

from schemas.problem import FieldError

MEGAPIXEL = 1_000_000
_LONGEST_REASON = 300


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
        return jsonschema.Draft202012Validator(self.params)

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
    properties = operation.params.get("properties", {})
    errors = [
        FieldError(f"params.{name}", f"unknown; {operation.id} takes {', '.join(sorted(properties)) or 'no params'}")
        for name in sorted(set(params) - set(properties))
    ]
    known = {name: value for name, value in params.items() if name in properties}
    for fault in sorted(operation.validator.iter_errors(known), key=lambda fault: list(map(str, fault.absolute_path))):
        if fault.validator == "required":
            missing = [name for name in fault.validator_value if name not in fault.instance]
            errors += [FieldError(f"params.{name}", "is required") for name in missing]
        else:
            path = ".".join(["params", *map(str, fault.absolute_path)])
            # The validator repeats what it was given, however long that is.
            errors.append(FieldError(path, fault.message[:_LONGEST_REASON]))
    return list(dict.fromkeys(errors))


def with_defaults(operation: Operation, params: Mapping[str, Any]) -> dict[str, Any]:
    """The params with the schema's documented defaults filled in."""
    defaults = {
        name: schema["default"]
        for name, schema in operation.params.get("properties", {}).items()
        if "default" in schema
    }
    return {**defaults, **params}
