"""Deliveries that nobody sends: they wait in their endpoint's queue until its client comes for them.

A new one is queued by the unit that owes it. One that comes back (its retry is due, its node is dead, its endpoint was
resumed) is found by the scan, like any other, and lands here.
"""

from collections import deque

from schemas.delivery import Owed
from service.pipeline.core import Core, endpoint_topic
from service.store import deliveries


async def put_back(core: Core, endpoint: int, waiting: deque[Owed]) -> None:
    """Queue what waits in a lane, and empty it; what is added meanwhile, too."""
    while waiting:
        some = list(waiting)
        await core.db.write(deliveries.requeue, sorted(owed.delivery for owed in some), core.node)
        for _ in some:
            waiting.popleft()
        core.bells.ring(endpoint_topic(endpoint))
