"""The command line's table of contents: each command's module is loaded when the command is called."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from service.commands.codes import MEANINGS, Code, example


@dataclass(frozen=True)
class Entry:
    """One row: `wirephoto --help` shows the line without loading the module."""

    module: str
    command: str
    line: str


CONTENTS: Mapping[str, Entry] = {
    "serve": Entry("service.commands.serve", "serve", "Run the service."),
    "submit": Entry("service.commands.submit", "submit", "Submit pictures, and wait for the results."),
    "jobs": Entry("service.commands.jobs", "jobs", "Jobs: list, show, retry, cancel."),
    "events": Entry("service.commands.events", "events", "What happened, in order; and what happens, as it does."),
    "listen": Entry("service.commands.listen", "listen", "Receive on this machine: events to a local URL, no tunnel."),
    "endpoints": Entry("service.commands.endpoints", "endpoints", "Who hears of events: add, list, test."),
    "keys": Entry("service.commands.keys", "keys", "API keys: create, list, revoke."),
    "check": Entry("service.commands.check", "check", "Is this installation fit to run? What is wrong?"),
    "backup": Entry("service.commands.backup", "backup", "Everything but the secret key into one file."),
    "restore": Entry("service.commands.backup", "restore", "A backup into an empty store, of either kind."),
    "sandbox": Entry("service.commands.serve", "sandbox", "Run the vendors' stand-ins alone."),
    "demo": Entry("service.commands.demo", "demo", "A photograph in, signed events out, on this machine."),
    "completion": Entry("service.commands.completing", "completion", "What makes a shell complete all this."),
    "version": Entry("service.commands.serve", "version", "Say which version this is."),
}


class Contents(click.Group):
    """A group whose commands are imported one at a time: help and completion must not wait for all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(CONTENTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        entry = CONTENTS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.command)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.line) for name, entry in CONTENTS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])
        super().format_epilog(ctx, formatter)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """click's own, but with our exit codes, and a problem as JSON where --json was asked for."""
        if not kwargs.get("standalone_mode", True):
            return super().main(*args, **kwargs)
        given = args[0] if args else kwargs.get("args")
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.Abort:
            click.echo("", err=True)
            code = Code.INTERRUPTED
        except click.ClickException as error:
            _tell(error, as_json="--json" in (sys.argv if given is None else given))
            code = Code.USAGE
        sys.exit(code if isinstance(code, int) else Code.SUCCESS)


def _tell(error: click.ClickException, *, as_json: bool) -> None:
    if not as_json:
        error.show()
        return
    problem = {"type": "about:blank", "title": MEANINGS[Code.USAGE], "detail": error.format_message()}
    click.echo(json.dumps(problem, ensure_ascii=False), err=True)


@click.version_option(package_name="wirephoto", message="%(version)s")
@click.group(
    cls=Contents,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example(
        "wirephoto serve --sandbox", "wirephoto submit photo.jpg --operation vanceai/enlarge3 --wait -o big.jpg"
    ),
)
def main() -> None:
    """Wirephoto: submit an image-AI job once, receive one signed event.

    The client commands take --url and --key, or WIREPHOTO_URL and WIREPHOTO_KEY; --json is for machines.
    """


if __name__ == "__main__":
    main()
