"""Proposals follow from their arguments alone, are new, and follow what was measured."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileone_core.study.queue.proposals import MeasuredCandidate, propose
from mobileone_core.study.search import Point

SIZES = {"k": 3, "width": 4, "depth": 2, "se": 1}
SAMPLERS = ("nsga2", "tpe", "random")


def after(generations, population=4):
    """Candidates whose accuracy and latency rise with their first two genes."""
    every = list(itertools.product(*(range(size) for size in SIZES.values())))
    return [
        MeasuredCandidate(every[(7 * number + 5 * index) % len(every)], Point(index / 10, 1.0 + number), number)
        for number in range(1, generations + 1)
        for index in range(population)
    ]


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SAMPLERS), st.integers(0, 9), st.integers(0, 3), st.integers(2, 6))
def test_proposals_are_new_within_bounds_and_the_same_again(sampler, seed, generations, population):
    measured = after(generations)
    known = {item.genes for item in measured}

    def is_new(genes):
        return genes not in known

    drawn = propose(sampler, seed, SIZES, measured, population, is_new)
    assert len(set(drawn)) == len(drawn) == min(population, 24 - len(known))
    assert not known & set(drawn)
    assert all(0 <= gene < size for genes in drawn for gene, size in zip(genes, SIZES.values(), strict=True))
    assert propose(sampler, seed, SIZES, measured, population, is_new) == drawn


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_exhausted_space_gives_what_is_left(sampler):
    left = (2, 3, 1, 0)
    assert propose(sampler, 0, SIZES, after(1), 3, left.__eq__) == (left,)
    assert propose(sampler, 0, SIZES, after(1), 3, lambda _: False) == ()


@pytest.mark.slow
def test_a_search_by_results_differs_from_chance_and_from_other_results():
    sizes = {str(number): 10 for number in range(6)}
    every = [MeasuredCandidate((index % 10,) * 6, Point(index / 10, 1.0), 1) for index in range(10)]
    turned = [MeasuredCandidate(item.genes, Point(1 - item.point.accuracy, 1.0), 1) for item in every]
    drawn = {sampler: propose(sampler, 0, sizes, every, 8, lambda _: True) for sampler in SAMPLERS}
    assert len(set(drawn.values())) == 3
    for sampler in ("nsga2", "tpe"):
        best, worst = (
            sum(map(sum, propose(sampler, 1, sizes, found, 20, lambda _: True))) for found in (every, turned)
        )
        assert best > worst, sampler
    assert propose("random", 0, sizes, every, 8, lambda _: True) == propose(
        "random", 0, sizes, turned, 8, lambda _: True
    )
