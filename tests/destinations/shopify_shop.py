"""A shop at Shopify that is none: its GraphQL Admin, its storage and its tokens, from Shopify's public documents.

It is driven by a schema: each document and its variables are validated and run by graphql-core, against Shopify's own
schema where that is at hand, else against the part in shopify.graphql. What no client should do is a `violation`.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    OperationType,
    build_schema,
    execute,
    get_operation_ast,
    parse,
    validate,
)
from graphql.execution import ExecutionResult

from tests.destinations.faults import Faults, serving
from tests.destinations.shopify_operations import Json, Reads, State, Writes

VERSION = "2026-07"
TOKEN = "shpat_0123456789abcdef0123456789abcdef"
CLIENT = ("client-7f3a", "shpss_fedcba9876543210")
COST = 10


@lru_cache
def own_schema() -> GraphQLSchema:
    """The part of Shopify's schema that the stand-in implements."""
    return build_schema(Path(__file__).with_name("shopify.graphql").read_text(encoding="utf-8"))


@lru_cache
def judged(schema: GraphQLSchema, query: str) -> tuple[DocumentNode, list[GraphQLError]]:
    """A document, and what the schema finds wrong with it."""
    document = parse(query)
    return document, validate(schema, document)


class ShopifyShop(State):
    """Its doors. `answers` are said instead of its own, once each; `available` is what its bucket holds."""

    def __init__(self, schema: GraphQLSchema | None = None) -> None:
        super().__init__()
        self.schema = schema or own_schema()
        self.faults = Faults()
        self.changes: list[str] = []  # the mutations that were asked for
        self.tokens = {TOKEN}
        self.granted: list[str] = []
        self.available = 2000.0
        self.throttled_status = 200
        self.grants_nothing = False  # its new tokens don't open
        self.unsigned = False  # the storage knows none of its signatures
        self.silent = False
        self.instead: dict[str, Any] = {}  # said to a mutation of this name, once
        self.answers: list[tuple[int, Any]] = []  # said instead, once each

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = self.faults.application()
        app.router.add_post("/admin/api/{version}/graphql.json", self._graphql)
        app.router.add_post("/admin/oauth/access_token", self._token)
        app.router.add_put("/staged/{key}/{name}", self._put)
        app.router.add_route("*", "/{rest:.*}", self._elsewhere)
        async with serving(app) as url:
            self.url = url
            yield url

    # -- the doors -----------------------------------------------------------------------------------------------------

    async def _elsewhere(self, request: web.Request) -> web.Response:
        return self._wrong(f"{request.method} {request.path} is nothing of Shopify's", 404)

    def _wrong(self, what: str, status: int = 400) -> web.Response:
        self.violations.append(what)
        return web.json_response({"errors": what}, status=status)

    async def _token(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return self._wrong(f"the grant came as {request.content_type}")
        form = dict(parse_qsl(await request.text(), strict_parsing=True))
        if set(form) != {"grant_type", "client_id", "client_secret"} or form["grant_type"] != "client_credentials":
            return self._wrong(f"a grant with {sorted(form)}")
        if (form["client_id"], form["client_secret"]) != CLIENT:
            body = {"error": "invalid_client", "error_description": f"{form['client_secret']} is not its secret"}
            return web.json_response(body, status=400)
        token = f"shpca_{secrets.token_hex(8)}"
        self.granted.append(token)
        if not self.grants_nothing:
            self.tokens.add(token)
        return web.json_response({"access_token": token, "scope": ",".join(self.scopes), "expires_in": 86399})

    async def _put(self, request: web.Request) -> web.Response:
        staged = self.staged.get(request.match_info["key"])
        if (
            staged is None
            or self.unsigned
            or request.query.get("X-Goog-Signature") != f"signed-{request.match_info['key']}"
        ):
            return web.Response(status=403, text=f"<Error>SignatureDoesNotMatch {request.query_string}</Error>")
        given = {"content_type": staged.given["mimeType"], "acl": "private", "Content-Type": staged.given["mimeType"]}
        sent = {name: request.headers.get(name) for name in given}
        if sent != given:
            self.violations.append(f"an upload with {sent}")
            return web.Response(status=403, text="<Error>SignatureDoesNotMatch</Error>")
        if "X-Shopify-Access-Token" in request.headers:
            self.violations.append("the token was sent to the storage")
        staged.body = await request.read()
        if str(len(staged.body)) != str(staged.given["fileSize"]):
            self.violations.append("an upload of another size than was said")
        return web.Response()

    async def _graphql(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json" or request.query_string:
            return self._wrong(f"a question as {request.content_type}, with {request.query_string!r}")
        if self.silent:
            await asyncio.Event().wait()
        if request.match_info["version"] != VERSION:
            return web.json_response({"errors": "Not Found"}, status=404)
        if request.headers.get("X-Shopify-Access-Token") not in self.tokens:
            return web.json_response({"errors": "[API] Invalid API key or access token"}, status=401)
        if self.answers:
            status, said = self.answers.pop(0)
            return web.json_response(said, status=status)
        if self.available < COST:
            return web.json_response(
                {
                    "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
                    "extensions": {"cost": self._cost(None)},
                },
                status=self.throttled_status,
            )
        self.available -= COST
        body = await request.json()
        if set(body) - {"query", "variables", "operationName"}:
            return self._wrong(f"a question with {sorted(body)}")
        return web.json_response({**self._answered(body), "extensions": {"cost": self._cost(COST)}})

    def _cost(self, actual: int | None) -> Json:
        status = {"maximumAvailable": 2000.0, "currentlyAvailable": self.available, "restoreRate": 100.0}
        return {"requestedQueryCost": COST, "actualQueryCost": actual, "throttleStatus": status}

    def _answered(self, body: Json) -> Json:
        document, faults = judged(self.schema, body["query"])
        if faults:
            self.violations += [fault.message for fault in faults]
            return {
                "errors": [{"message": fault.message, "extensions": {"code": "undefinedField"}} for fault in faults]
            }
        operation = get_operation_ast(document)
        assert operation is not None
        if operation.operation is OperationType.MUTATION:
            self.changes += [
                field.name.value for field in operation.selection_set.selections if isinstance(field, FieldNode)
            ]
            said = self.instead.pop(self.changes[-1], None)
            if said is not None:
                return dict(said)
        reads, writes = Reads(self), Writes(self)
        root = {name: getattr(owner, name) for owner in (reads, writes) for name in owner.NAMES}
        result = execute(self.schema, document, root, variable_values=body.get("variables"))
        assert isinstance(result, ExecutionResult)
        answer: Json = {"data": result.data}
        if result.errors:
            answer["errors"] = [self._told(error) for error in result.errors]
        return answer

    def _told(self, error: GraphQLError) -> Json:
        code = (error.extensions or {}).get("code")
        if code is None:
            self.violations.append(error.message)
            code = "INVALID_VARIABLE"
        return {"message": error.message, "path": error.path, "extensions": {**(error.extensions or {}), "code": code}}
