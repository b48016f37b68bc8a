"""`wirephoto submit`: pictures in, jobs made, and where wished the results on disk."""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from service.client import Client, Damaged, Json, ProblemAnswer, Unreachable, ended
from service.commands import saving
from service.commands.shared import Server, client_command, console

DEFAULT_INPUT = "image"
AT_ONCE = 4  # pictures under way at the same time; the vendors' own limits are the service's business


@dataclass(frozen=True)
class Order:
    """One job to be: its inputs by name, each a file or a URL, and the name that its results take."""

    inputs: Mapping[str, str]
    stem: str
    idempotency_key: str | None

    @property
    def files(self) -> dict[str, Path]:
        return {name: Path(source) for name, source in self.inputs.items() if not _is_url(source)}

    @property
    def links(self) -> dict[str, dict[str, str]]:
        return {name: {"url": source} for name, source in self.inputs.items() if _is_url(source)}


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    _ = ctx
    pairs: dict[str, str] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not name or not sign:
            # Only the name is repeated: a value may be what nobody else should read.
            raise click.BadParameter(f"{name or 'this'} is not NAME=VALUE", param=param)
        if name in pairs:
            raise click.BadParameter(f"{name} is given twice", param=param)
        pairs[name] = text
    return pairs


def _json_pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    return {name: _json_or_text(text) for name, text in _pairs(ctx, param, values).items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command()
@click.argument("sources", nargs=-1, metavar="[FILE_OR_URL]...")
@click.option("--operation", required=True, help="What is to be done: vanceai/enlarge3.")
@click.option(
    "--param", "params", multiple=True, callback=_json_pairs, help="NAME=VALUE, the value JSON or plain text."
)
@click.option("--metadata", multiple=True, callback=_pairs, help="NAME=TEXT, comes back in every event.")
@click.option("--channel", "channels", multiple=True, help="Events go to endpoints of this channel too.")
@click.option(
    "--input", "inputs", multiple=True, callback=_pairs, help="NAME=FILE_OR_URL, for an input not called image."
)
@click.option(
    "--idempotency-key", help="The same key never makes a second job; with several pictures -1, -2, … follow."
)
@click.option("--wait", is_flag=True, help="Wait until the job has ended; success only if it succeeded.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where the result goes: a file (its name has an ending) or a folder. Waits.",
)
@client_command
def submit(
    server: Server,
    sources: tuple[str, ...],
    operation: str,
    params: dict[str, Any],
    metadata: dict[str, str],
    channels: tuple[str, ...],
    inputs: dict[str, str],
    idempotency_key: str | None,
    wait: bool,
    output: Path | None,
) -> None:
    """Submit a job for each FILE_OR_URL, as its input `image`; those of --input go with each of them."""
    orders = _orders(sources, inputs, idempotency_key)
    if output is not None and len(orders) > 1 and output.suffix and not output.is_dir():
        raise click.UsageError("Several pictures need a folder: -o results/")
    job = {"operation": operation, "params": params, "metadata": metadata, "channels": list(channels)}
    batch = Batch(server, job, wait=wait or output is not None, output=output, single=len(orders) == 1)
    if not server.run(lambda client: batch.run(client, orders)):
        sys.exit(1)


def _orders(sources: Sequence[str], inputs: Mapping[str, str], key: str | None) -> list[Order]:
    if not sources and not inputs:
        raise click.UsageError("Name at least one picture: a file, a URL, or --input NAME=FILE.")
    if sources and DEFAULT_INPUT in inputs:
        raise click.UsageError(f"The input {DEFAULT_INPUT} is given twice: as an argument and as --input.")
    orders: list[Order] = []
    stems: dict[str, int] = {}
    for number, source in enumerate(sources or [None], start=1):
        together = {**inputs} if source is None else {DEFAULT_INPUT: source, **inputs}
        for path in (Path(given) for given in together.values() if not _is_url(given)):
            if not path.is_file():
                raise click.UsageError(f"There is no file {path}.")
        stem = _stem(next(iter(together.values())))
        stems[stem] = stems.get(stem, 0) + 1
        # Two folders may each hold a photo.jpg: neither result may cover the other.
        stem = stem if stems[stem] == 1 else f"{stem}-{stems[stem]}"
        own_key = key if key is None or len(sources) < 2 else f"{key}-{number}"
        orders.append(Order(together, stem, own_key))
    return orders


def _stem(source: str) -> str:
    return (PurePosixPath(urlsplit(source).path).stem if _is_url(source) else Path(source).stem) or "picture"


class Batch:
    """Jobs of one call. Each lives and fails alone; the call succeeds if all do."""

    def __init__(self, server: Server, job: Json, *, wait: bool, output: Path | None, single: bool) -> None:
        self._server = server
        self._job = job
        self._wait = wait
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

    async def run(self, client: Client, orders: Sequence[Order]) -> bool:
        with self._progress:
            done = await asyncio.gather(*(self._one(client, order) for order in orders))
        for tell in self._untold:
            tell()
        return all(done)

    def _tell(self, tell: Callable[[], None]) -> None:
        """Now; or where bars are on the screen, once they are gone: a line between them would garble both."""
        if self._watched:
            self._untold.append(tell)
        else:
            tell()

    async def _one(self, client: Client, order: Order) -> bool:
        async with self._turn:
            bar = self._progress.add_task(order.stem, total=None, status="")
            try:
                return await self._through(client, order, bar)
            except (ProblemAnswer, Unreachable, Damaged, OSError) as error:
                self._tell(partial(self._server.fail, error, "" if self._single else order.stem))
                return False
            finally:
                self._progress.remove_task(bar)

    async def _through(self, client: Client, order: Order, bar: TaskID) -> bool:
        files = order.files
        size = sum(path.stat().st_size for path in files.values())
        self._progress.update(bar, total=size or None, status="uploading")
        job = await client.submit(
            {**self._job, "inputs": order.links},
            files,
            idempotency_key=order.idempotency_key,
            wait=self._wait and not self._watched,
            uploaded=lambda taken: self._progress.advance(bar, taken),
        )
        if self._wait:
            self._progress.reset(bar, total=100)
            job = await client.wait(job, lambda heard: self._show(bar, heard))
        saved = await self._save(client, order, job) if ended(job) else []
        told = {**job, "saved": [str(path) for path in saved]}
        self._tell(lambda: self._server.show(told, lambda: _describe(job, saved)))
        return not self._wait or job["state"] == "succeeded"

    def _show(self, bar: TaskID, job: Json) -> None:
        self._progress.update(bar, status=job["state"], completed=job["progress"] or 0)

    async def _save(self, client: Client, order: Order, job: Json) -> list[Path]:
        outputs, target = job["outputs"], self._output
        if target is None or not outputs:
            return []
        if self._single and not target.is_dir() and target.suffix:
            target.parent.mkdir(parents=True, exist_ok=True)
            paths = saving.beside(target, outputs)
        else:
            target.mkdir(parents=True, exist_ok=True)
            paths = saving.inside(target, order.stem, job["operation"], outputs)
        await saving.save(client, outputs, paths)
        return paths


def _describe(job: Json, saved: Sequence[Path]) -> None:
    click.echo(f"{job['id']} {job['state']}")
    if job["error"] is not None:
        click.echo(f"Error: {job['error']['class']}/{job['error']['code']}: {job['error']['message']}", err=True)
    for entry, path in zip(job["outputs"], saved, strict=False):
        click.echo(f"{path}  {entry['width']}×{entry['height']}  {entry['bytes']} bytes")
        if path.suffix.lower() not in (saving.ending(entry["content_type"]), ".jpeg"):
            click.echo(f"Note: {path.name} holds {entry['content_type']}.", err=True)
