"""`wirephoto keys`: who may do what in a project, and the key that it signs with."""

import click

from service.client import place
from service.commands import completing
from service.commands.codes import example
from service.commands.shared import Server, client_command, overlap_option, show_table
from service.security.keys import Role


@click.group()
def keys() -> None:
    """Keys of the project that --key belongs to. What is about API keys needs an admin key."""


@keys.command(epilog=example("wirephoto keys create --role write --name 'the shop'"))
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.WRITE.value, show_default=True)
@click.option("--name", default="", help="What it is for; shown in the list.")
@client_command
def create(server: Server, role: str, name: str) -> None:
    """Make a key. It is printed now and never again: only its hash is kept."""
    made = server.run(lambda client: client.post("/v1/keys", {"role": role, "name": name}))

    def for_people() -> None:
        # The key alone on standard output: KEY=$(wirephoto keys create …)
        click.echo(f"{made['id']} ({made['role']}), shown only now:", err=True)
        click.echo(made["api_key"])

    server.show(made, for_people)


@keys.command("list", epilog=example("wirephoto keys list"))
@client_command
def list_keys(server: Server) -> None:
    """The project's keys, never their values."""
    found = server.run(lambda client: client.all("/v1/keys"))
    columns = {"ID": "id", "ROLE": "role", "NAME": "name", "CREATED": "created_at"}
    server.show(found, lambda: show_table(columns, found))


@keys.command(epilog=example("wirephoto keys revoke key_01m7y9dz7k7yx6crsbkvdbxvge"))
@click.argument("key_id", metavar="ID", shell_complete=completing.KEYS)
@client_command
def revoke(server: Server, key_id: str) -> None:
    """Make a key worthless, at once."""
    server.run(lambda client: client.delete(place("/v1/keys", key_id)))
    server.show({"id": key_id, "revoked": True}, lambda: click.echo(f"{key_id} is revoked."))


@keys.command("rotate-signing", epilog=example("wirephoto keys rotate-signing --overlap 3600"))
@overlap_option
@client_command
def rotate_signing(server: Server, overlap: int | None) -> None:
    """Make a new key for v1a signatures, and print its public half; until the overlap ends, the old one signs too."""
    body = {} if overlap is None else {"overlap_seconds": overlap}
    told = server.run(lambda client: client.post("/v1/signing-key/rotate", body))

    def for_people() -> None:
        click.echo(f"public key: {told['public_key']}")
        click.echo(f"kid: {told['kid']}")
        if overlap == 0:
            click.echo("No key from before signs or is published any more.")
        else:
            click.echo(f"The old one signs too until {told['old_key_expires_at']}.")

    server.show(told, for_people)
