"""The front by its definition."""

from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.reporting.figures.scatter import NamedPoint
from mobileone_core.reporting.measured.backbones import pareto_front

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def front_of(values):
    return pareto_front([NamedPoint(str(index), *value) for index, value in enumerate(values)])


def beats(one, other):
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(points)
def test_front_is_what_nothing_beats(values):
    front = front_of(values)
    expected = {str(index) for index, point in enumerate(values) if not any(beats(other, point) for other in values)}
    assert {point.name for point in front} == expected
    assert len(front) == len(expected)
    costs = [point.x for point in front]
    assert costs == sorted(costs)


def test_front_by_hand():
    values = [(3, 9), (1, 5), (2, 5), (2, 8), (4, 8), (1, 5)]
    assert [point.name for point in front_of(values)] == ["1", "5", "3", "0"]
    assert pareto_front([]) == []
