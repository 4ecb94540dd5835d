"""What all figures have in common: settings, colours, files of the same bytes."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 8.0, 4.2  # inches
MEASURED, SEED, PUBLISHED = "#0072B2", "#999999", "#D55E00"  # Okabe and Ito's colours, told apart by all eyes
LEVELS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6D31")
DASHES = ("-", "--", ":")
NORMAL, SMALLEST = 9.0, 5.0  # letters, in points
LETTER = 0.62  # the width of a letter, of its size
POINTS = 72  # an inch


@dataclass(frozen=True)
class Drawing:
    """The same figure as PNG and SVG; the same result gives the same bytes."""

    png: bytes
    svg: bytes


def drawing(make: "Callable[[], Figure]") -> Drawing:
    """Make a figure in our settings and save it."""
    with style():
        figure = make()
        return Drawing(_saved(figure, "png", {"Software": None}), _saved(figure, "svg", {"Date": None}))


@contextmanager
def style() -> Iterator[None]:
    """Settings of our own, whatever the person's matplotlibrc says."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(context="paper", style="whitegrid", font="DejaVu Sans", color_codes=False)
        mpl.rcParams.update({"svg.hashsalt": "mobileone", "axes.edgecolor": "#444444", "axes.grid.axis": "y"})
        yield


def _saved(figure: "Figure", kind: str, metadata: dict[str, None]) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format=kind, dpi=200, metadata=metadata)
    return target.getvalue()


def level_places(levels: Iterable[str], baseline: str) -> dict[str, int]:
    """Every level's place for colour and dash: the baseline, which is black, then the others in their order."""
    return {level: place for place, level in enumerate(sorted(levels, key=lambda level: level != baseline))}


def level_color(index: int) -> str:
    """The colour of a level by its place."""
    return LEVELS[index % len(LEVELS)]


def level_dash(index: int) -> str:
    """The line of a level by its place: levels beyond the colours are dashed."""
    return DASHES[index // len(LEVELS) % len(DASHES)]


def title(figure: "Figure", text: str, left: float) -> None:
    """The question on top, smaller where it is long."""
    room = figure.get_figwidth() * (0.99 - left) * POINTS
    size = min(12.0, room / (LETTER * max(1, len(text))))
    figure.text(left, below_top(figure, 0.25), text, fontsize=size, fontweight="bold")


def heading(axes: "Axes", text: str, color: str) -> None:
    """A line above the axes, below the title."""
    top(axes, 0.55, text, fontsize=10, color=color)


def note(axes: "Axes", text: str) -> None:
    """A small line right above the axes."""
    top(axes, 0.78, text, fontsize=8)


def top(axes: "Axes", inches: float, text: str, **style: Any) -> None:  # noqa: ANN401
    """A line over the axes, so far below the figure's top."""
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.text(left_of(axes), below_top(figure, inches), text, **style)


def below_top(figure: "Figure", inches: float) -> float:
    """A height as a fraction of the figure."""
    return float(1 - inches / figure.get_figheight())


def left_of(axes: "Axes") -> float:
    """Where the axes start, as a fraction of the figure."""
    return float(axes.get_position().x0)


def fitted(texts: Sequence[str], room: float) -> tuple[list[str], float]:
    """Tick labels broken into lines so that len(texts) of them fit side by side into room (points), and their size."""
    each = room / max(1, len(texts))
    words = [word for text in texts for word in text.split()]
    longest = max((len(word) for word in words), default=1)
    size = max(SMALLEST, min(NORMAL, each / (LETTER * longest)))
    return ["\n".join(wrap(text, max(longest, int(each / (LETTER * size))))) for text in texts], size
