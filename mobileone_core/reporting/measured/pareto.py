"""Which of several choices no other one beats. No torch here."""

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, gain) to which no other is at least as good in both and better in one, costs rising.

    Equal points are all on the front or all off it.
    """
    best = float("-inf")
    front: list[int] = []
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1], place))
    for place in order:
        is_equal = bool(front) and points[front[-1]] == points[place]
        if points[place][1] > best or is_equal:
            front.append(place)
            best = max(best, points[place][1])
    return front
