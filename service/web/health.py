"""Is the process up, and can it do its work?"""

import structlog
from starlette.requests import Request
from starlette.responses import Response

from service.store import projects
from service.store.database import StoreUnavailable
from service.web.site import Answer, site_of

log = structlog.get_logger()


async def healthz(request: Request) -> Response:
    """That it answers is the answer; the id lets `wirephoto check` tell this installation from another."""
    return Answer({"status": "ok", "installation": site_of(request).core.installation})


async def readyz(request: Request) -> Response:
    """503 with the reasons, where the store can't be reached or a worker has died."""
    site = site_of(request)
    reasons = [f"worker {name} has died" for name, worker in site.alive.items() if not worker.alive]
    try:
        await site.core.db.read(projects.first)
    except (StoreUnavailable, OSError) as error:
        # Anybody may ask; the driver's words name hosts and users.
        log.warning("health.no_store", error=str(error))
        reasons.append("the store can't be reached")
    if reasons:
        return Answer({"status": "not ready", "reasons": reasons}, 503)
    return Answer({"status": "ready"})
