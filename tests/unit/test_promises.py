"""A timetable that says it is kept keeps all windows and all keep-alives; and where a plain one exists it finds one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from service.pacing.promises import Chain, Ledger, Timetable, followed, place_from, timetable

NOW = 1_000
Window = tuple[int, int]  # requests, length in milliseconds


@dataclass(frozen=True)
class Given:
    """What is to be planned. `taken` was sent before now, and keeps the windows."""

    windows: Sequence[Window]
    taken: Sequence[int]
    tasks: Sequence[tuple[int, int, int, int]]  # kept_at, least, period, until

    def ledgers(self) -> tuple[Ledger, ...]:
        return tuple(Ledger(requests, length, self.taken) for requests, length in self.windows)

    def chains(self) -> list[Chain]:
        ledgers = self.ledgers()
        return [
            Chain(key, kept_at, 0, 0, least, period, until, ledgers)
            for key, (kept_at, least, period, until) in enumerate(self.tasks)
        ]


def broken(instants: Sequence[int], window: Window) -> bool:
    requests, length = window
    ordered = sorted(instants)
    return any(later - earlier < length for earlier, later in zip(ordered, ordered[requests:], strict=False))


@st.composite
def plans(draw: st.DrawFn) -> Given:
    windows = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 60)), min_size=1, max_size=2))
    taken: list[int] = []
    for at in sorted(draw(st.lists(st.integers(NOW - 60, NOW), max_size=8))):
        if not any(broken([*taken, at], window) for window in windows):
            taken.append(at)
    tasks = draw(
        st.lists(
            st.builds(
                lambda ago, least, more, left: (NOW - ago, least, least + more, NOW + left),
                st.integers(0, 15),
                st.integers(1, 5),
                st.integers(0, 20),
                st.integers(0, 60),
            ),
            max_size=4,
        )
    )
    return Given(windows, taken, tasks)


def holds(it: Given, found: Timetable) -> bool:
    """Whether each task is asked in time, from its last question until past its deadline."""
    for key, (kept_at, _, period, until) in enumerate(it.tasks):
        instants = found.instants.get(key, ())
        if kept_at >= until:
            continue
        # What is late already is due now.
        last = max(kept_at, NOW - period)
        for at in instants:
            if at - last > period:
                return False
            last = at
        if last < until:
            return False
    return True


def sent(it: Given, found: Mapping[int, Sequence[int]]) -> list[int]:
    return [*it.taken, *(at for instants in found.values() for at in instants)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(plans())
def test_what_is_promised_keeps_all_windows_and_all_keep_alives(it: Given) -> None:
    found = timetable(it.chains(), NOW)
    assert all(at >= NOW for instants in found.instants.values() for at in instants)
    assert not any(broken(sent(it, found.instants), window) for window in it.windows), "kept or not"
    assert holds(it, found) or not found.kept
    for key, (kept_at, least, period, _) in enumerate(it.tasks):
        last = kept_at
        for at in found.instants.get(key, ()):
            assert at - last >= min(least, period) or at == max(kept_at + period, NOW), "no question too early"
            last = at


@settings(max_examples=200, deadline=None, derandomize=True)
@given(plans())
def test_a_timetable_that_was_found_can_be_followed_to_its_end(it: Given) -> None:
    found = timetable(it.chains(), NOW)
    again = followed(found, it.chains(), NOW, 0)
    if found.kept:
        assert again.kept
        assert {key: list(instants) for key, instants in again.instants.items()} == found.instants
    assert not any(broken(sent(it, again.instants), window) for window in it.windows)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(plans())
def test_what_many_can_be_promised_fewer_can_be_too(it: Given) -> None:
    """Not a theorem for all windows at once, but for one: there nothing is gained by having more to do."""
    one = Given(it.windows[:1], it.taken, it.tasks)
    if timetable(one.chains(), NOW).kept:
        for gone in range(len(one.tasks)):
            fewer = Given(one.windows, one.taken, [task for key, task in enumerate(one.tasks) if key != gone])
            assert timetable(fewer.chains(), NOW).kept


def exists(windows: Sequence[Window], taken: list[int], tasks: Sequence[tuple[int, int, int]]) -> bool:
    """By trying everything: `tasks` are (last question, period, until)."""
    due = min((last + period for last, period, until in tasks if last < until), default=None)
    if due is None:
        return True
    last_sent = max([NOW, *(at for at in taken if at >= NOW)])
    # In the order of time: the next question is any task's, at any instant until the first one is due.
    for at in range(last_sent, due + 1):
        if any(broken([*taken, at], window) for window in windows):
            continue
        for number, (last, period, until) in enumerate(tasks):
            if last < until and last < at:
                rest = [*tasks[:number], (at, period, until), *tasks[number + 1 :]]
                if exists(windows, [*taken, at], rest):
                    return True
    return False


small = st.tuples(
    st.tuples(st.integers(1, 3), st.integers(2, 8)),
    st.lists(
        st.tuples(st.integers(NOW - 3, NOW), st.integers(3, 5), st.integers(NOW, NOW + 6)), min_size=1, max_size=2
    ),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(small)
def test_nothing_is_promised_that_cannot_be_kept(case: tuple[Window, list[tuple[int, int, int]]]) -> None:
    window, tasks = case
    it = Given([window], [], [(kept_at, 1, period, until) for kept_at, period, until in tasks])
    if timetable(it.chains(), NOW).kept:
        assert exists([window], [], tasks)


def test_each_question_is_put_as_late_as_it_may_be_and_earlier_only_where_it_is_crowded() -> None:
    it = Given([(1, 3)], [], [(NOW, 1, 10, NOW + 5), (NOW, 1, 10, NOW + 5)])
    found = timetable(it.chains(), NOW)
    assert found.kept
    assert sorted(at for instants in found.instants.values() for at in instants) == [NOW + 7, NOW + 10]


def test_what_comes_too_late_is_planned_as_soon_as_it_may_be() -> None:
    it = Given([(1, 10)], [NOW - 2], [(NOW - 9, 1, 10, NOW)])
    found = timetable(it.chains(), NOW)
    assert not found.kept
    assert found.next_at(0) == NOW + 8


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 4), st.integers(1, 20), st.integers(0, 60))
def test_a_place_in_a_ledger_is_the_next_one_that_is_free(
    wanted: list[int], requests: int, length: int, at: int
) -> None:
    ledger, taken = Ledger(requests, length, []), list[int]()
    for start in [*wanted, at]:
        free = next(t for t in range(start, 10_000) if not broken([*taken, t], (requests, length)))
        assert place_from(start, (ledger,)) == free
        taken.append(free)
