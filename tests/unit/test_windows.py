"""A vendor's limit is kept whatever the network does: proven against a vendor that counts at the worst instant."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.vendors.contract import Window
from service.pacing.windows import COUNTED_WITHIN_MS, Sent, Windows


@dataclass(order=True)
class Call:
    """One simulated request. Times in milliseconds with their fractions, as a vendor's clock has them."""

    sent: float
    counted: float
    answered: float
    entry: Sent = field(compare=False)


def broken(instants: list[float], window: Window) -> bool:
    """Whether more than `requests` fall into some half-open span of the window's length."""
    ordered = sorted(instants)
    span = window.seconds * 1000
    return any(later - earlier < span for earlier, later in zip(ordered, ordered[window.requests :], strict=False))


windows = st.lists(
    st.builds(Window, st.just("account"), st.integers(1, 5), st.floats(0.001, 8).map(lambda s: round(s, 4))),
    min_size=1,
    max_size=3,
)
# How long the answer takes, at which part of that the vendor counts, and how long nobody wants anything.
calls = st.lists(
    st.tuples(st.floats(0, 60_000), st.floats(0, 1), st.sampled_from([0.0, 0.0, 0.0, 0.4, 300.0, 5000.0])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300)
@given(limits=windows, wanted=calls, start=st.floats(0, 1))
def test_no_latency_makes_a_vendor_see_more_than_its_limit(
    limits: list[Window], wanted: list[tuple[float, float, float]], start: float
) -> None:
    it = Windows(limits)
    now = 1_000_000 + start
    made: list[Call] = []

    def answer_until(at: float) -> None:
        for call in made:
            if call.entry.finished_at is None and call.answered <= at:
                call.entry.finished_at = int(call.answered)

    for latency, part, pause in wanted:
        now += pause
        while True:
            answer_until(now)
            free = it.free_at(int(now))
            assert free >= int(now)
            if free <= int(now):
                break
            # Asleep until then, or until an answer makes room sooner.
            answers = [call.answered for call in made if call.entry.finished_at is None]
            now = min([float(free), *answers])
        entry = it.send(int(now))
        # Counted between sending and answer, and when it arrives rather than when the work is done.
        counted = now + min(latency * part, COUNTED_WITHIN_MS - 1)
        made.append(Call(now, counted, now + latency, entry))
    for window in limits:
        assert not broken([call.counted for call in made], window), window


@given(limits=windows, burst=st.integers(1, 12))
def test_as_many_as_every_window_takes_may_go_at_once_and_no_more(limits: list[Window], burst: int) -> None:
    it = Windows(limits)
    room = min(window.requests for window in limits)
    went = 0
    while went < burst and it.free_at(0) == 0:
        it.send(0)
        went += 1
    assert went == min(burst, room)


def test_nothing_under_way_is_ever_forgotten_before_the_vendor_has_counted_it() -> None:
    it = Windows([Window("account", 1, 1.0)])
    it.send(0)
    assert it.free_at(5_000) >= COUNTED_WITHIN_MS + 1_000
    assert it.free_at(COUNTED_WITHIN_MS + 1_000) > COUNTED_WITHIN_MS + 1_000, "its last millisecond counts too"
    assert it.free_at(COUNTED_WITHIN_MS + 1_001) == COUNTED_WITHIN_MS + 1_001


def test_an_answer_makes_room_a_window_later() -> None:
    it = Windows([Window("account", 1, 1.0)])
    it.send(0).finished_at = 200
    assert it.free_at(300) == 1_201
    assert it.free_at(1_201) == 1_201


def test_a_vendor_without_limits_is_never_waited_for() -> None:
    it = Windows([])
    for now in range(0, 1000 * COUNTED_WITHIN_MS, COUNTED_WITHIN_MS):
        assert it.free_at(now) == now
        it.send(now)
    assert len(it.sent) <= 2, "and what no window counts any more is forgotten"
