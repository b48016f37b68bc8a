"""Reading a project's log from a cursor on: what comes next, and whether any of it is no longer kept."""

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
    """What comes after a cursor. Raises Problem 410 where some of it is no longer kept."""
    await refuse_gap(reader, project, after)
    found = await events.after(reader, project, after, chosen, limit)
    return LogPage(found, await projects.last_sequence(reader, project))


async def refuse_gap(reader: Reader, project: int, after: int) -> None:
    """Whoever reads on after an event, and whose next one is no longer kept, must learn that he has missed some.

    `after=0` reads from the beginning of what there is, and misses nothing that he was ever promised.
    """
    oldest = await events.oldest(reader, project)
    if 0 < after < oldest - 1:
        raise Problem(
            410,
            "events_gone",
            f"Events {after + 1} to {oldest - 1} are no longer kept. Read on with after={oldest - 1}.",
            more={"oldest": oldest},
        )
