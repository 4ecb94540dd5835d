"""The trial by fire in short; `python tests/chaos.py --help` runs it at any length."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from chaos import run_trial


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", [11])
def test_nothing_is_lost_by_ten_faults(seed):
    lines = []
    assert run_trial(10, seed, commands=1, workers=3, say=lines.append) == [], "\n".join(lines)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("queue", ["sqlite", "postgresql"])
def test_nothing_is_lost_by_forty_faults(queue):
    lines = []
    assert run_trial(40, 7, queue=queue, say=lines.append) == [], "\n".join(lines)
