"""What goes wrong on the way to a shop, on demand: the call with this number fails, before or after its effect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from aiohttp import web
from aiohttp.typedefs import Handler


class Fault(Enum):
    BEFORE = auto()  # a 500, and nothing was done
    AFTER = auto()  # it was done, and the answer is a 502
    LOST = auto()  # it was done, and nobody was told


@dataclass
class Hold:
    """The first call of this name waits until it is `opened`."""

    call: str
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Faults:
    """`plan`: what is to happen to the call of a number, from 1. `calls`: what was called, in order."""

    plan: dict[int, Fault] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)

    def hold(self, call: str) -> Hold:
        self.holds.append(Hold(call))
        return self.holds[-1]

    def restart(self, **plan: Fault) -> None:
        self.calls.clear()
        self.plan = {int(number.removeprefix("call_")): fault for number, fault in plan.items()}

    def application(self) -> web.Application:
        """One whose calls go through here."""

        @web.middleware
        async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.calls.append(f"{request.method} {request.path}")
            fault = self.plan.get(len(self.calls))
            for hold in [hold for hold in self.holds if hold.call == self.calls[-1]]:
                self.holds.remove(hold)
                hold.reached.set()
                await hold.opened.wait()
            if fault is Fault.BEFORE:
                await request.read()
                return web.Response(status=500, text="a bad day")
            response = await handler(request)
            if fault is Fault.AFTER:
                return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")
            if fault is Fault.LOST:
                assert request.transport is not None
                request.transport.abort()
            return response

        return web.Application(client_max_size=64 << 20, middlewares=[around])


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """A real server on loopback; gives `http://127.0.0.1:port`."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
