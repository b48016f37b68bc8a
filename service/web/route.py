"""One row of the table of URLs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPMethod

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.security.keys import Role
from service.store.keys import Principal

Handler = Callable[[Request, Principal], Awaitable[Response]]
OpenHandler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """`role` is the least that a key must have. What it answers stands in `service/web/openapi/told.py`."""

    method: HTTPMethod
    path: str
    handler: Handler
    role: Role
    summary: str
    body: type[BaseModel] | None = None
    status: int = 200
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    media: tuple[str, ...] = ("application/json",)
    also: tuple[int, ...] = ()  # other statuses of success


@dataclass(frozen=True)
class OpenRoute:
    """One row that needs no key."""

    method: HTTPMethod
    path: str
    handler: OpenHandler
    summary: str
    status: int = 200
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    also: tuple[int, ...] = ()
