"""Rows from one database into another, whatever tables there are: a backup has one form, a store may change its kind.

The statements are made from the schema itself. It is read where it is always SQLite, which is the backup's side; the
other side has the same tables and columns, for the same migrations made them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from service.store.database import NotAStore, Reader, Row, Tx

_PAGE = 200  # rows held at a time; one may be a callback's body of a megabyte
LEDGER = "migrations"  # each database has its own

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
_COLUMNS = "SELECT name, pk FROM pragma_table_info(:name) ORDER BY cid"
_PARENTS = 'SELECT DISTINCT "table" AS parent FROM pragma_foreign_key_list(:name)'


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def any(self) -> str:
        return f"SELECT 1 AS found FROM {self.name} LIMIT 1"

    @property
    def count(self) -> str:
        return f"SELECT COUNT(*) AS count FROM {self.name}"

    @property
    def insert(self) -> str:
        values = ", ".join(f":{column}" for column in self.columns)
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({values})"

    def page(self, *, first: bool) -> str:
        key, last = ", ".join(self.key), ", ".join(f":{column}" for column in self.key)
        beyond = "" if first else f"WHERE ({key}) > ({last})"
        return f"SELECT {', '.join(self.columns)} FROM {self.name} {beyond} ORDER BY {key} LIMIT {_PAGE}"

    @property
    def renumber(self) -> str:
        # PostgreSQL numbers its rows from a sequence, which rows that bring their numbers along don't move; SQLite goes
        # on from the largest number by itself.
        largest = f"SELECT COALESCE(MAX(id), 1), COUNT(*) > 0 FROM {self.name}"
        sequence = f"pg_get_serial_sequence('{self.name}', 'id')"
        return f"/*postgres SELECT setval({sequence}, top.id, top.used) FROM ({largest}) AS top (id, used) */"


async def tables(local: Reader) -> list[Table]:
    """The tables of a SQLite database but for its ledger of migrations, those that others refer to first.

    Raises NotAStore where it has none.
    """
    found: dict[str, Table] = {}
    order: TopologicalSorter[str] = TopologicalSorter()
    for entry in await local.all(_TABLES, {}):
        name = str(entry["name"])
        if name == LEDGER:
            continue
        columns = await local.all(_COLUMNS, {"name": name})
        key = sorted((column for column in columns if column["pk"]), key=lambda column: int(column["pk"]))
        found[name] = Table(name, _names(columns), _names(key))
        parents = [str(row["parent"]) for row in await local.all(_PARENTS, {"name": name})]
        order.add(name, *(parent for parent in parents if parent != name))
    if not found:
        raise NotAStore("nothing of a Wirephoto is in this database")
    return [found[name] for name in order.static_order()]


def _names(columns: Sequence[Row]) -> tuple[str, ...]:
    return tuple(str(column["name"]) for column in columns)


async def is_empty(reader: Reader, of: Sequence[Table]) -> bool:
    return all([await reader.one(table.any, {}) is None for table in of])


async def counts(reader: Reader, of: Sequence[Table]) -> dict[str, int]:
    """How many rows each table has."""
    found: dict[str, int] = {}
    for table in of:
        row = await reader.one(table.count, {})
        assert row is not None
        found[table.name] = int(row["count"])
    return found


async def copy(
    source: Reader, target: Tx, of: Sequence[Table], told: Callable[[int], None], *, no_nul: bool = False
) -> None:
    """All rows of these tables, each table in the order of its key; `told` hears how many are done, after each page.

    `no_nul`: the target's texts can't hold the character NUL, and get U+FFFD in its place.
    """
    done = 0
    for table in of:
        page = await source.all(table.page(first=True), {})
        while page:
            await target.run_many(table.insert, [_without_nul(row) if no_nul else dict(row) for row in page])
            done += len(page)
            told(done)
            page = await source.all(table.page(first=False), page[-1]) if len(page) == _PAGE else []
        if table.key == ("id",):
            await target.one(table.renumber, {})


def _without_nul(row: Row) -> dict[str, Any]:
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in row.items()}
