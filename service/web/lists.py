"""Lists, all alike: `{"data": […], "next": cursor|null}`, `?limit=`, `?after=cursor`.

A list begins with its newest or with its oldest entry, and goes on from where the cursor says. What is added meanwhile
at its far end is found at the end, what is added at its beginning only by who begins anew: nothing is shown twice, and
nothing is left out.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from starlette.requests import Request

from service.store.database import Reader
from service.store.keys import Principal
from service.web.query import Query
from service.web.site import Answer, Site, site_of

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
# What every list takes.
QUERY = ("limit", "after")


class Begin(IntEnum):
    """The position before the first entry. Beyond every row and sequence: where a list of the newest begins."""

    OLDEST = 0
    NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """`position` is what the list is ordered by: the row, which no answer shows."""

    position: int
    shown: Mapping[str, Any]


# The entries beyond a position, at most so many.
Fetch = Callable[[Reader, int, int], Awaitable[Sequence[Entry]]]


async def listed(
    request: Request, who: Principal, listing: str, begin: Begin, fetch: Fetch, query: Query | None = None
) -> Answer:
    """One page; `query` is what the filters were read from. Raises Problem 422 with all that is faulty in it."""
    query = query or Query(request)
    site, limit = site_of(request), limit_of(query)
    position = _position(site, who, listing, begin, query)
    query.check()
    # The one too many only tells that there is more.
    found = await site.core.db.read(fetch, position, limit + 1)
    page, more = found[:limit], len(found) > limit
    return envelope(
        [entry.shown for entry in page],
        site.cursors.after(listing, who.project, page[-1].position) if more else None,
    )


def _position(site: Site, who: Principal, listing: str, begin: Begin, query: Query) -> int:
    cursor = query.text("after")
    if cursor is None:
        return begin
    try:
        return site.cursors.position(listing, who.project, cursor)
    except ValueError:
        query.fault("after", "is no cursor of this list; go on with the `next` of a page of it")
        return begin


def envelope(data: Sequence[Mapping[str, Any]], next_: str | None) -> Answer:
    return Answer({"data": list(data), "next": next_})


def limit_of(query: Query) -> int:
    return query.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
