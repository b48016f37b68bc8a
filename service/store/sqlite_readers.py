"""SQLite's readers: threads with a connection each, so that a slow list keeps nobody from a quick look-up.

A query is one hop to a thread and one back, however many statements it has: it is driven there as a unit is.
"""

import contextlib
import queue
import sqlite3
import threading
from pathlib import Path

from service.store.sqlite_units import ThreadReader, Work, answer, drive, fault_of, row_as_dict


class Readers:
    """`count` threads over one queue. Made and closed in any thread, with the file there."""

    def __init__(self, path: Path, count: int) -> None:
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        connections = [_connect(path) for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._read_loop, args=(connection,), name=f"sqlite-reader-{number}", daemon=True)
            for number, connection in enumerate(connections)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, work: Work) -> None:
        self._queue.put(work)

    def close(self) -> None:
        """Finish what was handed in."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _read_loop(self, connection: sqlite3.Connection) -> None:
        reader = ThreadReader(connection)
        with contextlib.closing(connection):
            while (work := self._queue.get()) is not None:
                if not work.future.cancelled():
                    _read(connection, reader, work)
                answer([work])
                # Nothing of an answer stays here until the next question.
                del work


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.row_factory = row_as_dict
    connection.execute("PRAGMA busy_timeout=10000")
    return connection


def _read(connection: sqlite3.Connection, reader: ThreadReader, work: Work) -> None:
    """In one transaction: every statement sees the same state."""
    try:
        connection.execute("BEGIN")
        try:
            work.result = drive(work, reader)
        finally:
            connection.execute("ROLLBACK")
    except BaseException as error:  # noqa: BLE001 - handed to the caller
        work.error = fault_of(error)
