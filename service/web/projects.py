"""Projects and keys: who may do what, and the walls between tenants."""

from functools import partial

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from handlers import standardwebhooks
from schemas import ids, tenants
from schemas.event import rfc3339
from schemas.problem import FieldError, Problem, invalid, not_found
from schemas.text import Text
from service.pipeline.core import Core
from service.security import keys as security_keys
from service.security.keys import Role
from service.store import keys, projects
from service.store.database import Reader, Tx
from service.store.keys import Principal
from service.store.projects import Project
from service.web.lists import Begin, Entry, listed
from service.web.site import Answer, read_model, site_of


class ProjectRequest(BaseModel):
    """The body of `POST /v1/projects`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "the shop"}]})

    name: Text = Field(min_length=1, max_length=100)


class KeyRequest(BaseModel):
    """The body of `POST /v1/keys`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "read", "name": "dashboard"}]})

    role: Role = Role.WRITE
    name: Text = Field("", max_length=100)


def _only_the_first(who: Principal) -> None:
    if not who.first_project:
        raise Problem(403, "forbidden", "Projects are managed with an admin key of the first project.")


async def add_project(tx: Tx, core: Core, name: str, key: str, key_name: str) -> Project:
    """A project with its first admin key and its secret for per-job webhooks."""
    now = core.clock.now()
    public_id = ids.new_id("prj", now)
    sealed = core.vault.seal(public_id, standardwebhooks.new_secret())
    project = await projects.add(tx, public_id, name, sealed, now)
    key_hash = security_keys.hash_of(key)
    await keys.add(tx, project.row, ids.new_id("key", now), Role.ADMIN, key_name, key_hash, now)
    return project


async def create(request: Request, who: Principal) -> Response:
    _only_the_first(who)
    core = site_of(request).core
    wanted = await read_model(request, ProjectRequest)
    key = security_keys.new_key()
    project = await core.db.write(add_project, core, wanted.name, key, "first key")
    made: tenants.NewProject = {**_project(project), "api_key": key}
    return Answer(made, 201)


async def index(request: Request, who: Principal) -> Response:
    _only_the_first(who)
    return await listed(request, who, "projects", Begin.OLDEST, _page)


async def _page(reader: Reader, after: int, limit: int) -> list[Entry]:
    return [Entry(entry.row, _project(entry)) for entry in await projects.listed(reader, after, limit)]


def _project(project: Project) -> tenants.Project:
    return {
        "id": project.id,
        "object": "project",
        "name": project.name,
        "created_at": rfc3339(project.created_at),
    }


async def create_key(request: Request, who: Principal) -> Response:
    site = site_of(request)
    wanted = await read_model(request, KeyRequest, optional=True)
    now = site.clock.now()
    key, public_id = security_keys.new_key(), ids.new_id("key", now)
    key_hash = security_keys.hash_of(key)
    await site.core.db.write(keys.add, who.project, public_id, wanted.role, wanted.name, key_hash, now)
    made: tenants.NewKey = {**_key(public_id, wanted.role, wanted.name, now), "api_key": key}
    return Answer(made, 201)


async def index_keys(request: Request, who: Principal) -> Response:
    return await listed(request, who, "keys", Begin.OLDEST, partial(_keys_page, who.project))


async def _keys_page(project: int, reader: Reader, after: int, limit: int) -> list[Entry]:
    found = await keys.listed(reader, project, after, limit)
    return [Entry(entry.row, _key(entry.id, entry.role, entry.name, entry.created_at)) for entry in found]


def _key(public_id: str, role: str, name: str, created_at: int) -> tenants.Key:
    return {"id": public_id, "object": "key", "role": role, "name": name, "created_at": rfc3339(created_at)}


async def revoke_key(request: Request, who: Principal) -> Response:
    """At once, for streams that are open too."""
    site, key = site_of(request), request.path_params["id"]
    await site.core.db.write(_revoke, who.project, key, site.clock.now())
    site.places.revoked(key)
    return Response(status_code=204)


async def _revoke(tx: Tx, project: int, public_id: str, now: int) -> None:
    await projects.lock(tx, project)
    if not await keys.revoke(tx, project, public_id, now):
        raise not_found("key")
    if await keys.other_admins(tx, project, public_id) == 0:
        # The unit rolls back with it: a project can't lock itself out.
        raise invalid([FieldError("id", "is the project's last admin key: make another one first")])
