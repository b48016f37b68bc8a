"""The catalogue keeps its word: what an operation's schema offers it takes, and what it says of itself is whole."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.catalogue import Operation, params_errors
from service.accounts import KNOWN

OPERATIONS = [operation for known in KNOWN for operation in known.make(known.pace).operations.values()]
EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)


def _offered(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Every value that a schema names, its default or one of its choices, with the schema that it has to hold to."""
    for value in [*schema.get("enum", ()), *([schema["default"]] if "default" in schema else ())]:
        yield path, schema, value
    for name, inner in schema.get("properties", {}).items():
        yield from _offered(inner, f"{path}.{name}")
    for branch in [schema["items"]] if "items" in schema else []:
        yield from _offered(branch, f"{path}.0")


@EACH
def test_every_value_that_is_offered_is_taken(operation: Operation) -> None:
    Draft202012Validator.check_schema(operation.params)
    for path, schema, value in _offered(operation.params, "params"):
        assert list(Draft202012Validator(schema).iter_errors(value)) == [], (path, value)


@EACH
def test_what_is_needed_is_known_and_the_rest_is_refused(operation: Operation) -> None:
    assert set(operation.params["required"]) <= set(operation.params["properties"])
    assert [error.field for error in params_errors(operation, {"no_such": 1})][:1] != []
    assert "params.no_such" in {error.field for error in params_errors(operation, {"no_such": 1})}


@EACH
def test_it_says_what_it_takes_what_it_gives_and_where_that_stands(operation: Operation) -> None:
    told = operation.as_json()
    assert all(told[part] for part in ("title", "source", "outputs"))
    assert all(output["name"] and output["description"] for output in told["outputs"])
    assert len({spec["name"] for spec in told["inputs"]}) == len(told["inputs"])
    assert all(spec["content_types"] for spec in told["inputs"])
    # Where the document has no limit, a note says so: a gap is no oversight.
    unlimited = any(spec.max_bytes is None for spec in operation.inputs)
    assert not unlimited or operation.note
    for name, schema in operation.params["properties"].items():
        bare = {"type", "enum", "anyOf", "properties"}.isdisjoint(schema)
        assert not bare, f"{name} could be anything"
