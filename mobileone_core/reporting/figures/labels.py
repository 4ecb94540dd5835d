"""Names next to points, placed so that none hides another. All lengths are points (1/72 inch)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mobileone_core.reporting.figures import style

LABEL_SIZE = 7.5  # font size
LETTER, LINE = 4.7, 9.5  # width of a letter, height of a line
GAP = 7.0
MARK = 4.0  # half the width of a bar with its mark
DISTANCE_COST = 0.02  # cost of one point of distance, in square points hidden
NEAR = 11.0  # half the width around a bar in which a name could be read as that bar's
NEAR_COST = 0.3  # cost of a square point there
Spot = tuple[float, float]  # left middle of a name


@dataclass(frozen=True)
class Label:
    """A name, the position of its mark, and the ends of the mark's bar, from the lower left corner of the axes."""

    text: str
    x: float
    y: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Estimated width of the text."""
        return LETTER * len(self.text)

    def distance(self, x: float, y: float) -> float:
        """Distance from the mark to the nearest point of the name written with its left middle at (x, y)."""
        return math.hypot(max(x - self.x, self.x - x - self.width, 0.0), y - self.y)

    def bar(self, margin: float) -> "Box":
        """The mark and its bar, margin wider on both sides."""
        return Box(self.x - margin, self.low - MARK, self.x + margin, self.high + MARK)

    def text_box(self, x: float, y: float) -> "Box":
        """The name, written with its left middle at (x, y)."""
        return Box(x, y - LINE / 2, x + self.width, y + LINE / 2)


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area that both rectangles cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)


def label_at(axes: style.Axes, text: str, x: float, y: float, ends: Iterable[float] = ()) -> Label:
    """Return the label of the data point (x, y), whose bar reaches from the lowest to the highest of ends."""
    box, scale = axes.get_window_extent(), style.POINTS / axes.figure.dpi
    (left, middle), *bar = axes.transData.transform([(x, y), *((x, end) for end in ends)])
    heights = [float(height - box.y0) * scale for height in (middle, *(end for _, end in bar))]
    return Label(text, float(left - box.x0) * scale, heights[0], min(heights), max(heights))


def write_label(axes: style.Axes, label: Label, spot: Spot, xy: tuple[float, float], **font: Any) -> None:
    """Write a label with its left middle at spot; xy is its mark in data coordinates."""
    shift = (spot[0] - label.x, spot[1] - label.y)
    axes.annotate(label.text, xy, shift, textcoords="offset points", va="center", **font)


def place_labels_in(axes: style.Axes, labels: Sequence[Label]) -> list[Spot]:
    """Place labels within these axes, whose position and limits must be final."""
    box, scale = axes.get_window_extent(), style.POINTS / axes.figure.dpi
    return place_labels(labels, box.width * scale, box.height * scale)


def place_labels(labels: Sequence[Label], width: float, height: float) -> list[Spot]:
    """Return the left middle of each name within axes of this size, longest first: the nearest spot hiding least."""
    inside = Box(0, 0, width, height)
    bars = [label.bar(MARK) for label in labels]
    near = [label.bar(NEAR) for label in labels]
    taken: list[Box] = []
    chosen: dict[int, Spot] = {}
    for index in sorted(range(len(labels)), key=lambda index: (-labels[index].width, index)):
        label, least = labels[index], math.inf
        for x, y in _spots(label):
            box = label.text_box(x, y)
            hidden = sum(box.overlap(other) for other in (*bars, *taken)) + box.overlap(box) - box.overlap(inside)
            doubtful = sum(box.overlap(other) for position, other in enumerate(near) if position != index)
            cost = hidden + NEAR_COST * doubtful + DISTANCE_COST * label.distance(x, y)
            if cost < least:
                chosen[index], least = (x, y), cost
        taken.append(label.text_box(*chosen[index]))
    return [chosen[index] for index in range(len(labels))]


def _spots(label: Label) -> Iterator[Spot]:
    """Right and left of the bar from its mark up and down, then above and below its ends."""
    steps = 1 + int(max(label.high - label.y, label.y - label.low) / LINE * 2)
    for step in range(steps):
        for x in (label.x + GAP, label.x - GAP - label.width):
            heights = (label.y + step * LINE / 2, label.y - step * LINE / 2)
            yield from ((x, y) for y in heights if label.low <= y <= label.high)
    for step in range(1, 12):
        for shift in (label.width / 2, label.width * 0.8, label.width * 0.2):
            yield label.x - shift, label.high + step * LINE
            yield label.x - shift, label.low - step * LINE
