"""Fronts of two objectives: what no other beats in both, and how much of the plane a set dominates."""

from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """An accuracy (a fraction, more is better) and a latency (a ratio, less is better)."""

    accuracy: float
    latency: float

    def dominates(self, other: "Point") -> bool:
        """Whether it is as good in both and better in one."""
        return self != other and self.accuracy >= other.accuracy and self.latency <= other.latency


def front(points: Sequence[Point]) -> list[int]:
    """Places of the points that none dominates, in their order; of equal points the first."""
    return [
        place
        for place, point in enumerate(points)
        if point not in points[:place] and not any(other.dominates(point) for other in points)
    ]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The area that the points dominate within the reference point, the worst corner: accuracy times latency."""
    area, best = 0.0, reference.accuracy
    inside = [point for point in points if point.accuracy > reference.accuracy and point.latency < reference.latency]
    for point in sorted(inside, key=lambda point: (point.latency, -point.accuracy)):
        if point.accuracy > best:
            area += (point.accuracy - best) * (reference.latency - point.latency)
            best = point.accuracy
    return area
