"""`wirephoto events`: the ordered log, and with --follow what happens from now on, with nothing lost or told twice.

The cursor is the sequence of the last event that was printed, so an answer that was cut off, or a service that was
restarted, costs a question and never an event.
"""

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import click

from service.client import PAGE, Client, Json, ProblemAnswer, Unreachable, passing
from service.commands import completing
from service.commands.codes import example
from service.commands.shared import Server, client_command, explain, printable
from service.commands.watching import why

EVENTS = "/v1/events"
GONE = "urn:wirephoto:problem:events_gone"
AHEAD = "urn:wirephoto:problem:cursor_ahead"
WAIT_SECONDS = 30
DEFAULT_LAST = 20
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between tries to reach a service that is away


@click.command(
    epilog=example(
        "wirephoto events --follow",
        "wirephoto events --after 4711 --type job.failed --json",
    )
)
@click.option("--after", type=click.IntRange(0), help="Begin after this sequence; 0: with the oldest that is kept.")
@click.option(
    "--last",
    type=click.IntRange(0, PAGE - 1),
    help=f"Begin with this many of the newest; {DEFAULT_LAST} without --after.",
)
@click.option("--type", "kind", shell_complete=completing.EVENT_TYPES, help="Only this type, such as job.failed.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@client_command
def events(server: Server, after: int | None, last: int | None, kind: str | None, follow: bool) -> None:
    """Events in the order in which they happened; with --json one document a line.

    --follow outlives restarts of the service; it loses no event and tells none twice.
    """
    if after is not None and last is not None:
        raise click.UsageError("--after and --last both say where to begin: give one.")
    told = Told(server)

    async def show(client: Client) -> None:
        begin = after
        if begin is None:
            begin = await before_the_last(client, DEFAULT_LAST if last is None else last, kind)
        told.cursor = begin
        stream = following(client, begin, kind, told.silence) if follow else kept(client, begin, kind)
        async with contextlib.aclosing(stream):
            async for event in stream:
                told.event(event)

    server.run(lambda client: until_stopped(show(client)) if follow else show(client))
    if follow and not server.json:
        click.echo(f"\nTo go on from here: wirephoto events --follow --after {told.cursor}", err=True)


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until Ctrl-C or SIGTERM, which end it kindly: between two events, never within one."""
    task = asyncio.create_task(work)
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise


def _warn(of_what: str) -> None:
    click.echo(f"Warning: {of_what}.", err=True)


async def _page(client: Client, after: int, kind: str | None, gap: Callable[[str], None] = _warn, **more: int) -> Json:
    """`gap` is told where a reader misses events that were there once. Raises ProblemAnswer AHEAD where the log does
    not go as far as he has read: only he can say where to begin again.
    """
    only = {} if kind is None else {"type": kind}
    try:
        page: Json = await client.get(EVENTS, after=after, **only, **more)
    except ProblemAnswer as error:
        if error.kind == AHEAD:
            said = error.detail.partition(". ")[0]
            how = (
                "begin again with --after 0, which tells all that is kept, or with --last 0, for what comes from now on"
            )
            raise ProblemAnswer(error.status, f"{said}; {how}.", kind=AHEAD) from None
        if error.kind != GONE:
            raise
        # What is no longer kept can't be had: the log goes on with the oldest that is.
        gap(error.detail.partition(". ")[0])
        page = await client.get(EVENTS, after=0, **only, **more)
    return page


async def kept(client: Client, after: int, kind: str | None) -> AsyncGenerator[Json, None]:
    """What the log holds now after a sequence, page by page."""
    while True:
        page = await _page(client, after, kind, limit=PAGE)
        for event in page["data"]:
            yield event
            after = event["sequence"]
        if page["next"] is None:
            return


async def following(
    client: Client, after: int, kind: str | None, silence: Callable[[Exception | None], None]
) -> AsyncGenerator[Json, None]:
    """What the log holds after a sequence and what is added to it, for ever. `silence` is told of an outage once, with
    its error, and once, with None, that it is over. A server that was never there is raised as what it is.
    """
    failures = 0
    heard = False
    while True:
        try:
            page = await _page(client, after, kind, limit=PAGE, wait=WAIT_SECONDS)
        except (Unreachable, ProblemAnswer) as error:
            if not heard or not passing(error):
                raise
            if not failures:
                silence(error)
            pause = min(SHORTEST_PAUSE * 2**failures, LONGEST_PAUSE)
            failures = min(failures + 1, 10)
            # Jitter: not all followers come back in the same instant.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - nothing secret about it
            continue
        if failures:
            silence(None)
        heard, failures = True, 0
        for event in page["data"]:
            yield event
            after = event["sequence"]
        # It may be further on: past events of other types, which need not be looked through again.
        after = max(after, int(page["next"] or 0))


async def before_the_last(client: Client, count: int, kind: str | None) -> int:
    """The sequence after which the newest `count` events (of this type) follow.

    The log can only be read forwards, but how much comes after a sequence falls as it grows: halving finds the place
    in some forty small questions, where reading a long log through would take thousands of large ones.
    """

    async def few(after: int) -> bool:
        try:
            return len((await _page(client, after, kind, limit=count + 1))["data"]) <= count
        except ProblemAnswer as error:
            if error.kind != AHEAD:
                raise
            return True

    oldest = (await _page(client, 0, kind, limit=count + 1))["data"]
    if len(oldest) <= count:
        return 0
    # Not few after `low`, few after `high`; nothing is asked of what is no longer kept.
    low, step = int(oldest[0]["sequence"]) - 1, 1
    while not await few(high := low + step):
        low, step = high, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        if await few(middle):
            high = middle
        else:
            low = middle
    return high


@dataclass
class Told:
    """What was printed, and how."""

    server: Server
    cursor: int = 0

    def event(self, event: Json) -> None:
        click.echo(json.dumps(event, ensure_ascii=False) if self.server.json else line_of(event))
        self.cursor = event["sequence"]

    def silence(self, error: Exception | None) -> None:
        if self.server.json:
            return
        click.echo("Here again." if error is None else f"Waiting: {explain(error)}", err=True)


def line_of(event: Json) -> str:
    """One event on one line, for people."""
    data = event["data"]
    noted = _NOTES.get(event["type"].partition(".")[0])
    note = noted(data) if noted else ""
    about = data.get("id") or data.get("vendor") or ""
    line = f"{event['sequence']:>7}  {event['timestamp']}  {event['type']:<19}  {about}  {note}"
    return printable(line.rstrip())


def _job_note(job: Json) -> str:
    return f"{job['operation']}  {why(job['error'])}" if job.get("error") else str(job["operation"])


_NOTES: Mapping[str, Callable[[Json], str]] = {
    "job": _job_note,
    "endpoint": lambda it: f"{it.get('url') or it.get('kind', '')}  {it.get('disabled_reason') or ''}",
    "delivery": lambda it: f"{it.get('endpoint', '')}  {it.get('event', '')}",
    "vendor": lambda it: str(it.get("reason") or ""),
}
