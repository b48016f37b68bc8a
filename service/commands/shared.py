"""What all client commands share: which server, with which key, and how a refusal reaches a person or a program."""

import asyncio
import functools
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.client import Client, Damaged, ProblemAnswer, Unreachable
from service.commands.codes import MEANINGS, Code

DEFAULT_URL = "http://127.0.0.1:8080"
_LATER = frozenset({408, 425, 429})  # of class 4xx, but the same request may go through later
_NO_EDGE = 10_000  # columns: what goes into a file or a pipe is never cut

T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """The server that a client command talks to, and how its user wants to hear of it."""

    url: str
    key: str = field(repr=False)
    json: bool

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do `work` with a client. What goes wrong is told on standard error and ends the command with its code."""
        try:
            return asyncio.run(self._with_client(work))
        except BrokenPipeError:
            raise  # nobody reads us any more, which is no news for anybody
        except FAULTS as error:
            self.fail(error)
            sys.exit(code_of(error))

    async def _with_client(self, work: Callable[[Client], Awaitable[T]]) -> T:
        async with Client(self.url, self.key) as client:
            return await work(client)

    def fail(self, error: Exception, about: str = "") -> None:
        """Tell what went wrong; `about` is the picture, where there are several."""
        tell_fault(error, about, as_json=self.json)

    def show(self, value: Any, for_people: Callable[[], None]) -> None:
        """JSON on one line for machines, else whatever is for people."""
        if self.json:
            click.echo(json.dumps(value, ensure_ascii=False))
        else:
            for_people()


# What is no bug of ours, and is told in one line.
FAULTS = (ProblemAnswer, Unreachable, Damaged, OSError)


def code_of(error: Exception) -> Code:
    """Whether to try again, to ask for something else, or to look at one's own disk."""
    if isinstance(error, ProblemAnswer):
        refused = 400 <= error.status < 500 and error.status not in _LATER
        return Code.REFUSED if refused else Code.UNREACHABLE
    return Code.UNREACHABLE if isinstance(error, Unreachable) else Code.FILE


def tell_fault(error: Exception, about: str = "", *, as_json: bool) -> None:
    """On standard error: a line for people, with one for each faulty field, or a problem as RFC 9457 says it."""
    if as_json:
        own = {"type": "about:blank", "title": MEANINGS[code_of(error)], "detail": explain(error)}
        told = error.as_json() if isinstance(error, ProblemAnswer) else own
        click.echo(json.dumps({**told, "about": about} if about else told, ensure_ascii=False), err=True)
        return
    click.echo(f"Error: {about}: {explain(error)}" if about else f"Error: {explain(error)}", err=True)
    for line in faults(error):
        click.echo(f"  {line}", err=True)


def faults(error: Exception) -> list[str]:
    """Each faulty field with its reason, where the server named any."""
    named = error.errors if isinstance(error, ProblemAnswer) else ()
    return [f"{fault.get('field')}: {fault.get('reason')}" for fault in named]


def explain(error: Exception) -> str:
    """One sentence that says what to do, where that is known."""
    if isinstance(error, Unreachable):
        return f"{error}. Is the service running there (wirephoto serve)? Another one: --url or WIREPHOTO_URL."
    if isinstance(error, ProblemAnswer) and error.status == 401:
        return f"{error.detail} The key comes from --key or WIREPHOTO_KEY."
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or 'it failed'}"
    return str(error)


def _server_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    _ = ctx
    if not value.lower().startswith(("http://", "https://")):
        raise click.BadParameter("a server's URL begins with http:// or https://", param=param)
    return value.rstrip("/")


def pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """The values of an option NAME=VALUE that may be given several times."""
    _ = ctx
    found: dict[str, str] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not name or not sign:
            # Only the name is repeated: a value may be what nobody else should read.
            raise click.BadParameter(f"{name or 'this'} is not NAME=VALUE", param=param)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", param=param)
        found[name] = text
    return found


overlap_option = click.option(
    "--overlap",
    type=click.IntRange(0, 604_800),
    metavar="SECONDS",
    help="For how long the old one signs beside the new one, a day by default; 0 for one that has leaked.",
)


def client_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--url`, `--key` and `--json`; it receives them as one `Server`, its first argument."""

    @click.option(
        "--url",
        envvar="WIREPHOTO_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        callback=_server_url,
        help="The Wirephoto to talk to.",
    )
    @click.option(
        "--key",
        envvar="WIREPHOTO_KEY",
        show_envvar=True,
        help="An API key. In the environment other users of the machine don't see it.",
    )
    @click.option(
        "--json", "as_json", is_flag=True, help="JSON on standard output, problems as JSON on standard error."
    )
    @functools.wraps(command)
    def with_server(url: str, key: str | None, as_json: bool, **options: Any) -> None:
        if not key:
            raise click.UsageError("There is no API key: give --key, or set WIREPHOTO_KEY.")
        command(Server(url, key, as_json), **options)

    return with_server


def console(*, err: bool = False) -> Console:
    """Where rich writes: as wide as the terminal, and without an edge where there is none."""
    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _NO_EDGE, highlight=False)


def show_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """`columns`: heading → key of a row. The first column is an id and is never cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(columns):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    for row in rows:
        # As text: what a user once named must not be read as markup.
        table.add_row(*(Text(_cell(row.get(key))) for key in columns.values()))
    console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def printable(text: str) -> str:
    """On one line and without control characters: a vendor's words must not steer anybody's terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
