"""`wirephoto serve`, `sandbox` and `version`: what runs here and talks to no server."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import click

from service.commands.codes import Code, example

SANDBOX_DATA_DIR = Path("wirephoto-sandbox-data")
MOST_FILES = 65_536


def refuse(message: str) -> None:
    """One clear message on standard error; 2 tells a supervisor that trying again without a change is no use."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(Code.USAGE)


def _open_many_files() -> None:
    """Each receiver is a socket; the usual soft limit of 1,024 is a matter of history."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, with the extra `speed`; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@click.command(epilog=example("wirephoto serve", "wirephoto serve --sandbox"))
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="TOML file; wirephoto.toml if present.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Database, assets and secret key.")
@click.option("--sandbox", is_flag=True, help="The vendors' stand-ins in place of the vendors: no account needed.")
def serve(config: Path | None, host: str | None, port: int | None, data_dir: Path | None, sandbox: bool) -> None:
    """Run the service until SIGTERM or Ctrl-C. Options win over the environment, which wins over the file."""
    from service.config import InvalidSettings, load

    given = {"host": host, "port": port, "data_dir": data_dir}
    try:
        settings = load(config, **{name: value for name, value in given.items() if value is not None})
    except InvalidSettings as error:
        refuse(f"these settings can't be used:\n{error}")

    if sandbox and "data_dir" not in settings.model_fields_set:
        # Jobs that stand-ins have begun must never be asked for at the real vendors.
        settings = settings.model_copy(update={"data_dir": SANDBOX_DATA_DIR, "assets_url": None})

    from service.app import WrongStore
    from service.security.vault import WrongKey
    from service.server import TakenOver
    from service.server import serve as run
    from service.store.database import Locked, StoreUnavailable
    from service.store.migrate import MigrationError

    _open_many_files()
    try:
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(run(settings, sandbox=sandbox))
    except (InvalidSettings, Locked, WrongKey, WrongStore, MigrationError) as error:
        refuse(str(error))
    except (StoreUnavailable, TakenOver) as error:
        # A supervisor may well try again.
        click.echo(f"Error: {error}", err=True)
        sys.exit(Code.UNREACHABLE)
    except OSError as error:
        refuse(f"{error.filename or f'{settings.host}:{settings.port}'}: {error.strerror or error}")


def _ports(ctx: click.Context, param: click.Parameter, value: str) -> Mapping[str, int]:
    from service.sandboxes import MAKE

    _ = ctx
    ports: dict[str, int] = {}
    for part in value.split(","):
        name, _, port = part.strip().partition("=")
        if name not in MAKE or not port.isdecimal() or int(port) > 65535:
            raise click.BadParameter(f"{part!r} is not NAME=PORT with one of {', '.join(MAKE)}", param=param)
        ports[name] = int(port)
    return ports


@click.command(epilog=example("wirephoto sandbox --ports vanceai=8091,picwish=8092"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--ports",
    # Fixed ones, so that settings once pasted still fit tomorrow.
    default="vanceai=8091,picwish=8092,perfectcorp=8093,ailabtools=8094",
    show_default=True,
    callback=_ports,
    help="Each vendor's port; 0 takes a free one.",
)
def sandbox(host: str, ports: Mapping[str, int]) -> None:
    """Run the vendors' stand-ins alone until Ctrl-C, and print the settings that point a Wirephoto at them."""
    try:
        asyncio.run(_stand_in(host, ports))
    except OSError as error:
        refuse(f"the sandboxes can't listen on {host}: {error.strerror or error}")


async def _stand_in(host: str, ports: Mapping[str, int]) -> None:
    import signal

    from service.accounts import KNOWN
    from service.config import PREFIX
    from service.sandboxes import Sandboxes

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sandboxes = Sandboxes()
    await sandboxes.start(host, ports)
    try:
        click.echo("The vendors' stand-ins are running. Their results are made by simple filters. Settings to paste:")
        for known in KNOWN:
            vendor, prefix = sandboxes.vendors[known.name], f"{PREFIX}{known.name.upper()}__"
            click.echo(f"export {prefix}BASE_URL={vendor.base_url}")
            for credential, value in vendor.credentials.items():
                click.echo(f"export {prefix}{credential.upper()}={value}")
        # Without these the stand-ins could neither fetch from nor call a Wirephoto beside them.
        click.echo(f"export {PREFIX}PUBLIC_URL=http://127.0.0.1:8080 {PREFIX}ALLOW_NETWORKS=127.0.0.0/8,::1/128")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await sandboxes.stop()


@click.command(epilog=example("wirephoto version"))
def version() -> None:
    """Say which version this is."""
    click.echo(metadata.version("wirephoto"))
