"""What the tests of Perfect Corp's client share: the client beside its stand-in, both with one clock."""

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import PerfectCorpSettings
from handlers.vendors.contract import Account, InputFile, Prepared, Task, Work
from handlers.vendors.perfectcorp import PerfectCorp
from schemas.callback import Update, UpdateState
from schemas.catalogue import params_errors
from tests.vendors import clients
from tests.vendors.clients import Client
from tests.vendors.perfectcorp_by_hand import AT_ONCE, Hands

_OWN: Mapping[str, Mapping[str, Any]] = {
    "enhance": {"scale": 2},
    "text-to-image": {"prompt": "a cat on the moon"},
}


@dataclass
class Rig:
    """`sandbox.clock` is `clock` too: time goes on where a test says so."""

    client: Client
    vendor: PerfectCorp
    sandbox: PerfectCorpSandbox
    clock: Hands
    image: InputFile

    @property
    def account(self) -> Account:
        return self.client.account

    @property
    def taken(self) -> list[str]:
        """What turns were taken for; the list begins anew."""
        taken, self.client.turns.taken = self.client.turns.taken, []
        return taken

    def play(self, **changes: Any) -> None:
        self.sandbox.settings = replace(self.sandbox.settings, **changes)

    async def work(self, operation: str, **changes: Any) -> Work:
        """A job that the operation takes: its pictures, and a style where it wants one."""
        inputs = changes.pop("inputs", None) or {
            spec.name: mask_of(self.image) if spec.name == "mask" else self.image
            for spec in self.vendor.operations[operation].inputs
        }
        extra = changes.pop("extra", {})
        params = {**(await self.params(operation)), **changes}
        assert params_errors(self.vendor.operations[operation], params) == []
        return Work("job_1", self.vendor.operations[operation], params, extra, inputs)

    async def params(self, operation: str) -> Mapping[str, Any]:
        own = _OWN.get(operation, {})
        found = self.vendor.operations[operation]
        if not self.vendor.has_styles(found):
            return own
        group = (await self.vendor.style_groups(self.account, found, None, 1)).entries[0]["id"]
        style = (await self.vendor.styles(self.account, found, group, None, 1)).entries[0]["id"]
        return {**own, "style_group_id": group, "style_ids": [style]}

    async def prepared(self, operation: str = "colorize", **changes: Any) -> tuple[Work, Prepared]:
        job = await self.work(operation, **changes)
        return job, await self.vendor.prepare(self.account, job)

    async def submitted(self, operation: str = "colorize", **changes: Any) -> Task:
        job, prepared = await self.prepared(operation, **changes)
        return await self.handed_in(job, prepared)

    async def handed_in(self, job: Work, prepared: Prepared) -> Task:
        answer = await self.vendor.submit(self.account, prepared, None, job)
        assert answer.task_id is not None
        assert answer.reply is None
        return Task(answer.task_id, prepared)

    async def asked(self, task: Task) -> Update:
        return self.vendor.read(await self.vendor.ask(self.account, task), task)

    async def done(self, operation: str = "colorize", **changes: Any) -> Update:
        task = await self.submitted(operation, **changes)
        await self.sandbox.tasks[task.id].ended.wait()
        update = await self.asked(task)
        assert update.state is UpdateState.SUCCEEDED, update
        return update


def mask_of(image: InputFile) -> InputFile:
    """A grey picture of the same size, white in its middle."""
    mask = Image.new("L", (image.width, image.height))
    mask.paste(255, (image.width // 3, image.height // 3, image.width // 2, image.height // 2))
    held = io.BytesIO()
    mask.save(held, "PNG")
    path = image.path.with_name("mask.png")
    path.write_bytes(held.getvalue())
    return replace(image, path=path, content_type="image/png", bytes=len(held.getvalue()))


@asynccontextmanager
async def rig(
    photos: Path, folder: Path, settings: PerfectCorpSettings = AT_ONCE, vendor: PerfectCorp | None = None
) -> AsyncIterator[Rig]:
    clock, vendor = Hands(), vendor or PerfectCorp()
    sandbox = PerfectCorpSandbox(settings, clock=clock, monotonic=clock)
    async with (
        sandbox,
        clients.client(vendor, sandbox.base_url, sandbox.credentials, now=lambda: round(clock.now * 1000)) as client,
    ):
        yield Rig(client, vendor, sandbox, clock, clients.picture(photos, "astronaut.jpg", folder))
