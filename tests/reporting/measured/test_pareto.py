"""The front by its definition."""

from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.reporting.measured.pareto import pareto_front

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def beats(one, other):
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(points)
def test_front_is_what_nothing_beats(values):
    front = pareto_front(values)
    wanted = {place for place, point in enumerate(values) if not any(beats(other, point) for other in values)}
    assert set(front) == wanted
    assert len(front) == len(wanted)
    costs = [values[place][0] for place in front]
    assert costs == sorted(costs)


def test_front_by_hand():
    assert pareto_front([(3, 9), (1, 5), (2, 5), (2, 8), (4, 8), (1, 5)]) == [1, 5, 3, 0]
    assert pareto_front([]) == []
