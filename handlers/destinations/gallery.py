"""What becomes of a product's gallery, worked out without asking anyone.

The rule is its own proof: a gallery that the rule leaves as it is, is as it should be. So the same few lines say what
to write, and whether what the shop shows afterwards is right.
"""

from collections.abc import Collection, Sequence

from schemas.shop import Mode

# A picture of ours at the shop, and the place it asks for, from 1.
Ours = tuple[str, int | None]


def arranged(current: Sequence[str], ours: Sequence[Ours], mode: Mode, never: Collection[str] = ()) -> list[str]:
    """The gallery with our pictures in it, in the job's order. `never` are thrown out by no mode: videos, models."""
    mine = list(dict.fromkeys(name for name, _ in ours))
    others = [name for name in current if name not in mine]
    if mode is Mode.REPLACE:
        return mine + [name for name in others if name in never]
    if mode is Mode.SET_MAIN:
        return mine + others
    places = dict(reversed(ours))
    fixed = sorted((place, index, name) for index, name in enumerate(mine) if (place := places[name]) is not None)
    settled = {name for _, _, name in fixed}
    gallery = [name for name in current if name not in settled]
    gallery += [name for name in mine if name not in settled and name not in gallery]
    for place, _, name in fixed:
        # Past its end means last.
        gallery.insert(place - 1, name)
    return gallery


def moves(current: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, int]]:
    """Which to take to which place, counted from 0, one after the other; both hold the same names."""
    now, found = list(current), []
    for place, name in enumerate(wanted):
        if now[place] != name:
            now.remove(name)
            now.insert(place, name)
            found.append((name, place))
    return found
