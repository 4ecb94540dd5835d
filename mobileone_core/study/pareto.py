"""Pareto fronts of two objectives, accuracy and latency, and their hypervolume."""

from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """An accuracy (a fraction, higher is better) and a latency (a ratio, lower is better)."""

    accuracy: float
    latency: float

    def dominates(self, other: "Point") -> bool:
        """Whether this point is at least as good in both objectives and better in one."""
        return self != other and self.accuracy >= other.accuracy and self.latency <= other.latency


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other point dominates, in order; of equal points the first."""
    return [
        index
        for index, point in enumerate(points)
        if point not in points[:index] and not any(other.dominates(point) for other in points)
    ]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Area (accuracy times latency) that the points dominate, bounded by the reference point, the worst corner."""
    area, best = 0.0, reference.accuracy
    inside = [point for point in points if point.accuracy > reference.accuracy and point.latency < reference.latency]
    for point in sorted(inside, key=lambda point: (point.latency, -point.accuracy)):
        if point.accuracy > best:
            area += (point.accuracy - best) * (reference.latency - point.latency)
            best = point.accuracy
    return area
