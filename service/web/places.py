"""Who may hold a stream open: each is a file, so there are so many places and no more, and all projects share them.

While there is room everybody gets a place, and a project alone may have them all. Once all are taken, whoever comes
from a project with fewer takes one of the greediest project's. So nobody locks anybody out, and those who want more
than there is end with as many as each other, give or take one. Whoever loses its place is told why, and may come back.
"""

from collections import defaultdict
from collections.abc import Callable
from resource import RLIMIT_NOFILE, getrlimit

import structlog

from schemas.problem import Problem
from service.store.keys import Principal
from service.web.sse import Line

log = structlog.get_logger()

# At once; of the files that may be open others need some, too.
MOST = 8_000
# The reason that is told to whoever loses its place.
CROWDED_OUT = "crowded_out"
_RETRY_AFTER = {"Retry-After": "5"}


class Places:
    """All streams that are open, of any kind; `now()` in milliseconds."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._most = min(MOST, getrlimit(RLIMIT_NOFILE)[0] * 2 // 5)
        # By project: each with the key that opened it. A project that has none is not in it.
        self._held: defaultdict[int, dict[Line, str]] = defaultdict(dict)
        self._revoked: set[str] = set()

    @property
    def open(self) -> int:
        return sum(map(len, self._held.values()))

    def take(self, who: Principal, line: Line) -> None:
        """One more stream, until it is left. Raises Problem 503 where its project has its share of them."""
        if self.open >= self._most:
            self._make_room(who.project)
        self._held[who.project][line] = who.key
        if who.key in self._revoked:
            line.hang_up()

    def leave(self, who: Principal, line: Line) -> None:
        """It has ended; perhaps its place was taken long before."""
        held = self._held.get(who.project, {})
        held.pop(line, None)
        if not held:
            self._held.pop(who.project, None)

    def revoked(self, key: str) -> None:
        """A key is believed no more: what was opened with it ends, as no request of it would ever be refused."""
        self._revoked.add(key)
        for held in self._held.values():
            for line in [line for line, opened_by in held.items() if opened_by == key]:
                self._hang_up(line)

    def _make_room(self, project: int) -> None:
        own = len(self._held.get(project, ()))
        greediest = max(self._held, key=lambda other: len(self._held[other]))
        # The other must be left with as many as it then has itself: else they would take from each other for ever.
        if len(self._held[greediest]) < own + 2:
            detail = (
                f"All places for streams are taken, and this project has its share: {own}. Close one, or come later."
            )
            raise Problem(503, "too_many_streams", detail, headers=_RETRY_AFTER)
        line = min(self._held[greediest], key=lambda line: line.rank)
        del self._held[greediest][line]
        log.info("stream.crowded_out", project_row=greediest, by_project_row=project)
        self._hang_up(line, CROWDED_OUT)

    def _hang_up(self, line: Line, reason: str | None = None) -> None:
        line.hang_up(reason)
        # Who reads nothing would keep it open.
        line.drop_if_stuck(self._now(), 0)
