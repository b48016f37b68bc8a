"""`wirephoto endpoints replay`: what an endpoint has missed, once more; with a bar until the last of it has come."""

import asyncio
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from service.client import PATIENCE_SECONDS, POLL_SECONDS, Client, Json, ProblemAnswer, Unreachable, passing, place
from service.commands import completing
from service.commands.codes import Code, example
from service.commands.shared import Server, client_command, console

_AGO = re.compile(r"^(\d{1,6})([smhdw])$")
_UNITS: Mapping[str, str] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class When(click.ParamType[datetime]):
    """`2h`: two hours ago; or a time as RFC 3339 writes it."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            ago = _AGO.match(value)
            if ago is not None:
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            at = datetime.fromisoformat(value)
            # Without an offset it is the time of who typed it.
            return at.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither a span, such as 30m, 2h or 3d, nor a time, such as 2026-08-01T12:30Z", param, ctx
            )


@click.command(
    epilog=example(
        "wirephoto endpoints replay ep_01m7y9dz7k7yx6crsbkvdbxvge --since 2h --dry-run",
        "wirephoto endpoints replay ep_01m7y9dz7k7yx6crsbkvdbxvge --since 2026-08-01T12:30Z --until 1d --all",
    )
)
@click.argument("endpoint_id", metavar="ID", shell_complete=completing.ENDPOINTS)
@click.option("--since", type=When(), required=True, help="The first event: so long ago (2h), or a time.")
@click.option("--until", type=When(), help="The last one; by default now.")
@click.option("--all", "everything", is_flag=True, help="All that the endpoint wants, also what it has got already.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--no-wait", is_flag=True, help="Begin, and leave the rest to the service.")
@client_command
def replay(
    server: Server,
    endpoint_id: str,
    since: datetime,
    until: datetime | None,
    everything: bool,
    dry_run: bool,
    no_wait: bool,
) -> None:
    """Send an endpoint once more what it has missed; success only if all of it was gone through.

    Ctrl-C ends the waiting and not the replay: GET /v1/replays tells how it goes, and can cancel it.
    """
    body: dict[str, Any] = {"since": since.isoformat(), "only": "all" if everything else "undelivered"}
    if until is not None:
        body["until"] = until.isoformat()

    async def work(client: Client) -> Json:
        path = place("/v1/endpoints", endpoint_id, "replay")
        told: Json = await client.post(path, {**body, "dry_run": dry_run})
        return told if dry_run or no_wait else await _follow(server, client, told)

    told = server.run(work)
    server.show(told, lambda: _describe(told))
    if told.get("state") == "canceled":
        sys.exit(Code.FAILED)


async def _follow(server: Server, client: Client, replay: Json) -> Json:
    """Until it has ended and what it owes is settled; who takes nothing for a minute is left to the service.

    A service that is away for a while takes it up again.
    """
    where = console(err=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=where,
        disable=server.json or not where.is_terminal,
        transient=True,
    )
    loop = asyncio.get_running_loop()
    heard_at = moved_at = loop.time()
    with bar:
        shown = bar.add_task(replay["id"], total=replay["total"])
        while replay["state"] == "running" or (replay["pending"] and loop.time() - moved_at < PATIENCE_SECONDS):
            settled = replay["owed"] - replay["pending"]
            bar.update(shown, completed=settled)
            await asyncio.sleep(POLL_SECONDS)
            try:
                replay = await client.get(place("/v1/replays", replay["id"]))
                heard_at = loop.time()
                moved_at = moved_at if replay["owed"] - replay["pending"] == settled else heard_at
            except (Unreachable, ProblemAnswer) as error:
                if not passing(error) or loop.time() - heard_at > PATIENCE_SECONDS:
                    raise
    return replay


def _describe(told: Json) -> None:
    oldest = told.get("oldest")
    if oldest is not None:
        click.echo(f"Warning: the log begins with {oldest['sequence']}; what came before is gone.", err=True)
    if "count" in told:
        click.echo(f"{told['count']} to be sent")
        return
    sent = told["owed"] - told["pending"]
    click.echo(f"{told['id']} {told['state']}: {told['owed']} of {told['total']} once more, {sent} of them settled")
