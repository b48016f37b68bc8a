"""What SQL alone can't fill in after a migration: run at every start, in small units, until nothing is left.

Each unit says in its rows what it has done, so that a start that was cut off is gone on with by the next one; and what
an earlier release wrote in between, on the newer schema, is found too.
"""

from service.store import jobs
from service.store.database import Database

AT_ONCE = 500


async def backfill(db: Database, at_once: int = AT_ONCE) -> int:
    """How many jobs were made findable by their metadata."""
    filled = 0
    while found := await db.write(jobs.fill_metadata, at_once):
        filled += found
    return filled
