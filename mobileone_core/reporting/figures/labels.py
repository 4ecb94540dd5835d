"""Where the names of points go, so that none hides another. All lengths are points of an inch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LETTERS = 7.5  # the size of the letters
LETTER, LINE = 4.7, 9.5  # the width of one, and the height of a line of them
GAP = 7.0
MARK = 4.0  # half the width of a bar with its mark
FAR = 0.02  # what a point of distance costs, in square points hidden
CLOSE = 11.0  # half the width around a bar in which a name could be taken for its own
DOUBT = 0.3  # what a square point there costs


@dataclass(frozen=True)
class Label:
    """A name, the mark it belongs to, and the ends of the mark's bar, from the lower left corner of the axes."""

    text: str
    x: float
    y: float
    low: float
    high: float

    @property
    def width(self) -> float:
        return LETTER * len(self.text)


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)


def place_labels(labels: Sequence[Label], width: float, height: float) -> list[tuple[float, float]]:
    """The left middle of each name, in axes of this size: the nearest place that hides least.

    The longest name chooses first. A place hides what it covers of bars and other names, and what lies outside.
    """
    inside = Box(0, 0, width, height)
    bars = [_bar(label, MARK) for label in labels]
    near = [_bar(label, CLOSE) for label in labels]
    taken: list[Box] = []
    chosen: dict[int, tuple[float, float]] = {}
    for index in sorted(range(len(labels)), key=lambda index: (-labels[index].width, index)):
        label, least = labels[index], math.inf
        for x, y in _spots(label):
            box = _box(label, x, y)
            hidden = sum(box.overlap(other) for other in (*bars, *taken)) + box.area - box.overlap(inside)
            doubtful = sum(box.overlap(other) for place, other in enumerate(near) if place != index)
            cost = hidden + DOUBT * doubtful + FAR * _distance(label, x, y)
            if cost < least:
                chosen[index], least = (x, y), cost
        taken.append(_box(label, *chosen[index]))
    return [chosen[index] for index in range(len(labels))]


def _spots(label: Label) -> Iterator[tuple[float, float]]:
    """Right and left of the bar from its mark up and down, and over and under its ends."""
    steps = 1 + int(max(label.high - label.y, label.y - label.low) / LINE * 2)
    for step in range(steps):
        for x in (label.x + GAP, label.x - GAP - label.width):
            for y in (label.y + step * LINE / 2, label.y - step * LINE / 2):
                if label.low <= y <= label.high:
                    yield x, y
    for step in range(1, 12):
        for shift in (label.width / 2, label.width * 0.8, label.width * 0.2):
            yield label.x - shift, label.high + step * LINE
            yield label.x - shift, label.low - step * LINE


def _distance(label: Label, x: float, y: float) -> float:
    """From the mark to the nearest point of the name."""
    aside = max(x - label.x, label.x - x - label.width, 0.0)
    return math.hypot(aside, y - label.y)


def _bar(label: Label, margin: float) -> Box:
    return Box(label.x - margin, label.low - MARK, label.x + margin, label.high + MARK)


def _box(label: Label, x: float, y: float) -> Box:
    return Box(x, y - LINE / 2, x + label.width, y + LINE / 2)
