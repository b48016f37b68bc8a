"""Filters: which events a subscriber wants, by what is written in them; and every fault of one that is none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import filters
from schemas.event import EventType
from service.pipeline.samples import sample

EVENT: dict[str, Any] = {
    "id": "evt_1",
    "type": "job.succeeded",
    "timestamp": "2026-08-01T12:30:09.320Z",
    "sequence": 4711,
    "data": {
        "vendor": "vanceai",
        "progress": 100,
        "retry_of": None,
        "channels": ["store-7", "store-8"],
        "metadata": {"product_id": "8411", "shop.id": "7", "a": {"b": [10, {"c": "deep"}]}},
        "outputs": [{"name": "image", "width": 2400}, {"name": "mask", "width": 80}],
        "billing": {"credits": "1.000", "possible_duplicate": False},
    },
}

HOLDS: list[tuple[str, Any]] = [
    ("data.vendor", "vanceai"),
    ("data.vendor", ["picwish", "vanceai"]),
    ("data.retry_of", None),
    ("data.retry_of", {"exists": True}),
    ("data.nothing", {"exists": False}),
    ("data.vendor.deeper", {"exists": False}),
    ("data.outputs.2", {"exists": False}),
    ("data.progress", 100),
    ("data.progress", 100.0),
    ("data.progress", {"gt": 99, "lt": 101}),
    ("sequence", {"gt": 4710.5}),
    ("timestamp", {"gt": "2026-08-01", "prefix": "2026-08-01T"}),
    ("data.metadata.product_id", {"gt": "841", "lt": "8412", "prefix": "84", "exists": True}),
    ("data.channels", "store-8"),
    ("data.channels", ["store-1", "store-7"]),
    ("data.channels.0", "store-7"),
    ("data.outputs.1.width", 80),
    ("data.metadata.a.b.1.c", "deep"),
    ("data.metadata.shop.id", "7"),
    ("data.billing.possible_duplicate", False),
    ("type", {"prefix": "job."}),
]
HOLDS_NOT: list[tuple[str, Any]] = [
    ("data.vendor", "VanceAI"),
    ("data.vendor", ["picwish"]),
    ("data.nothing", None),
    ("data.metadata.shop.id.x", {"exists": True}),
    ("data.nothing", {"exists": True}),
    ("data.nothing", {"gt": 0}),
    ("data.nothing", {"prefix": ""}),
    ("data.vendor", {"exists": False}),
    ("data.retry_of", {"prefix": ""}),
    ("data.progress", {"gt": 100}),
    ("data.progress", {"lt": 100}),
    ("data.progress", {"gt": 99, "lt": 100}),
    # Numbers compare with numbers and texts with texts.
    ("data.progress", "100"),
    ("data.progress", {"gt": "0"}),
    ("data.metadata.product_id", 8411),
    ("data.metadata.product_id", {"gt": 8000}),
    # True is not 1, nor is false nothing.
    ("data.billing.possible_duplicate", 0),
    ("data.billing.possible_duplicate", None),
    ("data.billing.possible_duplicate", {"lt": 1}),
    ("data.channels", {"prefix": "store"}),
    ("data.outputs.-1.width", 80),
    ("data.outputs.width", 80),
    ("data.metadata", "product_id"),
]


@pytest.mark.parametrize(("path", "wanted"), HOLDS)
def test_what_stands_there_is_found(path: str, wanted: Any) -> None:
    assert filters.faults({path: wanted}) == []
    assert filters.matches({path: wanted}, EVENT)


@pytest.mark.parametrize(("path", "wanted"), HOLDS_NOT)
def test_what_does_not_stand_there_is_not_found(path: str, wanted: Any) -> None:
    assert filters.faults({path: wanted}) == []
    assert not filters.matches({path: wanted}, EVENT)


def test_all_paths_must_hold_and_without_any_everything_does() -> None:
    assert filters.matches({}, EVENT)
    both = {"data.vendor": "vanceai", "data.progress": {"gt": 50}}
    assert filters.matches(both, EVENT)
    assert not filters.matches({**both, "type": "job.failed"}, EVENT)


FAULTY: list[tuple[dict[str, Any], list[str]]] = [
    ({"": 1}, ["is no path"]),
    ({"data..vendor": 1}, ["is no path"]),
    ({"data." + "x" * 200: 1}, ["is no path"]),
    ({"vendor": "vanceai"}, ["begins with none of"]),
    ({"data.a": {}}, ["has no condition"]),
    ({"data.a": []}, ["1 to 64 values"]),
    ({"data.a": list(range(65))}, ["1 to 64 values"]),
    ({"data.a": ["fine", {}, []]}, ["must be a text", "must be a text"]),
    ({"data.a": "x" * 501}, ["at most 500 characters"]),
    (
        {"data.a": {"gt": True, "lt": None, "prefix": 1, "exists": "yes", "regex": "."}},
        ["gt takes", "lt takes", "prefix takes", "exists takes", "unknown condition 'regex'"],
    ),
    (
        {"data.a": {"$gt": 1}, "other": {"exists": 1}},
        ["unknown condition '$gt'", "begins with none of", "exists takes"],
    ),
    ({f"data.p{number}": 1 for number in range(17)}, ["has 17 paths"]),
]

# Each part of it is allowed; all of them are held against each event, for each of a thousand endpoints.
HUGE = {"data.metadata.sku": ["x" * 200 + str(number) for number in range(60)]}


@pytest.mark.parametrize(("chosen", "expected"), FAULTY)
def test_every_fault_is_named_at_once_with_its_path(chosen: dict[str, Any], expected: list[str]) -> None:
    found = filters.faults(chosen)
    assert len(found) == len(expected), found
    for text, words in zip(found, expected, strict=True):
        assert words in text
    if len(chosen) <= filters.MOST_PATHS:
        assert all(any(repr(path) in text for path in chosen) for text in found)


def test_a_filter_has_a_size_that_a_thousand_of_them_may_have() -> None:
    (fault,) = filters.faults(HUGE)
    assert "8192 are the most" in fault
    assert filters.faults({"data.metadata.sku": HUGE["data.metadata.sku"][:38]}) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_PATHS = st.sampled_from(
    ["data", "type", "data.vendor", "data.outputs.0.width", "data.channels", "data.x.y", "sequence"]
)


@given(st.dictionaries(_PATHS | st.text(max_size=12), _JSON, max_size=4))
def test_whatever_is_asked_is_either_named_as_a_fault_or_can_be_asked_of_any_event(chosen: dict[str, Any]) -> None:
    if filters.faults(chosen):
        return
    for event_type in EventType:
        assert filters.matches(chosen, sample(event_type)) in (True, False)


@given(st.sampled_from(sorted(EventType)), st.data())
def test_each_value_of_an_event_is_found_at_its_own_path(event_type: EventType, data: st.DataObject) -> None:
    event = json.loads(json.dumps(sample(event_type)))
    path, value = data.draw(st.sampled_from([(path, value) for path, value in _leaves(event) if "." in path]))
    assert filters.matches({path: {"exists": True}}, event)
    assert filters.matches({path: value}, event)
    assert filters.matches({path: ["something else", value]}, event)
    assert not filters.matches({path: "something else"}, event)


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every scalar with its path; a name with a dot in it has none."""
    entries: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        entries = [(name, inner) for name, inner in value.items() if "." not in name]
    elif isinstance(value, list):
        entries = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return [(path, value)]
    return [found for name, inner in entries for found in _leaves(inner, f"{path}.{name}" if path else name)]
