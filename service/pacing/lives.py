"""How long an operation's tasks live, learned from when they were found finished: pure.

A task that was still running at one question and finished at the next has lived for some time between the two; no more
is ever known. So the lives are a histogram over spans of time, and each answer spreads its weight over the spans that
it allows: mostly where earlier answers put theirs (one step of the self-consistent estimate for such observations,
Turnbull 1976), partly evenly, so that a vendor that has become faster is found out although nobody asks that early.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from operator import neg

# Seconds: spans grow by a tenth, from half a second to about four hours.
_EDGES: Sequence[float] = (0.0, *(0.5 * 1.1**step for step in range(108)))
_SPANS = len(_EDGES) - 1
# So many answers are remembered; older ones fade.
_MEMORY = 200
# What is believed before anything was seen, in answers: any life is as likely as one twice as long.
_PRIOR = 0.5
_BY_EARLIER = 0.9
# Fewer answers say nothing.
ENOUGH = 5
_NEVER = 1e-9


@dataclass(frozen=True, slots=True)
class Outlook:
    """For a task that was last `kept_at` then, while `seen` answers are known. In milliseconds, of a clock never set.

    `worth_at`: when a question is first worth its price; `likely_at`: when it is most likely the last one, if known.
    """

    kept_at: int
    seen: int
    worth_at: int
    likely_at: int | None


class Lives:
    """Ages in seconds. `seen` counts the answers; below ENOUGH, `known` is false and the rest is guesswork."""

    def __init__(self, weights: Sequence[float] = (), seen: int = 0) -> None:
        self._weights = list(weights) if len(weights) == _SPANS else [0.0] * _SPANS
        self.seen = seen if len(weights) == _SPANS else 0
        self._tabulate()

    @property
    def known(self) -> bool:
        return self.seen >= ENOUGH

    def learn(self, alive: float, ended: float) -> None:
        """A task was seen running at the age `alive` (0: never), and finished at the age `ended`."""
        ended = max(ended, alive + 0.001)
        shares = [max(0.0, min(ended, high) - max(alive, low)) for low, high in pairwise(_EDGES)]
        if not any(shares):
            return  # older than anything we keep
        known = [
            (self._alive[span] - self._alive[span + 1]) * share / (_EDGES[span + 1] - _EDGES[span])
            for span, share in enumerate(shares)
        ]
        all_shares, all_known = sum(shares), sum(known) or 1.0
        self._weights = [
            weight * (1 - 1 / _MEMORY) + _BY_EARLIER * by / all_known + (1 - _BY_EARLIER) * share / all_shares
            for weight, by, share in zip(self._weights, known, shares, strict=True)
        ]
        self.seen += 1
        self._tabulate()

    def finished(self, alive: float, age: float) -> float:
        """The chance that a task seen running at `alive` is finished at `age`."""
        return 1 - self._still(age) / self._still(alive)

    def unnoticed(self, alive: float, age: float) -> float:
        """For how many seconds, on average, a task seen running at `alive` has lain finished at `age`."""
        return (age - alive) - (self._lived(age) - self._lived(alive)) / self._still(alive)

    def age_when(self, alive: float, unnoticed: float) -> float:
        """The age at which `unnoticed` comes to so many seconds."""
        low, high = alive, alive + unnoticed
        while self.unnoticed(alive, high) < unnoticed:
            low, high = high, alive + 2 * (high - alive)
        while high - low > 0.01:
            middle = (low + high) / 2
            if self.unnoticed(alive, middle) < unnoticed:
                low = middle
            else:
                high = middle
        return high

    def age_finished(self, alive: float, chance: float) -> float:
        """The age at which a task seen running at `alive` is finished with this chance."""
        left = self._still(alive) * (1 - chance)
        if left <= self._alive[-1]:
            return self._alive[-1] * _EDGES[-1] / left
        span = bisect_left(self._alive, -left, key=neg) - 1
        part = (self._alive[span] - left) / (self._alive[span] - self._alive[span + 1])
        return _EDGES[span] + (_EDGES[span + 1] - _EDGES[span]) * part

    def as_json(self) -> str:
        return json.dumps([round(weight, 6) for weight in self._weights])

    @classmethod
    def from_json(cls, text: str, seen: int) -> "Lives":
        return cls(json.loads(text), seen)

    def _tabulate(self) -> None:
        """At each edge: the part still alive, and the time lived until then by an average task."""
        whole = sum(self._weights) + _PRIOR
        self._alive, self._lived_by = [1.0], [0.0]
        for span, weight in enumerate(self._weights):
            alive = self._alive[-1]
            after = max(alive - (weight + _PRIOR / _SPANS) / whole, _NEVER)
            self._lived_by.append(self._lived_by[-1] + (alive + after) / 2 * (_EDGES[span + 1] - _EDGES[span]))
            self._alive.append(after)

    def _still(self, age: float) -> float:
        if age >= _EDGES[-1]:
            return self._alive[-1] * _EDGES[-1] / age
        span = bisect_right(_EDGES, age) - 1
        part = (age - _EDGES[span]) / (_EDGES[span + 1] - _EDGES[span])
        return self._alive[span] + (self._alive[span + 1] - self._alive[span]) * part

    def _lived(self, age: float) -> float:
        if age >= _EDGES[-1]:
            return self._lived_by[-1] + self._alive[-1] * _EDGES[-1] * log(age / _EDGES[-1])
        span = bisect_right(_EDGES, age) - 1
        return self._lived_by[span] + (self._alive[span] + self._still(age)) / 2 * (age - _EDGES[span])
