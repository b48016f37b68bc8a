"""A real WordPress, from Debian's packages, on loopback: its database, PHP's own web server, and one site."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integrations import debian
from tests.integrations.software import PACKAGES
from tests.node_tools import NotInstalled
from tests.ports import free_port

OURS = Path(__file__).with_name("wordpress")
PATIENCE = 60.0
EXTENSIONS = (
    *("ctype", "tokenizer", "iconv", "posix", "fileinfo", "exif", "gd"),
    *("xml", "dom", "simplexml", "mysqlnd", "mysqli"),
)


@dataclass(frozen=True)
class Site:
    """`passwords`: the users' application passwords, by their names."""

    url: str
    passwords: Mapping[str, str]
    log: Path
    run: Any

    def lose_sizes(self, media: str) -> None:
        """As after an upload that ended before its smaller sizes were made."""
        self.run("lose", media)


def _found(pattern: str, root: Path) -> Path:
    """Unpacked by us, or the system's own."""
    for place in (root, Path("/")):
        there = sorted(place.glob(pattern))
        if there:
            return there[-1]
    pytest.fail(f"{pattern} is missing: is it in one of the packages of packages.txt?")


@contextmanager
def _running(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as written:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=written, stderr=written, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        # PHP's server has workers of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _until(ready: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"{Path(str(process.args[0])).name} does not start:\n{log.read_text()[-3000:]}")  # type: ignore[index]
        time.sleep(0.05)


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _database(root: Path, folder: Path) -> list[str]:
    share = _found("usr/share/mysql", root)
    return [
        str(_found("usr/sbin/mariadbd", root)),
        "--no-defaults",
        *(["--user=root"] if os.geteuid() == 0 else []),
        f"--datadir={folder}/database",
        f"--socket={folder}/socket",
        f"--pid-file={folder}/pid",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share}/charsets",
        f"--plugin-dir={folder}",
        # Reached by its socket alone, which lies in a folder of ours.
        "--skip-networking",
        "--skip-grant-tables",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-fast-shutdown=2",
    ]


@contextmanager
def site(environment_type: str = "local") -> Iterator[Site]:
    """A new site, gone afterwards. WordPress takes application passwords over plain http in type `local` alone."""
    try:
        debian.install(PACKAGES / "wordpress")
    except NotInstalled as missing:
        pytest.fail(str(missing))
    root = PACKAGES / "wordpress" / debian.ROOT
    # A socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="wp-"))
    try:
        yield from _site(root, folder, environment_type)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _site(root: Path, folder: Path, environment_type: str) -> Iterator[Site]:
    code, content, log = folder / "site", folder / "content", folder / "log"
    shutil.copytree(_found("usr/share/wordpress", root), code, ignore_dangling_symlinks=True)
    shutil.copy(OURS / "wp-config.php", code)
    for part in ("database", "content/plugins", "content/themes", "content/uploads"):
        (folder / part).mkdir(parents=True)
    port = free_port()
    libraries = [str(path) for place in ("usr/lib", "lib") for path in (root / place).glob("*-linux-gnu")]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PHP_CLI_SERVER_WORKERS": "3",
        "SITE_ROOT": str(code),
        "SITE_SOCKET": f"{folder}/socket",
        "SITE_CONTENT": str(content),
        "SITE_URL": f"http://127.0.0.1:{port}",
        "WP_ENVIRONMENT_TYPE": environment_type,
    }
    extensions = _found("usr/lib/php/2*", root)
    settings = [f"extension_dir={extensions}", *(f"extension={name}" for name in EXTENSIONS)]
    settings += ["zend_extension=opcache", "opcache.enable_cli=1"]
    settings += ["memory_limit=256M", "display_errors=stderr", f"sys_temp_dir={folder}"]
    php = [str(_found("usr/bin/php[78]*", root)), "-n", *(f"-d{setting}" for setting in settings)]

    def run(*words: str) -> str:
        ran = subprocess.run(
            [*php, str(OURS / "site.php"), *words], env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    with _running(_database(root, folder), log, environment) as database:
        _until((folder / "socket").exists, database, log)
        created = [
            *php,
            "-r",
            "(new mysqli('localhost', 'root', '', '', 0, $argv[1]))->query('CREATE DATABASE wordpress');",
        ]
        subprocess.run([*created, f"{folder}/socket"], env=environment, check=True, timeout=PATIENCE)
        passwords = json.loads(run("install"))
        with _running(
            [*php, "-S", f"127.0.0.1:{port}", "-t", str(code), str(OURS / "router.php")], log, environment
        ) as web:
            _until(lambda: _answers(port), web, log)
            yield Site(environment["SITE_URL"], passwords, log, run)
