"""A vendor's health, told by the answers that it gives anyway: pure, and nothing is asked for its sake.

A refused key and an empty account are known by their first word. That a vendor is down takes IN_A_ROW calls with no
answer in between, for one lost answer says little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from schemas.job import ErrorClass

IN_A_ROW = 3


class Call(StrEnum):
    PREPARE = "prepare"
    SUBMIT = "submit"
    ASK = "ask"
    FETCH = "fetch"


class Kind(IntEnum):
    """What is wrong; where several things are, the least says most."""

    REFUSED = 1
    BROKE = 2
    DOWN = 3


_KINDS: Mapping[ErrorClass, Kind] = {
    ErrorClass.AUTH: Kind.REFUSED,
    ErrorClass.CREDITS: Kind.BROKE,
    ErrorClass.VENDOR: Kind.DOWN,
    ErrorClass.TIMEOUT: Kind.DOWN,
}
_REASONS: Mapping[Kind, str] = {
    Kind.REFUSED: "the vendor refuses our key",
    Kind.BROKE: "the account at the vendor is empty",
    Kind.DOWN: "the vendor gives no answers, or only errors",
}
# A picture of ours that can't be read says nothing of the vendor.
_OURS = frozenset({"unreadable_input"})
# Every vendor is spoken to in these; a preparation may be done without it, and results may lie elsewhere.
_SPEAKS = frozenset({Call.SUBMIT, Call.ASK})


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of trouble: since when (milliseconds), how often in a row, and the last of it."""

    kind: Kind
    since: int
    times: int
    call: Call
    error_class: ErrorClass
    code: str

    @property
    def reason(self) -> str:
        return f"{self.error_class}: {_REASONS[self.kind]} ({self.code})"

    @property
    def tells(self) -> bool:
        return self.kind is not Kind.DOWN or self.times >= IN_A_ROW


class Health:
    """What this node has heard of one vendor since its start."""

    def __init__(self) -> None:
        self._troubles: dict[Kind, Trouble] = {}
        self._heard = False

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong, if anything is."""
        return next(
            (self._troubles[kind] for kind in Kind if kind in self._troubles and self._troubles[kind].tells), None
        )

    @property
    def healthy(self) -> bool | None:
        """None while nothing has been heard that would tell."""
        if self.trouble is not None:
            return False
        return True if self._heard else None

    def answered(self, call: Call) -> None:
        """The vendor did what it was asked to."""
        if call in _SPEAKS:
            self._heard = True
            self._over(Kind.DOWN)
            self._over(Kind.REFUSED)
        broke = self._troubles.get(Kind.BROKE)
        # Other calls may be free.
        if broke is not None and broke.call is call:
            self._over(Kind.BROKE)

    def failed(self, call: Call, error_class: ErrorClass, code: str, now: int) -> None:
        """The vendor said no, or nothing."""
        if code in _OURS:
            return
        kind = _KINDS.get(error_class)
        if kind is not Kind.DOWN:
            # A no is an answer.
            self._heard = True
            self._over(Kind.DOWN)
        if kind is None:
            return
        before = self._troubles.get(kind, Trouble(kind, now, 0, call, error_class, code))
        self._troubles[kind] = replace(before, times=before.times + 1, call=call, error_class=error_class, code=code)

    def _over(self, kind: Kind) -> None:
        self._troubles.pop(kind, None)
