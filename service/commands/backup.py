"""`wirephoto backup` and `restore`: the whole store but its key into one file, and back into an empty one."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from service.commands.codes import MEANINGS, Code, example
from service.commands.shared import console, explain

if TYPE_CHECKING:
    from service.backup import Told
    from service.config import Settings

T = TypeVar("T")

_config = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="TOML file; wirephoto.toml if present."
)
_data_dir = click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Database, assets and secret key."
)
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output, problems as JSON on the other.")


@click.command(
    epilog=example("wirephoto backup wirephoto-monday.tar", "wirephoto backup --force /backups/wirephoto.tar.gz")
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over FILE where it is there already.")
@_config
@_data_dir
@_json
def backup(file: Path, force: bool, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Write database and pictures into FILE, a tar (.gz or .tgz: gzipped), as they are at one instant.

    The service may run meanwhile. The secret key is not in FILE: keep it elsewhere, for nothing opens the store's
    secrets without it.
    """
    from service.backup import back_up
    from service.clock import SystemClock

    settings = _settings(config, data_dir, as_json=as_json)
    with _watched(as_json=as_json) as told:
        made = _done(back_up(settings, file, SystemClock().now(), told, force=force), as_json=as_json)
    for what, lost in (("missing", made.missing), ("damaged", made.damaged)):
        if lost:
            _warn(f"{len(lost)} of the pictures that the database names {_are(lost)} {what}; the manifest lists them.")
    _warn(f"The secret key is NOT in {file.name}, and nothing else opens the secrets in it.")
    _warn(f"Keep the key elsewhere; {_where_key_is(settings)}.")
    if as_json:
        click.echo(json.dumps({"file": str(file), "bytes": file.stat().st_size, **made.as_json()}))
        return
    click.echo(f"{file}: {made.rows['jobs']} jobs, {made.rows['events']} events, {made.assets} pictures")


@click.command(epilog=example("wirephoto restore wirephoto-monday.tar --data-dir fresh-data"))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_config
@_data_dir
@_json
def restore(file: Path, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Load FILE, made by backup, into the store that the settings name: an empty one, SQLite or PostgreSQL.

    What was owed to subscribers is delivered at the next start, so the installation that was backed up must not run
    any more.
    """
    from service.clock import SystemClock
    from service.restore import restore as load

    settings = _settings(config, data_dir, as_json=as_json)
    with _watched(as_json=as_json) as told:
        done = _done(load(settings, file, SystemClock().now(), told), as_json=as_json)
    made = done.manifest
    if not done.key_fits:
        said = "There is no secret key here yet" if done.key_fits is None else "The secret key here is another one"
        _warn(f"{said}: before the first start, bring the one with the fingerprint {' '.join(made.key_fingerprints)},")
        _warn(f"as WIREPHOTO_SECRET_KEY or as {settings.secret_key_file}.")
    if as_json:
        click.echo(json.dumps({**made.as_json(), "key_fits": done.key_fits}))
        return
    click.echo(f"Restored as of {made.created_at}: {made.rows['jobs']} jobs, {made.assets} pictures")


def _settings(config: Path | None, data_dir: Path | None, *, as_json: bool) -> "Settings":
    from service.config import InvalidSettings, load

    try:
        return load(config, **({} if data_dir is None else {"data_dir": data_dir}))
    except InvalidSettings as error:
        _fail(Code.USAGE, f"these settings can't be used: {'; '.join(str(error).splitlines())}", as_json=as_json)


def _done(work: Coroutine[Any, Any, T], *, as_json: bool) -> T:
    """What the work returns; what it raises ends the command with its code."""
    from service.config import InvalidSettings
    from service.restore import BadBackup, NotRestored
    from service.store.database import Locked, NotAStore, StoreUnavailable
    from service.store.migrate import MigrationError

    codes: dict[type[Exception], Code] = {
        InvalidSettings: Code.USAGE,
        NotAStore: Code.REFUSED,
        NotRestored: Code.REFUSED,
        Locked: Code.REFUSED,
        MigrationError: Code.REFUSED,
        StoreUnavailable: Code.UNREACHABLE,
        BadBackup: Code.FILE,
        sqlite3.Error: Code.FILE,
        OSError: Code.FILE,
    }
    try:
        return asyncio.run(work)
    except tuple(codes) as error:
        code = next(code for kind, code in codes.items() if isinstance(error, kind))
        _fail(code, explain(error), as_json=as_json)


def _fail(code: Code, text: str, *, as_json: bool) -> NoReturn:
    problem = {"type": "about:blank", "title": MEANINGS[code], "detail": text}
    click.echo(json.dumps(problem, ensure_ascii=False) if as_json else f"Error: {text}", err=True)
    sys.exit(code)


def _warn(text: str) -> None:
    click.echo(f"Note: {text}", err=True)


def _are(lost: list[str]) -> str:
    return "is" if len(lost) == 1 else "are"


def _where_key_is(settings: "Settings") -> str:
    if settings.secret_key is not None:
        return "it comes from the setting WIREPHOTO_SECRET_KEY"
    return f"it is the file {settings.secret_key_file}"


@contextmanager
def _watched(*, as_json: bool) -> "Iterator[Told]":
    """A bar on a terminal, silence elsewhere."""
    from rich import progress

    where = console(err=True)
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(24), progress.TimeElapsedColumn())
    shown = where.is_terminal and not as_json
    with progress.Progress(*columns, console=where, disable=not shown, transient=True) as bars:
        bar = bars.add_task("", total=None)
        yield lambda told: bars.update(
            bar, description=told.doing, completed=told.done, total=max(told.done, told.total) or None
        )
