"""Fronts and hypervolumes against brute force."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.study.search import Point, front, hypervolume

points = st.lists(st.builds(Point, st.integers(0, 6), st.integers(0, 6)), max_size=12)


def test_a_point_does_not_dominate_its_equal():
    assert not Point(1, 1).dominates(Point(1, 1))
    assert Point(1, 1).dominates(Point(1, 2))
    assert not Point(2, 2).dominates(Point(1, 1))


@given(points)
def test_front_is_what_no_other_beats(found):
    chosen = front(found)
    assert len({found[place] for place in chosen}) == len(chosen)
    for place, point in enumerate(found):
        beaten = any(o != point and o.accuracy >= point.accuracy and o.latency <= point.latency for o in found)
        assert (point in [found[item] for item in chosen]) == (not beaten), place


@given(points)
def test_hypervolume_counts_the_unit_squares_below(found):
    """Points with whole coordinates: squares of accuracy 1..6 and latency up to the corner at 5."""
    corner = Point(1, 5)
    squares = sum(
        any(p.accuracy >= accuracy + 1 and p.latency <= latency for p in found)
        for accuracy in range(1, 6)
        for latency in range(5)
    )
    assert Fraction(hypervolume(found, corner)) == squares


@given(points, points)
def test_more_points_never_dominate_less(found, more):
    corner = Point(0, 7)
    assert hypervolume([*found, *more], corner) >= hypervolume(found, corner)
    chosen = [found[place] for place in front(found)]
    assert hypervolume(chosen, corner) == hypervolume(found, corner)
