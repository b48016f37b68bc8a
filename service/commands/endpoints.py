"""`wirephoto endpoints`: who hears of events."""

import json
import sys
from typing import Any

import click

from schemas.shop import SHOPS
from service.client import Client, Json, place
from service.commands import completing
from service.commands.codes import Code, example
from service.commands.replaying import replay
from service.commands.shared import Server, client_command, overlap_option, pairs, printable, show_table


def _config(file: str) -> Any:
    """Raises OSError."""
    with click.open_file(file, encoding="utf-8") as opened:
        try:
            return json.load(opened)
        except ValueError:
            # Nothing of it is repeated: it holds credentials.
            raise click.UsageError("Invalid value for '--config': this is no JSON.") from None


@click.group()
def endpoints() -> None:
    """Subscribers: URLs that receive signed events, and shops that finished pictures are put into."""


@endpoints.command(
    epilog=example(
        "wirephoto endpoints add https://shop.example/hooks/wirephoto --events job.succeeded,job.failed",
        "wirephoto endpoints add --kind vendure --config lamps.json",
    )
)
@click.argument("endpoint_url", metavar="[URL]", required=False)
@click.option(
    "--kind",
    type=click.Choice(["webhook", *SHOPS]),
    default="webhook",
    show_default=True,
    help="What stands behind it: a URL, or a shop.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="A file with a shop's config as JSON, or - for standard input: it holds credentials.",
)
@click.option(
    "--events", "patterns", help="Event types with commas, such as job.succeeded,job.failed or job.*; all by default."
)
@click.option("--channel", "channels", multiple=True, help="Only events of this channel; may be given several times.")
@click.option("--description", default="", help="For people.")
@client_command
def add(
    server: Server,
    endpoint_url: str | None,
    kind: str,
    config_file: str | None,
    patterns: str | None,
    channels: tuple[str, ...],
    description: str,
) -> None:
    """Register a URL, and print the secret that its deliveries are signed with; or a shop."""
    if kind == "webhook" and endpoint_url is None:
        raise click.UsageError("Missing argument 'URL'.")
    body: dict[str, Any] = {"kind": kind, "channels": list(channels), "description": description}
    if endpoint_url is not None:
        body["url"] = endpoint_url
    if patterns is not None:
        body["events"] = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]

    async def made_there(client: Client) -> Json:
        config = {} if config_file is None else {"config": _config(config_file)}
        made: Json = await client.post("/v1/endpoints", {**body, **config})
        return made

    made = server.run(made_there)

    def for_people() -> None:
        if kind in SHOPS:
            click.echo(f"{made['id']} puts finished pictures onto products of {made['config']['shop']}")
            click.echo(f"Look whether it can: wirephoto endpoints test {made['id']} --metadata product_id=…")
            return
        click.echo(f"{made['id']} hears of {', '.join(made['events'])} at {made['url']}")
        click.echo(f"secret: {made['secret']}")

    server.show(made, for_people)


@endpoints.command("list", epilog=example("wirephoto endpoints list"))
@client_command
def list_endpoints(server: Server) -> None:
    """All endpoints, without their secrets."""
    found = server.run(lambda client: client.all("/v1/endpoints"))
    columns = {
        "ID": "id",
        "KIND": "kind",
        "STATE": "state",
        "URL": "place",
        "EVENTS": "events",
        "CHANNELS": "channels",
        "DESCRIPTION": "description",
    }
    rows = [{**entry, "place": entry["url"] or entry["config"].get("shop")} for entry in found]
    server.show(found, lambda: show_table(columns, rows))


@endpoints.command(epilog=example("wirephoto endpoints rotate ep_01m7y9dz7k7yx6crsbkvdbxvge --overlap 3600"))
@click.argument("endpoint_id", metavar="ID", shell_complete=completing.ENDPOINTS)
@overlap_option
@client_command
def rotate(server: Server, endpoint_id: str, overlap: int | None) -> None:
    """Make a new secret, and print it; until the overlap ends, the old one signs too."""
    body = {} if overlap is None else {"overlap_seconds": overlap}
    told = server.run(lambda client: client.post(place("/v1/endpoints", endpoint_id, "rotate-secret"), body))

    def for_people() -> None:
        click.echo(f"secret: {told['secret']}")
        click.echo(f"The old one signs too until {told['old_secret_expires_at']}.")

    server.show(told, for_people)


@endpoints.command(
    epilog=example(
        "wirephoto endpoints test ep_01m7y9dz7k7yx6crsbkvdbxvge",
        "wirephoto endpoints test ep_01m7y9dz7k7yx6crsbkvdbxvge --metadata product_id=8411",
    )
)
@click.argument("endpoint_id", metavar="ID", shell_complete=completing.ENDPOINTS)
@click.option(
    "--metadata",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="For a shop: as a job's, so that its product is looked at too; may be given several times.",
)
@client_command
def test(server: Server, endpoint_id: str, metadata: dict[str, str]) -> None:
    """Send one signed test message now; success only if the receiver took it.

    In a shop nothing is changed: it is looked whether a picture would arrive.
    """
    body = {"metadata": metadata}
    said = server.run(lambda client: client.post(place("/v1/endpoints", endpoint_id, "test"), body))

    def for_people() -> None:
        if "checks" in said:
            for check in said["checks"]:
                click.echo(f"{'ok   ' if check['ok'] else 'FAULT'} {check['name']}: {printable(check['detail'])}")
            return
        answer = f"status {said['status']}" if said["status"] is not None else str(said["error"])
        verdict = "delivered" if said["delivered"] else "not delivered"
        click.echo(f"{verdict}: {answer} in {said['ms']} ms", err=not said["delivered"])

    server.show(said, for_people)
    if not said["delivered"]:
        sys.exit(Code.FAILED)


endpoints.add_command(replay)
