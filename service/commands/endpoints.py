"""`wirephoto endpoints`: who hears of events."""

import sys
from typing import Any

import click

from service.client import place
from service.commands import completing
from service.commands.codes import Code, example
from service.commands.replaying import replay
from service.commands.shared import Server, client_command, show_table


@click.group()
def endpoints() -> None:
    """Subscribers: URLs that receive signed events."""


@endpoints.command(
    epilog=example("wirephoto endpoints add https://shop.example/hooks/wirephoto --events job.succeeded,job.failed")
)
@click.argument("endpoint_url", metavar="URL")
@click.option(
    "--events", "patterns", help="Event types with commas, such as job.succeeded,job.failed or job.*; all by default."
)
@click.option("--channel", "channels", multiple=True, help="Only events of this channel; may be given several times.")
@click.option("--description", default="", help="For people.")
@client_command
def add(server: Server, endpoint_url: str, patterns: str | None, channels: tuple[str, ...], description: str) -> None:
    """Register URL, and print the secret that its deliveries are signed with."""
    body: dict[str, Any] = {"url": endpoint_url, "channels": list(channels), "description": description}
    if patterns is not None:
        body["events"] = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    made = server.run(lambda client: client.post("/v1/endpoints", body))

    def for_people() -> None:
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
        "STATE": "state",
        "URL": "url",
        "EVENTS": "events",
        "CHANNELS": "channels",
        "DESCRIPTION": "description",
    }
    server.show(found, lambda: show_table(columns, found))


@endpoints.command(epilog=example("wirephoto endpoints rotate ep_01m7y9dz7k7yx6crsbkvdbxvge --overlap 3600"))
@click.argument("endpoint_id", metavar="ID", shell_complete=completing.ENDPOINTS)
@click.option(
    "--overlap",
    type=click.IntRange(0, 604_800),
    metavar="SECONDS",
    help="For how long the old secret signs beside the new one; a day by default.",
)
@client_command
def rotate(server: Server, endpoint_id: str, overlap: int | None) -> None:
    """Make a new secret, and print it; until the overlap ends, the old one signs too."""
    body = {} if overlap is None else {"overlap_seconds": overlap}
    told = server.run(lambda client: client.post(place("/v1/endpoints", endpoint_id, "rotate-secret"), body))

    def for_people() -> None:
        click.echo(f"secret: {told['secret']}")
        click.echo(f"The old one signs too until {told['old_secret_expires_at']}.")

    server.show(told, for_people)


@endpoints.command(epilog=example("wirephoto endpoints test ep_01m7y9dz7k7yx6crsbkvdbxvge"))
@click.argument("endpoint_id", metavar="ID", shell_complete=completing.ENDPOINTS)
@client_command
def test(server: Server, endpoint_id: str) -> None:
    """Send one signed test message now; success only if the receiver took it."""
    said = server.run(lambda client: client.post(place("/v1/endpoints", endpoint_id, "test")))

    def for_people() -> None:
        answer = f"status {said['status']}" if said["status"] is not None else str(said["error"])
        verdict = "delivered" if said["delivered"] else "not delivered"
        click.echo(f"{verdict}: {answer} in {said['ms']} ms", err=not said["delivered"])

    server.show(said, for_people)
    if not said["delivered"]:
        sys.exit(Code.FAILED)


endpoints.add_command(replay)
