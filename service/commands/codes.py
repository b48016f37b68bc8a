"""How a command ends: the numbers that scripts may rely on, and the form in which each command shows an example."""

from collections.abc import Iterable, Mapping
from enum import IntEnum


class Code(IntEnum):
    """Exit codes. `MEANINGS` says them to people; `wirephoto --help` lists them."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    FILE = 5
    INTERRUPTED = 130  # as shells count a Ctrl-C


MEANINGS: Mapping[Code, str] = {
    Code.SUCCESS: "Done, and it succeeded.",
    Code.FAILED: "Done, but the outcome is bad: a job failed, a test was not delivered, check found a fault.",
    Code.USAGE: "The command, its options or the settings can't be used as they are.",
    Code.UNREACHABLE: "No Wirephoto answered, or it or its database can't serve just now: try again later.",
    Code.REFUSED: "The service or the store said no: the key, an id, a field.",
    Code.FILE: "A file can't be read or written, or is damaged.",
    Code.INTERRUPTED: "Ctrl-C.",
}


def together(codes: Iterable[Code]) -> Code:
    """The code of several works: what went wrong where one thing did, FAILED where several different ones did."""
    bad = set(codes) - {Code.SUCCESS}
    if not bad:
        return Code.SUCCESS
    return bad.pop() if len(bad) == 1 else Code.FAILED


def example(*lines: str) -> str:
    """An epilog that click leaves as it is written; each line can be pasted into a shell."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
