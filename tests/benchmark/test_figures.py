"""Printed figures against their definitions, written out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mobileone_core.benchmark.figures import latency_figures, trimmed_figures
from mobileone_core.benchmark.protocol import Protocol

times = arrays(np.float64, (8, 7), elements=st.floats(0.01, 1e3))


def kept(rounds, **others):
    return {"latency": rounds.tolist(), "process": [[0.5]] * 8, **others}


@given(times, times, times)
def test_figures_are_what_their_names_say(own, other, twin):
    figures = latency_figures(Protocol(rounds=8), kept(own, latency_control=twin.tolist()), kept(other))
    medians, others = np.median(own, axis=1), np.median(other, axis=1)
    ordered = np.sort(medians)
    assert figures["latency/median_ms"] == pytest.approx(np.median(medians))
    assert (figures["latency/median_low_ms"], figures["latency/median_high_ms"]) == (ordered[0], ordered[-1])
    assert figures["latency/min_ms"] == own.min()
    assert figures["latency/mean_ms"] == pytest.approx(own.mean())
    assert figures["latency/p90_ms"] == pytest.approx(np.quantile(own, 0.9))
    assert figures["latency/process_ms"] == 0.5
    assert figures["latency/ratio"] == pytest.approx(np.median(medians / others))
    assert figures["latency/ratio_low"] == pytest.approx((medians / others).min())
    assert figures["control/latency_ratio"] == pytest.approx(np.median(np.median(twin, axis=1) / medians))


def test_without_a_reference_there_is_no_ratio_and_without_samples_nothing():
    figures = latency_figures(Protocol(), kept(np.ones((8, 2))), {})
    times_alone = {
        f"latency/{name}_ms" for name in ("median", "median_low", "median_high", "min", "p90", "mean", "process")
    }
    assert set(figures) == times_alone
    assert latency_figures(Protocol(), {}, kept(np.ones((8, 2)))) == {}


@given(times, st.integers(0, 3))
def test_trimming_leaves_the_middle_of_every_round(rounds, trim):
    left = [sorted(burst)[trim : 7 - trim] for burst in rounds.tolist()]
    figures = trimmed_figures(rounds, trim)
    assert figures["latency/low_ms"] == min(min(burst) for burst in left)
    assert figures["latency/average_ms"] == pytest.approx(np.mean(left))
