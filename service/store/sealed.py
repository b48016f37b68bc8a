"""Every place where a secret lies sealed, so that all of them can be sealed anew, and counted."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.store import sql
from service.store.database import Reader, Tx

_SQL = sql.beside(__file__)

Key = int | str


@dataclass(frozen=True, slots=True)
class Place:
    """A column that holds sealed texts; the names of its statements, and what comes before its first row."""

    page: str
    change: str
    first: Key = 0
    in_json: bool = False  # beside what may be shown

    def inside(self, text: str) -> str:
        return str(json.loads(text)["sealed"]) if self.in_json else text

    def with_inside(self, text: str, sealed: str) -> str:
        return json.dumps({**json.loads(text), "sealed": sealed}) if self.in_json else sealed


PLACES: Mapping[str, Place] = {
    "endpoints' secrets": Place("page_of_secrets", "change_secret"),
    "endpoints' secrets from before a rotation": Place("page_of_old_secrets", "change_old_secret"),
    "endpoints' headers": Place("page_of_headers", "change_headers", in_json=True),
    "shops' credentials": Place("page_of_configs", "change_config", in_json=True),
    "projects' webhook secrets": Place("page_of_webhook_secrets", "change_webhook_secret"),
    "projects' signing keys": Place("page_of_signing_keys", "change_signing_key"),
    "what vendors' accounts remember": Place("page_of_memory", "change_memory", first=""),
}


@dataclass(frozen=True, slots=True)
class Held:
    """What one row holds in one of the places."""

    key: Key
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    key: Key
    was: str
    anew: str


async def page(reader: Reader, place: Place, after: Key, limit: int) -> Sequence[Held]:
    rows = await reader.all(_SQL[place.page], {"beyond": after, "limit": limit})
    return [Held(row["key"], row["text"]) for row in rows]


async def change(tx: Tx, place: Place, changes: Sequence[Change]) -> None:
    """Each only where the row still holds what it did: somebody may have put another secret there meanwhile."""
    values: list[dict[str, Any]] = [{"key": entry.key, "was": entry.was, "anew": entry.anew} for entry in changes]
    await tx.run_many(_SQL[place.change], values)


async def count(reader: Reader, wanted: Callable[[str], bool], limit: int) -> dict[str, int]:
    """How many sealed texts are `wanted`, by the place's name; places without any are left out."""
    found = {}
    for name, place in PLACES.items():
        number, after = 0, place.first
        while held := await page(reader, place, after, limit):
            number += sum(wanted(place.inside(entry.text)) for entry in held)
            after = held[-1].key
        if number:
            found[name] = number
    return found
