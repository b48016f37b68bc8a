"""All vendors' stand-ins together: behind `serve --sandbox`, `wirephoto sandbox` and the demo."""

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from handlers.sandbox.ailabtools import AILabToolsSandbox
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.server import Sandbox
from handlers.sandbox.vanceai import VanceAISandbox

MAKE: Mapping[str, Callable[..., Sandbox[Any, Any]]] = {
    "vanceai": VanceAISandbox,
    "perfectcorp": PerfectCorpSandbox,
    "picwish": PicWishSandbox,
    "ailabtools": AILabToolsSandbox,
}


@dataclass(frozen=True, slots=True)
class SandboxVendor:
    """Where one stand-in listens, and what it takes, by the settings' names. It opens nothing but the stand-in."""

    base_url: str
    credentials: Mapping[str, str] = field(repr=False)


class Sandboxes:
    """One stand-in per vendor; `vendors` is known between `start` and `stop`."""

    def __init__(self) -> None:
        self.vendors: Mapping[str, SandboxVendor] = {}
        self._running = AsyncExitStack()

    async def start(self, host: str = "127.0.0.1", ports: Mapping[str, int] | None = None) -> None:
        """Listen, each on its port of `ports`, or on any free one. OSError where a port is taken: then none runs."""
        wanted = ports or {}
        async with AsyncExitStack() as stack:
            vendors = {}
            for name, make in MAKE.items():
                # Task ids follow from the seed: a service that outlives its sandboxes must not see one twice.
                sandbox = make(seed=time.time_ns())
                await sandbox.start(host, wanted.get(name, 0))
                stack.push_async_callback(sandbox.stop)
                vendors[name] = SandboxVendor(sandbox.base_url, sandbox.credentials)
            self.vendors = vendors
            self._running = stack.pop_all()

    async def stop(self) -> None:
        """Cut every connection; no task and no socket is left."""
        self.vendors = {}
        await self._running.aclose()
