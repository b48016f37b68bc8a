"""`/v1/me`: whose key this is. What no-code tools ask to try a key, and to give the connection a name."""

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from schemas import tenants
from service.store import keys, projects
from service.store.database import Reader
from service.store.keys import Key, Principal
from service.store.projects import Project
from service.web.site import Answer, site_of


async def show(request: Request, who: Principal) -> Response:
    core = site_of(request).core
    project, key = await core.db.read(_who, who)
    told: tenants.Me = {
        "object": "me",
        "project": {"id": project.id, "name": project.name},
        "key": {"id": key.id, "name": key.name, "role": key.role},
        "base_url": core.links.base_url,
        "version": version("wirephoto"),
    }
    return Answer(told)


async def _who(reader: Reader, who: Principal) -> tuple[Project, Key]:
    return await projects.get(reader, who.project), await keys.of(reader, who)
