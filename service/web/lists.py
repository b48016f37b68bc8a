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

from schemas.problem import FieldError, Problem, invalid
from service.store.database import Reader
from service.store.keys import Principal
from service.web.site import Answer, query_int, site_of

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


async def listed(request: Request, who: Principal, listing: str, begin: Begin, fetch: Fetch) -> Answer:
    """One page. Raises Problem 422 for a limit out of range, and for a cursor that is none of this list's."""
    site, limit = site_of(request), limit_of(request)
    cursor = request.query_params.get("after")
    try:
        position = begin if cursor is None else site.cursors.position(listing, who.project, cursor)
    except ValueError:
        raise bad_cursor() from None
    # The one too many only tells that there is more.
    found = await site.core.db.read(fetch, position, limit + 1)
    page, more = found[:limit], len(found) > limit
    return envelope(
        [entry.shown for entry in page],
        site.cursors.after(listing, who.project, page[-1].position) if more else None,
    )


def envelope(data: Sequence[Mapping[str, Any]], next_: str | None) -> Answer:
    return Answer({"data": list(data), "next": next_})


def limit_of(request: Request) -> int:
    return query_int(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)


def bad_cursor() -> Problem:
    return invalid([FieldError("after", "is no cursor of this list; go on with the `next` of a page of it")])
