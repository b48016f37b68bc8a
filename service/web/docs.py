"""The description of the API: `/openapi.json` for programs, `/docs` for people, both from the one route table."""

from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.web.openapi.document import describe
from service.web.openapi.page import as_html
from service.web.site import Answer


@cache
def openapi() -> dict[str, Any]:
    """OpenAPI 3.1, made once."""
    from service.web.routes import ROUTES  # the table names this module's own handlers

    return describe(ROUTES)


@cache
def _html() -> str:
    return as_html(openapi())


async def openapi_json(request: Request) -> Response:  # noqa: ARG001 - the same for everybody
    return Answer(openapi())


async def page(request: Request) -> Response:  # noqa: ARG001 - the same for everybody
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(_html(), headers=headers)
