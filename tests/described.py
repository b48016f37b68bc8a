"""Holds real answers to the published description: whatever it does not tell of is a failure."""

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import jsonschema_rs

PROBLEM = "application/problem+json"
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER
assert "date-time" in FORMATS.checkers, "without its library the format would not be looked at"
# Made to be a part of others.
_PARTS = frozenset({"Event"})


def strict(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The same schemas, but that a field which is not described is a fault. In public they stay open for more."""
    return {
        name: {"additionalProperties": False, **schema}
        if "properties" in schema and "allOf" not in schema and name not in _PARTS
        else schema
        for name, schema in schemas.items()
    }


@dataclass
class Description:
    """The document of a running service, and which of its answers have been seen.

    `validators`, by their schemas: those of one document can be shared, for each takes as long to make as many answers.
    """

    document: Mapping[str, Any]
    seen: set[tuple[str, str, int]] = field(default_factory=set)
    validators: dict[str, jsonschema_rs.Draft202012Validator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._schemas = strict(self.document["components"]["schemas"])
        self._paths = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$"), path) for path in self.document["paths"]]

    @property
    def told(self) -> set[tuple[str, str, int]]:
        """Every answer of every route."""
        return {
            (method.upper(), path, int(status))
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
            for status in operation["responses"]
        }

    def validate(self, schema: Mapping[str, Any], value: Any) -> None:
        name = json.dumps(schema)
        if name not in self.validators:
            whole = {**schema, "components": {"schemas": self._schemas}}
            self.validators[name] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        self.validators[name].validate(value)

    def hold(self, method: str, path: str, status: int, headers: Mapping[str, str], body: Any) -> None:
        """One answer: its status, content type, headers and body are all told of at its route."""
        where = f"{method} {path} {status}"
        template = next((template for known, template in self._paths if known.match(path)), None)
        operation = None if template is None else self.document["paths"][template].get(method.lower())
        if operation is None:
            assert status in (404, 405), where
            self.validate({"$ref": "#/components/schemas/Problem"}, body)
            return
        assert template is not None
        assert str(status) in operation["responses"], f"{where} is not told of: {body!r:.300}"
        answer = operation["responses"][str(status)]
        if "$ref" in answer:
            answer = self.document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        for name, header in answer.get("headers", {}).items():
            assert name in headers or not header["required"], f"{where}: no {name}"
            if name in headers and header["schema"]["type"] == "string":
                self.validate(header["schema"], headers[name])
        self._hold_body(answer.get("content", {}), headers.get("Content-Type", ""), body, where)
        self.seen.add((method, template, status))

    def _hold_body(self, content: Mapping[str, Any], content_type: str, body: Any, where: str) -> None:
        if not content:
            assert not body, f"{where}: a body that is not told of"
            return
        media = content_type.partition(";")[0]
        fitting = [schema for told, schema in content.items() if fnmatch.fnmatch(media, told)]
        assert fitting, f"{where}: {content_type} is not told of"
        if "json" in media:
            self.validate(fitting[0]["schema"], body)
