"""Reading a project's log from a cursor on: what comes next, and whether it can be told without a word.

It can't where some of it is no longer kept, nor where the cursor is not of this log: a store that was restored from a
backup gives numbers once more, and whoever had read further would wait in silence until they had passed him.

A question sees one state of the store, so a cursor that anybody was handed before is never beyond its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.event import Event
from schemas.problem import Problem
from service.store import events, projects
from service.store.database import Reader


@dataclass(frozen=True, slots=True)
class LogPage:
    """`last`: the newest number that this view of the log held."""

    events: Sequence[Event]
    last: int


async def read_log(reader: Reader, project: int, after: int, chosen: str | None, limit: int) -> LogPage:
    """What comes after a cursor. Raises Problem 409, 410 as `end_of_log` does."""
    last = await end_of_log(reader, project, after)
    return LogPage(await events.after(reader, project, after, chosen, limit), last)


async def end_of_log(reader: Reader, project: int, after: int) -> int:
    """The newest number, for whoever reads on after an event. Raises Problem 409 where there never was one, as far as
    this store knows, and 410 where his next one is no longer kept: he must learn that he misses some.

    `after=0` reads from the beginning of what there is, and misses nothing that he was ever promised.
    """
    last = await projects.last_sequence(reader, project)
    if after > last:
        raise Problem(
            409,
            "cursor_ahead",
            f"The newest event is {last}, and {after} lies beyond it: this log was set back, as by restoring a backup. "
            f"Read all that is kept with after=0, or what comes from now on with after={last}.",
            more={"newest": last},
        )
    oldest = await events.oldest(reader, project)
    if 0 < after < oldest - 1:
        raise Problem(
            410,
            "events_gone",
            f"Events {after + 1} to {oldest - 1} are no longer kept. Read on with after={oldest - 1}.",
            more={"oldest": oldest},
        )
    return last
