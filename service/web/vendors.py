"""Vendors: which of them work, how much of their limits is left, and what is under way there.

Accounts are the operator's: what all projects together use of them is shown to the first project alone. Any other one
sees the limits, and counts of its own jobs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from schemas import offers
from schemas.job import TERMINAL, JobState
from schemas.problem import Problem
from service.pacing.windows import WindowState
from service.pipeline import trouble
from service.pipeline.shown import when
from service.store import jobs, submissions
from service.store.database import Reader
from service.store.keys import Principal
from service.store.submissions import AtVendor
from service.vendors import Contracted
from service.web import asking
from service.web.lists import envelope
from service.web.site import Answer, Site, site_of

_OPEN = [state for state in JobState if state not in TERMINAL]
# Not yet the vendor's: the call that hands a job over may be under way.
_QUEUED = (JobState.QUEUED, JobState.STAGING, JobState.SUBMITTING)
_NONE = AtVendor(0, None)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    jobs: Sequence[jobs.UnderWay]
    tasks: Mapping[str, AtVendor]


async def index(request: Request, who: Principal) -> Response:
    """All of them, in one page."""
    site = site_of(request)
    of = None if who.first_project else who.project
    counted = await site.core.db.read(partial(_under_way, of))
    return envelope([_vendor(site, name, counted, operator=who.first_project) for name in site.vendors.names], None)


async def probe(request: Request, who: Principal) -> Response:
    """202, whether or not something was wrong. Raises Problem 403 for other projects, 404, 409."""
    if not who.first_project:
        raise Problem(403, "forbidden", "Accounts are looked after with an admin key of the first project.")
    site, found = site_of(request), asking.contracted(request)
    await trouble.probe_now(site.core, found)
    counted = await site.core.db.read(partial(_under_way, None))
    return Answer(_vendor(site, found.name, counted, operator=True), 202)


async def _under_way(project: int | None, reader: Reader) -> _UnderWay:
    return _UnderWay(await jobs.under_way(reader, project), await submissions.at_vendors(reader, project))


def _vendor(site: Site, name: str, counted: _UnderWay, *, operator: bool) -> offers.Vendor:
    contracted = site.vendors.get(name)
    by_state = {entry.state: entry.count for entry in counted.jobs if entry.vendor == name}
    tasks = counted.tasks.get(name, _NONE)
    health = _health(site, contracted)
    paused = contracted is not None and contracted.door.shut
    return {
        "id": name,
        "object": "vendor",
        "configured": contracted is not None,
        **(health if operator else _health_alone(health)),
        "state": _state(health, paused=operator and paused),
        "next_probe_at": when(contracted.next_probe_at) if contracted and operator else None,
        "announces": "webhook" if contracted and contracted.vendor.announces and site.called_back else "poll",
        "windows": [_window(state, operator=operator) for state in contracted.turns.state()] if contracted else [],
        "max_concurrent": contracted.max_concurrent if contracted else None,
        "in_flight": tasks.count,
        "next_poll_at": when(tasks.next_ask_at),
        "next_keep_alive_at": when(contracted.turns.next_keep_alive_at()) if contracted and operator else None,
        "waiting": contracted.turns.waiting if contracted and operator else None,
        "queued": sum(by_state.get(state, 0) for state in _QUEUED),
        "jobs": {state: by_state.get(state, 0) for state in _OPEN},
    }


def _health(site: Site, contracted: Contracted | None) -> offers.VendorHealth:
    """`healthy` is null where nothing has told yet: right after a start, and without credentials."""
    if contracted is None:
        return {"healthy": None, "reason": "not configured: its credentials are not set", "since": None}
    wrong = contracted.health.trouble
    dead = [name for name, worker in site.alive.items() if name.endswith(f" {contracted.name}") and not worker.alive]
    if dead:
        return {"healthy": False, "reason": f"here: worker {', '.join(dead)} has died", "since": None}
    return {
        "healthy": contracted.health.healthy,
        "reason": None if wrong is None else wrong.reason,
        "since": None if wrong is None else when(wrong.since),
    }


def _state(health: offers.VendorHealth, *, paused: bool) -> str:
    if paused:
        return "paused"
    return "down" if health["healthy"] is False else "ok"


def _health_alone(health: offers.VendorHealth) -> offers.VendorHealth:
    """What is wrong with an account is its operator's to know."""
    wrong = health["healthy"] is False
    return {"healthy": health["healthy"], "reason": "it can't be used now" if wrong else None, "since": None}


def _window(state: WindowState, *, operator: bool) -> offers.Window:
    return {
        "scope": state.window.scope,
        "requests": state.window.requests,
        "seconds": state.window.seconds,
        "used": state.used if operator else None,
        "left": state.left if operator else None,
        "free_at": when(state.free_at) if operator else None,
    }
