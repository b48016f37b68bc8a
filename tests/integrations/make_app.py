"""Stands in for Make: replays the requests that our app's templates describe, and reads the answers as they say."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.integrations.iml import UNDEFINED, rendered, truth
from tests.integrations.node import INTEGRATIONS

APP = INTEGRATIONS / "make"
MANIFEST = json.loads((APP / "makecomapp.json").read_text())


def code(kind: str, name: str, part: str = "communication") -> Any:
    """One file of a component."""
    return json.loads((APP / MANIFEST["components"][kind][name]["codeFiles"][part]).read_text())


def files() -> set[Path]:
    return {path for path in APP.rglob("*") if path.is_file()}


BASE = json.loads((APP / MANIFEST["generalCodeFiles"]["base"]).read_text())


class MakeError(Exception):
    """What Make shows to its user."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


@dataclass
class Make:
    """One user's connection, and what runs with it."""

    connection: Mapping[str, str]
    http: aiohttp.ClientSession
    webhooks: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def connect(self, **parameters: str) -> str:
        """The connection is tried; what it is called then. It is the one thing that has no base."""
        scope = {"parameters": parameters}
        answer = [entry async for entry in self._run(code("connection", "wirephoto"), scope, base={})]
        return str(answer[0]["metadata"]["value"])

    async def attach(self, name: str, url: str, **parameters: Any) -> dict[str, Any]:
        scope = self._scope(parameters, webhook={"url": url})
        (answer,) = [entry async for entry in self._run(code("webhook", name, "attach"), scope)]
        hook: dict[str, Any] = answer["data"]
        return hook

    async def detach(self, name: str, hook: Mapping[str, Any]) -> None:
        async for _ in self._run(code("webhook", name, "detach"), self._scope({}, webhook=hook)):
            pass

    def delivered(self, name: str, body: Mapping[str, Any], **parameters: Any) -> Any:
        """The bundle that a delivery becomes, or None where it starts nothing."""
        told = code("webhook", name)
        scope = self._scope(parameters, body=body)
        return rendered(told["output"], scope) if truth(rendered(told["condition"], scope)) else None

    async def rpc(self, name: str, **parameters: Any) -> list[Any]:
        return [entry["output"] async for entry in self._run(code("rpc", name), self._scope(parameters))]

    async def run(self, name: str, told: Any = None, **parameters: Any) -> list[Any]:
        """The bundles that a module makes."""
        scope = self._scope(parameters)
        return [entry["output"] async for entry in self._run(told or code("module", name), scope)]

    def _scope(self, parameters: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {"connection": self.connection, "parameters": parameters, **more}

    async def _run(
        self, told: Mapping[str, Any], scope: Mapping[str, Any], base: Mapping[str, Any] = BASE
    ) -> AsyncIterator[dict[str, Any]]:
        request = {key: told[key] for key in ("url", "method", "headers", "qs", "body", "type") if key in told}
        response = {**base.get("response", {}), **told.get("response", {})}
        page, count = request, 0
        while True:
            answer = await self._send(page, scope, base, response.get("error", {}))
            for entry in self._read(response, answer):
                count += 1
                yield entry
                if count == rendered(response.get("limit", 0), scope):
                    return
            pagination = told.get("pagination")
            if pagination is None or not truth(rendered(pagination["condition"], answer)):
                return
            page = {**request, "qs": {**request.get("qs", {}), **rendered(pagination["qs"], answer)}}

    async def _send(
        self, request: Mapping[str, Any], scope: Mapping[str, Any], base: Mapping[str, Any], errors: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What of the answer is in scope."""
        url = rendered(request["url"], scope)
        url = url if url.startswith("http") else rendered(base["baseUrl"], scope) + url
        headers = rendered({**base.get("headers", {}), **request.get("headers", {})}, scope)
        query = {name: str(value) for name, value in rendered(request.get("qs", {}), scope).items()}
        sent: dict[str, Any] = {}
        if "body" in request:
            body = rendered(request["body"], scope)
            sent = {"data": _form(body)} if request.get("type") == "multipart/form-data" else {"json": body}
        method = request.get("method", "GET")
        async with self.http.request(method, url, headers=headers, params=query, **sent) as answer:
            text = await answer.text()
            read = json.loads(text) if "json" in answer.headers.get("content-type", "") else text
            told = {**scope, "body": read, "statusCode": answer.status}
            if answer.status >= 400:
                error = errors.get(str(answer.status), errors)
                raise MakeError(error.get("type", "RuntimeError"), rendered(error["message"], told))
        return told

    def _read(self, response: Mapping[str, Any], told: dict[str, Any]) -> list[dict[str, Any]]:
        valid = response.get("valid")
        if valid is not None and not truth(rendered(valid["condition"], told)):
            raise MakeError(valid["type"], rendered(valid["message"], told))
        told = {**told, "temp": rendered(response.get("temp", {}), told)}
        parts = {name: response[name] for name in ("output", "data", "metadata") if name in response}
        iterate = response.get("iterate")
        if iterate is None:
            return [rendered(parts, told)]
        container, condition = (
            (iterate, True) if isinstance(iterate, str) else (iterate["container"], iterate["condition"])
        )
        items = [{**told, "item": item} for item in rendered(container, told)]
        return [rendered(parts, scope) for scope in items if truth(rendered(condition, scope))]


def _form(body: Mapping[str, Any]) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, part in body.items():
        assert part["value"] is not UNDEFINED
        form.add_field(name, part["value"], filename=part["options"]["filename"])
    return form
