"""`wirephoto submit`: pictures in, jobs made, and where wished the results on disk."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import click

from service.client import Client, Json
from service.commands import completing
from service.commands.codes import example
from service.commands.shared import Server, client_command, pairs
from service.commands.watching import Batch, Work

DEFAULT_INPUT = "image"


@dataclass(frozen=True)
class Order:
    """One job to be: its inputs by name, each a file or a URL, and the name that its results take."""

    job: Json
    inputs: Mapping[str, str]
    stem: str
    idempotency_key: str | None

    @property
    def files(self) -> dict[str, Path]:
        return {name: Path(source) for name, source in self.inputs.items() if not _is_url(source)}

    @property
    def links(self) -> dict[str, dict[str, str]]:
        return {name: {"url": source} for name, source in self.inputs.items() if _is_url(source)}

    @property
    def work(self) -> Work:
        return Work(self.stem, self._submit, sum(path.stat().st_size for path in self.files.values()))

    async def _submit(self, client: Client, *, wait: bool, uploaded: Callable[[int], None]) -> Json:
        job = {**self.job, "inputs": self.links}
        return await client.submit(job, self.files, idempotency_key=self.idempotency_key, wait=wait, uploaded=uploaded)


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _json_pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    return {name: _json_or_text(text) for name, text in pairs(ctx, param, values).items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command(
    epilog=example(
        "wirephoto submit photo.jpg --operation vanceai/enlarge3 --param scale=2 --wait -o big.jpg",
        "wirephoto submit *.jpg --operation vanceai/matting --metadata product_id=8411 -o cut-out/",
    )
)
@click.argument("sources", nargs=-1, metavar="[FILE_OR_URL]...")
@click.option(
    "--operation",
    required=True,
    shell_complete=completing.OPERATIONS,
    help="What is to be done: vanceai/enlarge3.",
)
@click.option(
    "--param", "params", multiple=True, callback=_json_pairs, help="NAME=VALUE, the value JSON or plain text."
)
@click.option("--metadata", multiple=True, callback=pairs, help="NAME=TEXT, comes back in every event.")
@click.option("--channel", "channels", multiple=True, help="Events go to endpoints of this channel too.")
@click.option(
    "--input", "inputs", multiple=True, callback=pairs, help="NAME=FILE_OR_URL, for an input not called image."
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
    job = {"operation": operation, "params": params, "metadata": metadata, "channels": list(channels)}
    orders = _orders(job, sources, inputs, idempotency_key)
    if output is not None and len(orders) > 1 and output.suffix and not output.is_dir():
        raise click.UsageError("Several pictures need a folder: -o results/")
    batch = Batch(server, wait=wait, output=output, single=len(orders) == 1)
    sys.exit(server.run(lambda client: batch.run(client, [order.work for order in orders])))


def _orders(job: Json, sources: Sequence[str], inputs: Mapping[str, str], key: str | None) -> list[Order]:
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
        orders.append(Order(job, together, stem, own_key))
    return orders


def _stem(source: str) -> str:
    return (PurePosixPath(urlsplit(source).path).stem if _is_url(source) else Path(source).stem) or "picture"
