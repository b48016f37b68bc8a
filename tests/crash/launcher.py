"""Starts real services, `wirephoto serve` and nothing less, that die by SIGKILL where a test says.

`python -m tests.crash.launcher FD` imports the service once and then forks a process for each order that comes over
the socket FD, so that a start after a kill costs milliseconds and not the imports. An order is one JSON message with
two pipes: on the first the service writes what it says, on the second we write its pid and, at its end, how it ended.

A point of death is `before:UNIT:N` or `after:UNIT:N`, UNIT being `module.function` of a unit of the store: the N-th
time it has run inside the writer's transaction but before the COMMIT, or is committed but nobody has been told.
`*` is any unit at all, from the first start's first, but for those that time alone brings about.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from service import app
from service.commands.serve import serve
from service.config import PREFIX
from service.opening import database_of
from service.store.database import Database, Tx, Unit
from tests.stores import Passing

P = ParamSpec("P")
T = TypeVar("T")

LARGEST_ORDER = 64 * 1024
ANY = "*"


@dataclass(frozen=True)
class Order:
    """`environment` holds settings, by their full names."""

    environment: Mapping[str, str]
    die: str | None = None


def die_now() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def _name(unit: Callable[..., Any]) -> str:
    return f"{unit.__module__.rpartition('.')[2]}.{unit.__name__}"


def _brought_by_time(name: str, result: object) -> bool:
    """The heart's beats, and claims and steps of retention that found nothing."""
    found_nothing = (name.endswith("claim") and result == []) or (name.endswith((".expire", ".forget")) and result == 0)
    return name.startswith("nodes.") or found_nothing


class MortalStore(Passing):
    """The store as it is, but for the one moment at which the process ends."""

    def __init__(self, inner: Database, die: str) -> None:
        super().__init__(inner)
        self._when, self._unit, nth = die.split(":")
        self._left = int(nth)
        self._doomed = False

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async def watched(tx: Tx, /, *args: P.args, **kwargs: P.kwargs) -> T:
            result = await unit(tx, *args, **kwargs)
            self._has_run(_name(unit), result)
            return result

        result = await super().write(watched, *args, **kwargs)
        if self._doomed:
            # After the COMMIT; nobody knows of it yet.
            die_now()
        return result

    def _has_run(self, name: str, result: object) -> None:
        """Inside the transaction; on SQLite on the writer's thread."""
        if self._unit not in (ANY, name) or _brought_by_time(name, result):
            return
        self._left -= 1
        if self._left == 0:
            if self._when == "before":
                die_now()
            self._doomed = True


def _serve(order: Order, says: int) -> None:
    """In the forked process; never returns."""
    for number in (1, 2):
        os.dup2(says, number)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(order.environment)
    die = order.die
    if die is not None:
        setattr(app, "database_of", lambda settings: MortalStore(database_of(settings), die))  # noqa: B010 - a name bound to a function
    code = 1
    try:
        serve.main([], prog_name="wirephoto serve")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Nothing of the launcher's own may be put away here a second time.
        os._exit(code)


class Launcher:
    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._lives: dict[int, int] = {}

    def run(self) -> None:
        """Until the test process closes its end, or is gone; then nobody is left behind."""
        signal.signal(signal.SIGCHLD, self._bury)
        while True:
            message, pipes, *_ = socket.recv_fds(self._orders, LARGEST_ORDER, 2)
            if not message:
                break
            # No burial before the life is written down.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            self._fork(Order(**json.loads(message)), *pipes)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for pid in list(self._lives):
            os.kill(pid, signal.SIGKILL)

    def _fork(self, order: Order, says: int, life: int) -> None:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            self._orders.close()
            for other in (life, *self._lives.values()):
                os.close(other)
            _serve(order, says)
        os.close(says)
        self._lives[pid] = life
        os.write(life, b"%d\n" % pid)

    def _bury(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                life = self._lives.pop(pid)
                # A test that has gone needs no news.
                with contextlib.suppress(BrokenPipeError):
                    os.write(life, b"%d\n" % os.waitstatus_to_exitcode(status))
                os.close(life)


if __name__ == "__main__":
    Launcher(socket.socket(fileno=int(sys.argv[1]))).run()
