"""Which of several choices no other one beats. No torch here."""

from collections.abc import Sequence

from mobileone_core.study.pareto import Point


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, gain) to which no other is at least as good in both and better in one, costs rising.

    Equal points are all on the front or all off it.
    """
    own = [Point(accuracy=gain, latency=cost) for cost, gain in points]
    front = [place for place, point in enumerate(own) if not any(other.dominates(point) for other in own)]
    return sorted(front, key=lambda place: own[place].latency)
