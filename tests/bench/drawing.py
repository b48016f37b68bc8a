"""What the bench's pictures share: text stays text, on any background, and the same figures give the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK = "#808890"


@contextmanager
def drawn(file: Path, height: float) -> Iterator[Any]:
    """Axes for horizontal bars, the first row on top, kept in the file when they are done; `height` in inches."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "wirephoto", "font.size": 11})
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(figsize=(8, height))
    yield axes
    axes.invert_yaxis()
    axes.margins(x=0.12)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    for spine in ("left", "bottom"):
        axes.spines[spine].set_color(INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    drawing.savefig(file, transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(drawing)
