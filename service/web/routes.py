"""Every URL on one screen."""

from http import HTTPMethod

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute
from starlette.types import Scope

from schemas.hook import HookRequest
from schemas.job import JobRequest
from schemas.problem import Problem
from schemas.registration import EndpointPatch, EndpointRequest, Rotation, TestRequest
from schemas.replay import ReplayRequest
from schemas.stream import StreamAnswer
from service.security.keys import Role
from service.store.database import StoreUnavailable
from service.web import (
    assets,
    balance,
    callbacks,
    docs,
    endpoints,
    event_types,
    events,
    health,
    hooks,
    jobs,
    me,
    metrics,
    operations,
    projects,
    replays,
    signing,
    stats,
    streams,
    styles,
    vendors,
)
from service.web.lists import QUERY as _LIST
from service.web.projects import KeyRequest, ProjectRequest
from service.web.query import METADATA_KEY, refuse_unknown
from service.web.route import OpenHandler, OpenRoute, Route
from service.web.site import Answer, authenticate

log = structlog.get_logger()

GET, POST, PATCH, DELETE = HTTPMethod.GET, HTTPMethod.POST, HTTPMethod.PATCH, HTTPMethod.DELETE


_LINK = ("exp", "sig")
_JOB = ("Idempotency-Key", "Prefer")
_BYTES = ("Range", "If-Range", "If-None-Match")
_FORM = ("application/json", "multipart/form-data")
_FILE = ("multipart/form-data", "image/*")
_JOBS = ("state", "operation", "vendor", METADATA_KEY, *_LIST)
_LEDGER = ("endpoint", "event", "state", *_LIST)
_REPLAYS = ("endpoint", *_LIST)
_LOG = ("after", "type", "wait", "limit")
_SSE = ("after", "type")
_RESUMED = (streams.LAST_EVENT_ID,)

ROUTES: tuple[Route | OpenRoute, ...] = (
    Route(POST, "/v1/jobs", jobs.create, Role.WRITE, "Submit a job", JobRequest, 202, (), _JOB, _FORM, (200,)),
    Route(GET, "/v1/jobs", jobs.index, Role.READ, "List jobs, newest first", query=_JOBS),
    Route(GET, "/v1/jobs/{id}", jobs.show, Role.READ, "Look at a job"),
    Route(GET, "/v1/jobs/{id}/timeline", jobs.timeline, Role.READ, "Every step of a job with its time"),
    Route(POST, "/v1/jobs/{id}/cancel", jobs.cancel, Role.WRITE, "Cancel a job"),
    Route(POST, "/v1/jobs/{id}/retry", jobs.retry, Role.WRITE, "A failed or canceled job again, as a new one",
          None, 202, (), _JOB, also=(200,)),
    Route(POST, "/v1/assets", assets.create, Role.WRITE, "Upload an image", status=201, media=_FILE),
    Route(GET, "/v1/assets/{id}", assets.show, Role.READ, "Look at an asset"),
    OpenRoute(GET, "/v1/assets/{id}/content", assets.content, "An asset's bytes, by signed link or key",
              query=_LINK, headers=_BYTES, also=(206, 304)),
    Route(GET, "/v1/operations", operations.index, Role.READ, "List operations"),
    Route(GET, "/v1/operations/{vendor}/{name}", operations.show, Role.READ, "Look at an operation"),
    Route(GET, "/v1/vendors", vendors.index, Role.READ, "Which vendors work, their limits, and what is under way"),
    Route(GET, "/v1/vendors/{vendor}/credits", balance.show, Role.ADMIN, "What is left at a vendor"),
    Route(GET, "/v1/vendors/{vendor}/credits/history", balance.history, Role.ADMIN, "What was used at a vendor",
          query=_LIST),
    Route(GET, "/v1/vendors/{vendor}/{feature}/style-groups", styles.groups, Role.READ,
          "The groups that an operation's styles are in", query=_LIST),
    Route(GET, "/v1/vendors/{vendor}/{feature}/styles", styles.index, Role.READ, "The styles that an operation takes",
          query=("style_group_id", *_LIST)),
    Route(POST, "/v1/vendors/{vendor}/probe", vendors.probe, Role.ADMIN, "Look now whether a paused account is good",
          status=202),
    Route(GET, "/v1/events", events.index, Role.READ, "The log of events, oldest first", query=_LOG),
    Route(GET, "/v1/events/stream", streams.events, Role.READ, "The log as it is written, as Server-Sent Events",
          query=_SSE, headers=_RESUMED),
    Route(GET, "/v1/events/{id}", events.show, Role.READ, "Look at an event, with its deliveries"),
    Route(GET, "/v1/event-types", event_types.index, Role.READ, "Every type of event, with its schema and a sample"),
    Route(POST, "/v1/endpoints", endpoints.create, Role.WRITE, "Register an endpoint", EndpointRequest, 201),
    Route(GET, "/v1/endpoints", endpoints.index, Role.READ, "List endpoints, oldest first", query=_LIST),
    Route(GET, "/v1/endpoints/{id}", endpoints.show, Role.READ, "Look at an endpoint"),
    Route(PATCH, "/v1/endpoints/{id}", endpoints.change, Role.WRITE, "Change an endpoint", EndpointPatch),
    Route(DELETE, "/v1/endpoints/{id}", endpoints.delete, Role.WRITE, "Delete an endpoint", status=204),
    Route(GET, "/v1/endpoints/{id}/secret", signing.secret, Role.WRITE, "An endpoint's signing secret"),
    Route(POST, "/v1/endpoints/{id}/rotate-secret", signing.rotate_secret, Role.WRITE,
          "A new signing secret; the old one signs too for a while", Rotation),
    Route(POST, "/v1/endpoints/{id}/pause", endpoints.pause, Role.WRITE, "Hold all that is owed to an endpoint"),
    Route(POST, "/v1/endpoints/{id}/resume", endpoints.resume, Role.WRITE, "Serve a paused endpoint again"),
    Route(POST, "/v1/endpoints/{id}/enable", endpoints.enable, Role.WRITE, "Serve a disabled endpoint again"),
    Route(POST, "/v1/endpoints/{id}/test", endpoints.test, Role.WRITE,
          "Send a signed test message now; in a shop, look whether a picture would arrive", TestRequest),
    Route(POST, "/v1/endpoints/{id}/replay", replays.create, Role.WRITE, "Send a range of the log once more",
          ReplayRequest, 202, also=(200,)),
    Route(GET, "/v1/endpoints/{id}/stats", stats.show, Role.READ, "How an endpoint is doing", query=("hours",)),
    Route(GET, "/v1/replays", replays.index, Role.READ, "List replays, newest first", query=_REPLAYS),
    Route(GET, "/v1/replays/{id}", replays.show, Role.READ, "Look at a replay"),
    Route(POST, "/v1/replays/{id}/cancel", replays.cancel, Role.WRITE, "End a replay early"),
    Route(GET, "/v1/endpoints/{id}/stream", streams.deliveries, Role.WRITE,
          "Come for the deliveries of an endpoint of kind stream, as Server-Sent Events"),
    Route(POST, "/v1/endpoints/{id}/answers", streams.answer, Role.WRITE,
          "What the receiver behind a stream said to a delivery", StreamAnswer),
    Route(POST, "/v1/hooks", hooks.create, Role.WRITE, "Subscribe, as no-code tools do", HookRequest, 201, also=(200,)),
    Route(GET, "/v1/hooks", hooks.index, Role.READ, "List hooks, oldest first", query=_LIST),
    Route(GET, "/v1/hooks/samples", hooks.samples_index, Role.READ, "Recent events, just as a hook is sent them",
          query=("event", "format", "limit")),
    Route(GET, "/v1/hooks/{id}", hooks.show, Role.READ, "Look at a hook"),
    Route(DELETE, "/v1/hooks/{id}", hooks.delete, Role.WRITE, "Unsubscribe; succeeds whatever the id", status=204),
    Route(GET, "/v1/webhook-secret", signing.webhook_secret, Role.WRITE, "The secret of per-job webhooks"),
    Route(POST, "/v1/webhook-secret/rotate", signing.rotate_webhook_secret, Role.WRITE,
          "A new secret for the webhooks of jobs from now on"),
    Route(GET, "/v1/signing-key", signing.signing_key, Role.READ, "The public key of v1a signatures"),
    Route(POST, "/v1/signing-key/rotate", signing.rotate_signing_key, Role.WRITE,
          "A new key for v1a signatures; the old one signs too for a while", Rotation),
    Route(GET, "/v1/deliveries", events.deliveries_index, Role.READ, "List deliveries, newest first", query=_LEDGER),
    Route(GET, "/v1/deliveries/{id}", events.delivery_show, Role.READ, "Look at a delivery, with its attempts"),
    Route(POST, "/v1/deliveries/{id}/redeliver", replays.redeliver, Role.WRITE, "Send a delivery once more, now",
          status=202),
    Route(GET, "/v1/me", me.show, Role.READ, "Whose key this is"),
    Route(POST, "/v1/projects", projects.create, Role.ADMIN, "Make a project", ProjectRequest, 201),
    Route(GET, "/v1/projects", projects.index, Role.ADMIN, "List projects, oldest first", query=_LIST),
    Route(POST, "/v1/keys", projects.create_key, Role.ADMIN, "Make an API key", KeyRequest, 201),
    Route(GET, "/v1/keys", projects.index_keys, Role.ADMIN, "List API keys, oldest first", query=_LIST),
    Route(DELETE, "/v1/keys/{id}", projects.revoke_key, Role.ADMIN, "Revoke an API key", status=204),
    OpenRoute(POST, "/callbacks/{vendor}/{token}", callbacks.inbound, "A vendor's webhook", 204),
    OpenRoute(GET, "/callbacks/{vendor}/{token}", callbacks.inbound, "A vendor's webhook, by GET", 204),
    OpenRoute(GET, "/healthz", health.healthz, "Is the process up?"),
    OpenRoute(GET, "/readyz", health.readyz, "Can it do its work?"),
    OpenRoute(GET, "/metrics", metrics.index, "Counters and levels, for Prometheus"),
    OpenRoute(GET, "/.well-known/jwks.json", signing.jwks, "Every project's public key, as a JWKS"),
    OpenRoute(GET, "/openapi.json", docs.openapi_json, "This description"),
    OpenRoute(GET, "/docs", docs.page, "This description, to read"),
)  # fmt: skip


def _answering(route: Route | OpenRoute) -> OpenHandler:
    """The route's handler behind its key, with whatever goes wrong as a problem."""

    async def answer(request: Request) -> Response:
        try:
            if isinstance(route, OpenRoute):
                return await route.handler(request)
            who = await authenticate(request, route.role)
            refuse_unknown(request, route.query)
            return await route.handler(request, who)
        except Problem as problem:
            return problem_answer(problem)
        except StoreUnavailable:
            log.warning("request.store_unavailable", method=route.method, path=route.path)
            unavailable = Problem(503, "unavailable", "The store can't be reached now.", headers={"Retry-After": "5"})
            return problem_answer(unavailable)
        except HTTPException:
            raise
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except Exception:
            # The path's pattern, never the path: it may hold a token.
            log.exception("request.fault", method=route.method, path=route.path)
            return problem_answer(Problem(500, "internal", "Something went wrong here; it is in the log."))

    return answer


def problem_answer(problem: Problem) -> Response:
    answer = Answer(problem.as_json(), problem.status, dict(problem.headers))
    answer.headers["content-type"] = "application/problem+json"
    return answer


async def http_exception(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette's signature
    """Starlette's own refusals (no such route, wrong method) in our form, with their headers (Allow)."""
    assert isinstance(error, HTTPException)
    names = {404: "not_found", 405: "method_not_allowed"}
    problem = Problem(error.status_code, names.get(error.status_code, "http_error"), error.detail)
    answer = problem_answer(problem)
    answer.headers.update(error.headers or {})
    return answer


class _Path(StarletteRoute):
    """The first path that fits decides, whatever the method: `/v1/hooks/samples` is never a hook's id."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), found


def starlette_routes() -> list[StarletteRoute]:
    """One Starlette route a path, so that a wrong method is told which ones there are."""
    by_path: dict[str, dict[str, OpenHandler]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, {})[route.method] = _answering(route)
    return [_Path(path, _by_method(handlers), methods=sorted(handlers)) for path, handlers in by_path.items()]


def _by_method(handlers: dict[str, OpenHandler]) -> OpenHandler:
    async def dispatch(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return dispatch
