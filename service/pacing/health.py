"""A vendor's health, told by the answers that it gives anyway: pure, and nothing is asked for its sake.

A refused key and an empty account are known by their first word, and pause the account. That a vendor is down takes
IN_A_ROW calls with no answer in between, for one lost answer says little; it pauses nothing. What changes is put down
in `changes`, for the store and for an event; what stands in the store is taken up at the start. So there is one truth.

Calls overlap. What is said to a call that was begun before the last word of a kind tells of an earlier time, and
neither ends the trouble nor begins it anew: hence the marks.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.job import ErrorClass
from schemas.trouble import HARMLESS, PAUSING, Kind, Trouble

IN_A_ROW = 3
# Waits before the first probe and between the next ones, in milliseconds; the last is repeated.
PROBES_MS = (30_000, 60_000, 120_000, 300_000, 600_000)
# A job that the key is refused for so often, while it serves others in between, is itself what is refused.
REFUSALS_OF_A_JOB = 3
_JOBS_REMEMBERED = 1_000


class Call(StrEnum):
    PREPARE = "prepare"
    SUBMIT = "submit"
    ASK = "ask"
    FETCH = "fetch"
    LOOK = "look"  # a free one, whether the key is taken


_KINDS: Mapping[ErrorClass, Kind] = {
    ErrorClass.AUTH: Kind.REFUSED,
    ErrorClass.CREDITS: Kind.BROKE,
    ErrorClass.VENDOR: Kind.DOWN,
    ErrorClass.TIMEOUT: Kind.DOWN,
}
# A picture of ours that can't be read says nothing of the vendor.
_OURS = frozenset({"unreadable_input"})
# Every vendor is spoken to in these; a preparation may be done without it, and results may lie elsewhere.
_SPEAKS = frozenset({Call.SUBMIT, Call.ASK, Call.LOOK})
# Which calls, going well, prove that the trouble is over, by the call that met it. Others may be free, or need no key.
_PROOFS: Mapping[Kind, Mapping[Call, frozenset[Call]]] = {
    Kind.REFUSED: {
        Call.PREPARE: frozenset({Call.PREPARE, Call.SUBMIT}),
        Call.SUBMIT: frozenset({Call.SUBMIT}),
        Call.ASK: frozenset({Call.ASK, Call.SUBMIT}),
        Call.FETCH: frozenset({Call.FETCH, Call.ASK, Call.SUBMIT}),
        Call.LOOK: frozenset({Call.SUBMIT}),
    },
    Kind.BROKE: {
        Call.PREPARE: frozenset({Call.PREPARE, Call.SUBMIT}),
        Call.SUBMIT: frozenset({Call.SUBMIT}),
        Call.ASK: frozenset({Call.ASK, Call.SUBMIT}),
        # Where the price is due with the result, a submission proves nothing.
        Call.FETCH: frozenset({Call.FETCH}),
        Call.LOOK: frozenset({Call.SUBMIT}),
    },
    Kind.DOWN: dict.fromkeys(Call, _SPEAKS),
    Kind.LOW: dict.fromkeys(Call, frozenset()),  # only the balance tells
}


def probe_at(probes: int, now: int) -> int:
    """When to try next whether an account is good again, after `probes` tries in vain (milliseconds)."""
    return now + PROBES_MS[min(probes, len(PROBES_MS) - 1)]


@dataclass(frozen=True, slots=True)
class Change:
    """What one word changed: to be written down, and told."""

    begun: Trouble | None = None
    over: frozenset[Kind] = frozenset()


@dataclass(slots=True)
class _Said:
    """Of one kind: the mark of the vendor's last no, that of its end, and what would end it."""

    no_at: int = 0
    over_at: int = 0
    proofs: frozenset[Call] = frozenset()


class Health:
    """What this node has heard of one account, and what the store knew of it at the start."""

    def __init__(self) -> None:
        self.changes: deque[Change] = deque()
        self._troubles: dict[Kind, Trouble] = {}
        self._said: Mapping[Kind, _Said] = {kind: _Said() for kind in Kind}
        self._heard = False
        self._mark = 0
        self._silent: tuple[int, int] | None = None  # since when, how often in a row
        self._served_at = 0
        self._refused: OrderedDict[int, tuple[int, int]] = OrderedDict()  # by job: the mark, how often

    def take_up(self, troubles: Iterable[Trouble]) -> None:
        """What the store knows, before the first call."""
        self._troubles = {trouble.kind: trouble for trouble in troubles}
        for kind, trouble in self._troubles.items():
            self._said[kind].proofs = _PROOFS[kind][Call(trouble.call)]

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong, if anything is."""
        return next((self._troubles[kind] for kind in Kind if kind in self._troubles and kind not in HARMLESS), None)

    @property
    def pausing(self) -> Sequence[Trouble]:
        """What keeps jobs from being handed in."""
        return [trouble for kind, trouble in self._troubles.items() if kind in PAUSING]

    @property
    def healthy(self) -> bool | None:
        """None while nothing has been heard that would tell."""
        if self.trouble is not None:
            return False
        return True if self._heard else None

    def asks(self) -> int:
        """A call begins: the mark that its answer comes back with."""
        self._mark += 1
        return self._mark

    def answered(self, call: Call, began: int) -> None:
        """The vendor did what it was asked to."""
        over = {
            kind
            for kind in PAUSING.intersection(self._troubles)
            if call in self._said[kind].proofs and began > self._said[kind].no_at
        }
        if call in _SPEAKS:
            over |= self._speaks()
        if call is Call.SUBMIT and (Kind.REFUSED in over or Kind.REFUSED not in self._troubles):
            self._served_at = self.asks()
        self._over(over)

    def failed(self, call: Call, began: int, error_class: ErrorClass, code: str, now: int) -> None:
        """The vendor said no, or nothing."""
        kind = _KINDS.get(error_class)
        if code in _OURS:
            return
        if kind is Kind.DOWN:
            self._keeps_silent(call, error_class, code, now)
            return
        # A no is an answer.
        over = self._speaks()
        begun = None
        if kind is not None:
            said = self._said[kind]
            if kind is Kind.BROKE and began > self._said[Kind.REFUSED].no_at:
                # Whoever is told what is in the account has shown its key.
                over |= {Kind.REFUSED}.intersection(self._troubles)
            if kind in self._troubles:
                said.no_at = self.asks()
                said.proofs |= _PROOFS[kind][call]
            elif began > said.over_at:
                said.no_at = self.asks()
                said.proofs = _PROOFS[kind][call]
                begun = Trouble(kind, now, call, error_class, code, probe_at(0, now))
        self._over(over, begun)

    def has_left(self, balance: str, *, low: bool, now: int) -> None:
        """The vendor has told the account's balance."""
        if not low:
            self.take_back(Kind.LOW)
        elif Kind.LOW not in self._troubles:
            self._over(set(), Trouble(Kind.LOW, now, Call.LOOK, ErrorClass.CREDITS, "", credits=balance))

    def take_back(self, kind: Kind) -> None:
        """A probe has shown that it is over."""
        self._over({kind}.intersection(self._troubles))

    def probed(self, trouble: Trouble, next_at: int) -> None:
        """It is tried now, and if in vain once more at `next_at`."""
        if trouble.kind in self._troubles:
            self._troubles[trouble.kind] = replace(trouble, probe_at=next_at, probes=trouble.probes + 1)

    def put_right(self, stored: Iterable[Trouble]) -> None:
        """The times of probes as they stand in the store, where somebody else has changed them."""
        for trouble in stored:
            if trouble.kind in self._troubles:
                self._troubles[trouble.kind] = trouble

    def is_the_jobs(self, job: int) -> bool:
        """Whether the key is refused for what this job wants, and not as such.

        So it is where it was refused before, and has served others in between. Asked once for each refusal.
        """
        mark, times = self._refused.pop(job, (0, 0))
        if times == 0 or self._served_at > mark:
            times += 1
        self._refused[job] = (self.asks(), times)
        if len(self._refused) > _JOBS_REMEMBERED:
            self._refused.popitem(last=False)
        return times >= REFUSALS_OF_A_JOB

    def _speaks(self) -> set[Kind]:
        self._heard = True
        self._silent = None
        return {Kind.DOWN}.intersection(self._troubles)

    def _keeps_silent(self, call: Call, error_class: ErrorClass, code: str, now: int) -> None:
        since, times = self._silent or (now, 0)
        self._silent = since, times + 1
        if times + 1 >= IN_A_ROW and Kind.DOWN not in self._troubles:
            self._over(set(), Trouble(Kind.DOWN, since, call, error_class, code))

    def _over(self, kinds: set[Kind], begun: Trouble | None = None) -> None:
        if Kind.BROKE in kinds:
            # It was filled up: whether it is low still, the next look tells.
            kinds |= {Kind.LOW}.intersection(self._troubles)
        for kind in kinds:
            del self._troubles[kind]
            self._said[kind].over_at = self.asks()
        if begun is not None:
            self._troubles[begun.kind] = begun
        if kinds or begun is not None:
            self.changes.append(Change(begun, frozenset(kinds)))
