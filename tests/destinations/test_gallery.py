"""The rule of galleries: what it leaves as it is, is right; and what it writes, it leaves as it is."""

from hypothesis import given
from hypothesis import strategies as st

from handlers.destinations.gallery import Ours, arranged, moves
from schemas.shop import Mode

NAMES = st.sampled_from("abcdefgh")
GALLERIES = st.lists(NAMES, unique=True)
OURS: st.SearchStrategy[list[Ours]] = st.lists(
    st.tuples(NAMES, st.none() | st.integers(1, 12)), min_size=1, max_size=3, unique_by=lambda ours: ours[0]
)


@given(GALLERIES, OURS, st.sampled_from(Mode), st.sets(NAMES))
def test_a_gallery_that_was_arranged_is_as_it_should_be(
    current: list[str], ours: list[Ours], mode: Mode, never: set[str]
) -> None:
    gallery = arranged(current, ours, mode, never)
    assert arranged(gallery, ours, mode, never) == gallery
    mine = [name for name, _ in ours]
    others = [name for name in current if name not in mine]
    kept = others if mode is not Mode.REPLACE else [name for name in others if name in never]
    assert sorted(gallery) == sorted([*mine, *kept])
    # Nobody else's order is changed.
    assert [name for name in gallery if name not in mine] == kept
    if mode is not Mode.APPEND:
        assert gallery[: len(mine)] == mine


@given(GALLERIES, st.permutations("xyz"), st.integers(1, 12))
def test_pictures_stand_at_their_places_or_last(current: list[str], names: list[str], place: int) -> None:
    gallery = arranged(current, [(name, place + number) for number, name in enumerate(names)], Mode.APPEND)
    start = min(place - 1, len(current))
    assert gallery[start : start + 3] == names


@given(st.permutations("abcdef"), st.permutations("abcdef"))
def test_moves_lead_from_one_order_to_the_other(current: list[str], wanted: list[str]) -> None:
    gallery = list(current)
    for name, place in moves(current, wanted):
        gallery.remove(name)
        gallery.insert(place, name)
    assert gallery == wanted
