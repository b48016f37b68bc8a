"""`wirephoto completion`, and what a shell may offer for a word: operations, ids, event types, settings of a filter.

A completion must never be in the way: it asks the service for at most a second and is silent where there is none.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem, get_completion_class

from service.commands.codes import example

PATIENCE_SECONDS = 1.0
_LARGEST = 4 * 1024 * 1024

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

VARIABLE = "_WIREPHOTO_COMPLETE"

# Each shell, and the line that its start-up file needs.
_SETUP: Mapping[str, str] = {
    "bash": 'eval "$(wirephoto completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(wirephoto completion zsh)"    # in ~/.zshrc, after compinit',
    "fish": "wirephoto completion fish | source    # in ~/.config/fish/config.fish",
}


@click.command(epilog=example(*_SETUP.values()))
@click.argument("shell", type=click.Choice(list(_SETUP)))
def completion(shell: str) -> None:
    """Print what makes SHELL complete wirephoto's commands, options, operations and ids."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "wirephoto", VARIABLE).source())


def from_service(path: str, name: str, *help_of: str) -> Complete:
    """Offer what a list of the service holds: each entry's `name`, explained by its fields `help_of`."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        _ = param
        return [
            CompletionItem(entry[name], help="  ".join(str(entry[key]) for key in help_of if entry.get(key)))
            for entry in _listed(path, ctx.params.get("url"), ctx.params.get("key"))
            if isinstance(entry.get(name), str) and entry[name].startswith(incomplete)
        ]

    return complete


def from_words(words: Callable[[], Sequence[str]]) -> Complete:
    """Offer fixed words, loaded only when they are asked for."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        _ = ctx, param
        return [CompletionItem(word) for word in words() if word.startswith(incomplete)]

    return complete


def job_states() -> Sequence[str]:
    from schemas.job import JobState

    return [state.value for state in JobState]


def event_types() -> Sequence[str]:
    from schemas.event import EventType

    return [kind.value for kind in EventType]


OPERATIONS = from_service("/v1/operations", "id", "title")
VENDORS = from_service("/v1/vendors", "id", "reason")
JOBS = from_service("/v1/jobs?limit=50", "id", "state", "operation")
ENDPOINTS = from_service("/v1/endpoints?limit=200", "id", "url")
KEYS = from_service("/v1/keys?limit=200", "id", "role", "name")
JOB_STATES = from_words(job_states)
EVENT_TYPES = from_words(event_types)


def _listed(path: str, url: str | None, key: str | None) -> list[dict[str, Any]]:
    if not url or not key:
        return []
    found: list[dict[str, Any]] = []

    def ask() -> None:
        try:
            found.extend(_get(path, url, key)["data"])
        except Exception:  # noqa: BLE001 - whatever it was, a shell's prompt is no place to tell it
            return

    # Even a look-up of a name that never ends holds nobody up: the interpreter does not wait for such a thread. It is
    # why this is not service.client, whose look-ups run in threads that are waited for (and which loads slower).
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_SECONDS)
    return [entry for entry in found if isinstance(entry, dict)]


def _get(path: str, url: str, key: str) -> Any:
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    assert parts.hostname is not None
    connection = kind(parts.hostname, parts.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return json.loads(answer.read(_LARGEST)) if answer.status == 200 else {"data": []}
    finally:
        connection.close()
