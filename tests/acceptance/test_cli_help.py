"""Help that helps: every command shows an example, and every example is one that the command takes."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from service.cli import main
from tests.acceptance.command_line import ONE_DATABASE

pytestmark = ONE_DATABASE

COMMAND = re.compile(r"wirephoto ([^|>)#;\n]*)")
CLIENTS = {"submit", "jobs", "events", "listen", "endpoints", "keys"}


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


ALL = dict(commands(main))


def parsed(words: list[str]) -> tuple[str, ...]:
    """Which command these words call, all of them read and none of them done. Raises UsageError."""
    called: tuple[str, ...] = ()
    command: click.Command = main
    context = main.make_context("wirephoto", words)
    while isinstance(command, click.Group):
        name, below, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert name is not None
        assert below is not None
        called, command = (*called, name), below
        context = command.make_context(name, words, parent=context)
    return called


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_an_example_that_it_takes(path: tuple[str, ...]) -> None:
    text = ALL[path].get_help(click.Context(ALL[path], info_name=path[-1]))
    examples = COMMAND.findall(text.split("Example:")[1])
    assert examples
    for example in examples:
        assert parsed(shlex.split(example)) == path, example


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_says_what_it_is_for_and_every_client_speaks_json(path: tuple[str, ...]) -> None:
    options = [param for param in ALL[path].params if isinstance(param, click.Option)]
    silent = [option.name for option in options if not option.help and not isinstance(option.type, click.Choice)]
    assert silent == []
    names = {name for option in options for name in option.opts}
    if path[0] in CLIENTS:
        assert {"--json", "--url", "--key"} <= names


def test_an_example_that_is_not_taken_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parsed(["jobs", "list", "--no-such-option"])
