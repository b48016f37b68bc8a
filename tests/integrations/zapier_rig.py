"""Zapier's side of the tests: our app in Zapier's own tester, an account at a running service, and a hook URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import API_KEY, Receiver, Stand, receiver, stand
from tests.integrations.node import Refused, Talk, talking

PROGRAM = Path(__file__).with_name("zapier.cjs")


@dataclass
class Zapier:
    """Zapier's side: an account that is connected to the service, and a hook URL of Zapier's (the receiver)."""

    talk: Talk
    it: Stand
    catch: Receiver
    key: str = API_KEY

    async def run(self, method: str, **bundle: Any) -> Any:
        """One of the app's functions, as `triggers.job_failed.perform`; its `operation` is understood."""
        kind, _, rest = method.partition(".")
        name, _, function = rest.partition(".")
        where = f"{kind}.{name}.operation.{function}" if function else method
        bundle.setdefault("inputData", {})
        bundle.setdefault("authData", {"base_url": self.it.client.url, "api_key": self.key})
        return await self.talk(run=where, bundle=bundle)

    async def refused(self, method: str, **bundle: Any) -> dict[str, Any]:
        """What Zapier shows its user when this fails."""
        with pytest.raises(Refused) as refused:
            await self.run(method, **bundle)
        return refused.value.said


@asynccontextmanager
async def zapier(folder: Path, **changes: Any) -> AsyncIterator[Zapier]:
    async with talking(PROGRAM, "zapier") as talk, stand(folder, **changes) as it, receiver() as catch:
        yield Zapier(talk, it, catch)
