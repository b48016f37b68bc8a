"""Perfect Corp's style groups and styles: made up, but with ids as large as the vendor's and lists of several pages.

The seed's own examples of ids are beyond 2^53, where JavaScript and spreadsheets begin to round.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from handlers.sandbox.perfectcorp_accounts import CodedError

MAX_PAGE = 20
_SMALLEST = 2**53

_HAIR = (("Women", 23), ("Men", 5), ("Short", 3), ("Long", 2))
# Title of each group, and how many styles it has.
_GROUPS: Mapping[str, Sequence[tuple[str, int]]] = {
    "hair-style": (*_HAIR, *((f"Season {number}", 1) for number in range(1, 20))),
    "wig": _HAIR,
    "hair-ext": _HAIR[:1],
    "hair-bang": _HAIR[:2],
    "hair-vol": _HAIR[:3],
    "text-to-image": (("Photo", 2), ("Painting", 21)),
}


@dataclass(frozen=True)
class Style:
    id: int
    title: str

    @property
    def colour(self) -> tuple[int, int, int]:
        red, green, blue = hashlib.sha256(str(self.id).encode()).digest()[:3]
        return red, green, blue


@dataclass(frozen=True)
class Group:
    id: int
    title: str
    styles: tuple[Style, ...]


def _id(*names: object) -> int:
    digest = hashlib.sha256(" ".join(map(str, names)).encode()).digest()
    # Odd, so that a float, which holds only even numbers out there, can't carry it.
    return _SMALLEST + int.from_bytes(digest[:7], "big") % (_SMALLEST * 8) | 1


def _group(feature: str, title: str, count: int) -> Group:
    styles = (Style(_id(feature, title, number), f"{title} {number}") for number in range(1, count + 1))
    return Group(_id(feature, title), title, tuple(styles))


STYLES: Mapping[str, Sequence[Group]] = {
    feature: [_group(feature, title, count) for title, count in groups] for feature, groups in _GROUPS.items()
}

Item = TypeVar("Item", Group, Style)


def page(items: Sequence[Item], fields: Mapping[str, str]) -> tuple[Sequence[Item], str | None]:
    """The page that the query asks for and the token of the next one, None for the last. Raises CodedError."""
    size = page_size(fields)
    token = fields.get("starting_token", "null")
    # "Start with null for the first page": left out, or the word itself.
    starts = {"null": 0} | {str(item.id): place for place, item in enumerate(items)}
    if token not in starts:
        raise CodedError("invalid_parameter", "starting_token: none that a page of this list gave")
    end = starts[token] + size
    return items[starts[token] : end], str(items[end].id) if end < len(items) else None


def page_size(fields: Mapping[str, str]) -> int:
    size = fields.get("page_size", str(MAX_PAGE))
    if not size.isdecimal() or not 1 <= int(size) <= MAX_PAGE:
        raise CodedError("invalid_parameter", f"page_size is 1 to {MAX_PAGE}")
    return int(size)


def find(groups: Sequence[Group], group_id: int, style_id: int) -> Style | None:
    """The style, if it is one of this group's."""
    styles = (style for group in groups if group.id == group_id for style in group.styles)
    return next((style for style in styles if style.id == style_id), None)
