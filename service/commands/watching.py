"""Jobs that a command waits for: bars while they run, and at the end what became of them and where it lies."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from service.client import Client, Json, ended
from service.commands import saving
from service.commands.codes import Code, together
from service.commands.shared import FAULTS, Server, code_of, console, printable

AT_ONCE = 4  # jobs under way at the same time; the vendors' own limits are the service's business


class Make(Protocol):
    def __call__(self, client: Client, *, wait: bool, uploaded: Callable[[int], None]) -> Awaitable[Json]:
        """Make the job. `wait` lets the server hold its answer until the end; `uploaded` hears of bytes sent."""


@dataclass(frozen=True)
class Work:
    """One job to be: how it is made, the name that its results take, and how many bytes go up for it."""

    stem: str
    make: Make
    upload: int = 0


class Batch:
    """Jobs of one call. Each lives and fails alone; the call succeeds if all do."""

    def __init__(self, server: Server, *, wait: bool, output: Path | None, single: bool) -> None:
        self._server = server
        self._wait = wait or output is not None
        self._output = output
        self._single = single
        self._turn = asyncio.Semaphore(AT_ONCE)
        where = console(err=True)
        # A bar is for eyes; without a terminal the server holds its answer, which is sooner than any asking.
        self._watched = where.is_terminal and not server.json
        self._untold: list[Callable[[], None]] = []
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}", markup=False),
            TimeElapsedColumn(),
            console=where,
            disable=not self._watched,
            transient=True,
        )

    async def run(self, client: Client, works: Sequence[Work]) -> Code:
        with self._progress:
            codes = await asyncio.gather(*(self._one(client, work) for work in works))
        for tell in self._untold:
            tell()
        return together(codes)

    def _tell(self, tell: Callable[[], None]) -> None:
        """Now; or where bars are on the screen, once they are gone: a line between them would garble both."""
        if self._watched:
            self._untold.append(tell)
        else:
            tell()

    async def _one(self, client: Client, work: Work) -> Code:
        async with self._turn:
            bar = self._progress.add_task(work.stem, total=None, status="")
            try:
                return await self._through(client, work, bar)
            except BrokenPipeError:
                raise
            except FAULTS as error:
                self._tell(partial(self._server.fail, error, "" if self._single else work.stem))
                return code_of(error)
            finally:
                self._progress.remove_task(bar)

    async def _through(self, client: Client, work: Work, bar: TaskID) -> Code:
        self._progress.update(bar, total=work.upload or None, status="uploading" if work.upload else "")
        job = await work.make(
            client,
            wait=self._wait and not self._watched,
            uploaded=lambda taken: self._progress.advance(bar, taken),
        )
        if self._wait:
            self._progress.reset(bar, total=100)
            job = await client.wait(job, lambda heard: self._show(bar, heard))
        saved = await self._save(client, work.stem, job) if ended(job) else []
        told = {**job, "saved": [str(path) for path in saved]}
        self._tell(lambda: self._server.show(told, lambda: _describe(job, saved)))
        return Code.SUCCESS if not self._wait or job["state"] == "succeeded" else Code.FAILED

    def _show(self, bar: TaskID, job: Json) -> None:
        self._progress.update(bar, status=job["state"], completed=job["progress"] or 0)

    async def _save(self, client: Client, stem: str, job: Json) -> list[Path]:
        outputs, target = job["outputs"], self._output
        if target is None or not outputs:
            return []
        if self._single and not target.is_dir() and target.suffix:
            target.parent.mkdir(parents=True, exist_ok=True)
            paths = saving.beside(target, outputs)
        else:
            target.mkdir(parents=True, exist_ok=True)
            paths = saving.inside(target, stem, job["operation"], outputs)
        await saving.save(client, outputs, paths)
        return paths


def _describe(job: Json, saved: Sequence[Path]) -> None:
    click.echo(f"{job['id']} {job['state']}")
    if job["error"] is not None:
        click.echo(f"Error: {why(job['error'])}", err=True)
    for entry, path in zip(job["outputs"], saved, strict=False):
        click.echo(f"{path}  {entry['width']}×{entry['height']}  {entry['bytes']} bytes")
        if path.suffix.lower() not in (saving.ending(entry["content_type"]), ".jpeg"):
            click.echo(f"Note: {path.name} holds {entry['content_type']}.", err=True)


def why(error: Json) -> str:
    """A job's `error` on one line."""
    return printable(f"{error['class']}/{error['code']}: {error['message']}")
