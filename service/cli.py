"""The command line's table of contents: each command's module is loaded when the command is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import click


@dataclass(frozen=True)
class Entry:
    """One row: `wirephoto --help` shows the line without loading the module."""

    module: str
    command: str
    line: str


CONTENTS: Mapping[str, Entry] = {
    "serve": Entry("service.commands.serve", "serve", "Run the service."),
    "submit": Entry("service.commands.submit", "submit", "Submit pictures, and wait for the results."),
    "endpoints": Entry("service.commands.endpoints", "endpoints", "Who hears of events: add, list, test."),
    "keys": Entry("service.commands.keys", "keys", "API keys: create, list, revoke."),
    "check": Entry("service.commands.check", "check", "Is this installation fit to run? What is wrong?"),
    "sandbox": Entry("service.commands.serve", "sandbox", "Run the vendors' stand-ins alone."),
    "demo": Entry("service.commands.demo", "demo", "A photograph in, signed events out, on this machine."),
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


@click.version_option(package_name="wirephoto", message="%(version)s")
@click.group(cls=Contents, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Wirephoto: submit an image-AI job once, receive one signed event.

    The client commands take --url and --key, or WIREPHOTO_URL and WIREPHOTO_KEY.
    """


if __name__ == "__main__":
    main()
