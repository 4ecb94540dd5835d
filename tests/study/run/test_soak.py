"""A worker holds no more after many cells than after the first ones; `tests/benchmarks/bench_soak.py` runs 300."""

import pytest
from soak import growth, overheads, samples, work
from study_proof import in_child

CELLS = 80


@pytest.mark.slow
@pytest.mark.long
def test_a_soak_stays_flat(workspace, tmp_path):
    assert in_child(work, workspace, tmp_path / "data", CELLS, False) == 0
    lines = samples(tmp_path / "data")
    assert len(lines) == CELLS
    held = growth(lines)
    for name in ("handles", "threads"):
        assert held[name][0] == held[name][1]
    assert held["mb"][1] < held["mb"][0] + 20
    assert held["overhead"][1] < 1.5 * held["overhead"][0]
    assert sum(overheads(lines)) / (CELLS - 1) < 0.3  # CPU seconds of the engine per cell
