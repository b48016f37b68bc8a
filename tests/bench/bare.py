"""The baselines: an aiohttp loop that posts, and a Starlette route that takes, with nothing of ours in either.

`python -m tests.bench.bare client` also puts the load on whatever takes jobs; `… server` is the bare route.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.bench.child import obey

# About the size of a real job.succeeded.
BODY = b"x" * 1_300


async def post(url: str, count: int, at_once: int) -> None:
    """The same bytes, posted by as many tasks; nothing signed, nothing kept."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def some() -> None:
            for _ in range(count // at_once):
                async with session.post(url, data=BODY) as answer:
                    await answer.read()

        await asyncio.gather(*(some() for _ in range(at_once)))


async def submit(
    url: str, count: int, at_once: int, headers: Mapping[str, str], job: Mapping[str, Any], picture: str | None
) -> None:
    """Jobs, as a user's program submits them."""
    text = json.dumps(job)
    file = None if picture is None else bytes.fromhex(picture)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def some() -> None:
            for _ in range(count // at_once):
                data: Any = text
                own = {"Content-Type": "application/json"}
                if file is not None:
                    own, data = {}, aiohttp.FormData()
                    data.add_field("job", text, content_type="application/json")
                    data.add_field("image", file, filename="small.png", content_type="image/png")
                async with session.post(url, data=data, headers=own) as answer:
                    body = await answer.read()
                    if answer.status != 202:
                        raise RuntimeError(f"{answer.status}: {body!r}")

        await asyncio.gather(*(some() for _ in range(at_once)))


async def take(request: Request) -> JSONResponse:
    """What any route has to do: read the request whole, and answer as much."""
    if request.headers["content-type"].startswith("multipart/"):
        async with request.form() as form:
            job = json.loads(str(form["job"]))
            picture = form["image"]
            assert not isinstance(picture, str)
            await picture.read()
    else:
        job = await request.json()
    return JSONResponse({**job, "padding": "x" * 500}, 202)


async def server() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app = Starlette(routes=[Route("/v1/jobs", take, methods=["POST"])])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
        serving = uvicorn.Server(config)
        task = asyncio.create_task(serving.serve(sockets=[sock]))

        async def nothing() -> None:
            return None

        await obey({"nothing": nothing}, url=f"http://127.0.0.1:{sock.getsockname()[1]}")
        serving.should_exit = True
        await task


async def client() -> None:
    await obey({"post": post, "submit": submit})


if __name__ == "__main__":
    uvloop.run(server() if sys.argv[1] == "server" else client())
