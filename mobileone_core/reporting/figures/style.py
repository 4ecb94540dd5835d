"""The style of all figures: sizes, colours, text above the axes, and files whose bytes depend on the data alone."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import matplotlib.gridspec

# Types of matplotlib, which loads when a figure is drawn.
Axes: TypeAlias = "matplotlib.axes.Axes"
Figure: TypeAlias = "matplotlib.figure.Figure"
GridSpec: TypeAlias = "matplotlib.gridspec.GridSpec"
SubplotSpec: TypeAlias = "matplotlib.gridspec.SubplotSpec"

WIDTH, HEIGHT = 8.0, 4.2  # inches
MEASURED, SEED, PUBLISHED = "#0072B2", "#999999", "#D55E00"  # the colour-blind safe palette of Okabe and Ito
LEVELS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6D31")
DASHES = ("-", "--", ":")
FONT_SIZE, READABLE, SMALLEST = 9.0, 7.0, 5.0  # points
LETTER = 0.62  # width of a letter as a fraction of the font size
POINTS = 72  # per inch


@dataclass(frozen=True)
class Drawing:
    """One figure as PNG and SVG."""

    png: bytes
    svg: bytes


def drawing(make: Callable[[], Figure]) -> Drawing:
    """Draw a figure in the common style and save it as PNG and SVG; equal figures give equal bytes."""
    png, svg = io.BytesIO(), io.BytesIO()
    with style():
        figure = make()
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
        figure.savefig(svg, format="svg", dpi=200, metadata={"Date": None})
    return Drawing(png.getvalue(), svg.getvalue())


@contextmanager
def style() -> Iterator[None]:
    """Apply the common style within the block, whatever the user's matplotlibrc says."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(context="paper", style="whitegrid", font="DejaVu Sans", color_codes=False)
        mpl.rcParams.update({"svg.hashsalt": "mobileone", "axes.edgecolor": "#444444", "axes.grid.axis": "y"})
        yield


def canvas(height: float, rows: int, columns: int, *, width: float = WIDTH, **layout: Any) -> tuple[Figure, GridSpec]:
    """Return an empty figure (width and height in inches) and a grid for its axes; layout as for GridSpec."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_gridspec(rows, columns, **layout)


def log_axis(axes: Axes, side: Literal["x", "y"], low: float, high: float, *, sparse: float = 100.0) -> None:
    """Make one axis logarithmic, ticks at 1, 2 and 5 times powers of ten; at powers alone from high / low = sparse."""
    steps = (1, 2, 5) if high / low < sparse else (1,)
    ticks = [step * 10.0**power for power in range(-3, 16) for step in steps]
    axes.set(**{f"{side}scale": "log", f"{side}lim": (low, high)})
    axes.set(**{f"{side}ticks": [tick for tick in ticks if low <= tick <= high]})
    axes.minorticks_off()


def interval_ends(value: float, interval: tuple[float, float]) -> tuple[list[float], list[float]]:
    """Return the distances from a value down and up to the ends of its interval, as errorbar expects them."""
    return [max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]


def level_indices(levels: Iterable[str], baseline: str) -> dict[str, int]:
    """Return an index per level for its colour and dash: 0, black, for the baseline, the others in their order."""
    return {level: index for index, level in enumerate(sorted(levels, key=lambda level: level != baseline))}


def level_color(index: int) -> str:
    """Return the colour of the level with this index."""
    return LEVELS[index % len(LEVELS)]


def level_dash(index: int) -> str:
    """Return the line style of the level with this index: dashed once the colours repeat."""
    return DASHES[index // len(LEVELS) % len(DASHES)]


def shades(color: str, count: int) -> list[tuple[float, float, float]]:
    """Return shades of a colour, from a lighter one to the colour itself."""
    import seaborn as sns

    return list(sns.color_palette(f"light:{color}", count + 2))[2:]


def title(figure: Figure, text: str, left: float) -> None:
    """Write the study's question at the top, in smaller letters if it is long."""
    room = figure.get_figwidth() * (0.99 - left) * POINTS
    size = min(12.0, room / (LETTER * max(1, len(text))))
    figure.text(left, 1 - 0.25 / figure.get_figheight(), text, fontsize=size, fontweight="bold")


def heading(axes: Axes, text: str, color: str) -> None:
    """Write a line above the axes, under the title."""
    text_above(axes, 0.55, text, fontsize=10, color=color)


def note(axes: Axes, text: str) -> None:
    """Write a small line directly above the axes."""
    text_above(axes, 0.78, text, fontsize=8)


def text_above(axes: Axes, inches: float, text: str, **font: Any) -> None:
    """Write a line above the axes, this many inches below the top of the figure."""
    if figure := axes.get_figure(root=True):
        figure.text(axes.get_position().x0, 1 - inches / figure.get_figheight(), text, **font)


def fitted(texts: Sequence[str], room: float) -> tuple[list[str], float]:
    """Wrap tick labels so that all fit next to each other into room (points); returns them and their font size."""
    each = room / max(1, len(texts))
    longest = max((len(word) for text in texts for word in text.split()), default=1)
    size = max(SMALLEST, min(FONT_SIZE, each / (LETTER * longest)))
    return ["\n".join(wrap(text, max(longest, int(each / (LETTER * size))))) for text in texts], size
